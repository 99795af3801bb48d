package manifest

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// ranges looks up what a registry reserves for namespaces.
type ranges struct {
	// registry is nil if ranges are not checked.
	registry    *registry.Registry
	byNamespace map[string]reservation
}

// reservation is what is reserved for a namespace.
type reservation struct {
	ports ports.Set
	// place is the file and line of the first of its ranges.
	place string
}

func (r *ranges) of(namespace string) reservation {
	reserved, known := r.byNamespace[namespace]
	if known {
		return reserved
	}
	for _, its := range r.registry.Ranges() {
		if its.AllowsNamespace(namespace) {
			reserved.place = cmp.Or(reserved.place, placeOf(its))
			reserved.ports = append(reserved.ports, its.Range)
		}
	}
	r.byNamespace[namespace] = reserved
	return reserved
}

func placeOf(r registry.Range) string {
	return fmt.Sprintf("%s:%d", wording.Path(r.File), r.Line)
}

// check finds whether a port is reserved for others, or is not among those reserved for its namespace.
func (r *ranges) check(to *report, o *owner, at value, key string, port uint16) {
	if r.registry == nil || filledIn(o.namespace) {
		return
	}
	own := r.of(o.namespace)
	if own.ports.Contains(port) {
		return
	}
	want := "want a port that is not reserved"
	if len(own.ports) > 0 {
		want = "want one of " + list(own.ports)
	}
	if other, found := r.registry.RangeOf(port); found {
		to.find(at.place, "%s %d of %s is reserved for team %q at %s: %s", key, port, o, other.Team, placeOf(other), want)
	} else if len(own.ports) > 0 {
		to.find(at.place, "%s %d of %s is not among the ports reserved for namespace %s at %s: %s",
			key, port, o, wording.Name(o.namespace), own.place, want)
	}
}

// list returns the start of a list of ports, such as "30000-30999, 31500".
func list(set ports.Set) string {
	const longest = 5
	more := ""
	if len(set) > longest {
		set, more = set[:longest], ", …"
	}
	return strings.ReplaceAll(set.String(), ",", ", ") + more
}
