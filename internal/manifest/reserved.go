package manifest

import (
	"fmt"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// ranges looks up what is reserved for whom.
type ranges struct {
	registry *registry.Registry
	// own has the ranges of the namespaces that were asked for.
	own map[string][]registry.Range
}

func newRanges(r *registry.Registry) *ranges {
	return &ranges{registry: r, own: make(map[string][]registry.Range)}
}

func (r *ranges) of(namespace string) []registry.Range {
	own, known := r.own[namespace]
	if !known {
		own = r.registry.RangesFor(namespace)
		r.own[namespace] = own
	}
	return own
}

// reserved tells if a port does not belong to the object's namespace.
func (f *file) reserved(o *object, at value, key string, port uint16) {
	if f.ranges.registry == nil || !o.known {
		return
	}
	own := f.ranges.of(o.namespace)
	for _, candidate := range own {
		if candidate.Contains(port) {
			return
		}
	}
	want := "want one that is not reserved"
	if len(own) > 0 {
		want = "want one of " + list(own)
	}
	if other, found := f.ranges.registry.RangeOf(port); found {
		f.find(at, "%s %d of %s is reserved for team %q at %s:%d: %s", key, port, o, other.Team, registry.PrintablePath(other.File), other.Line, want)
	} else if len(own) > 0 {
		f.find(at, "%s %d of %s is outside of what is reserved for namespace %s at %s:%d: %s", key, port, o, shown(o.namespace), registry.PrintablePath(own[0].File), own[0].Line, want)
	}
}

// maxListed is how many ranges a finding lists.
const maxListed = 5

// list returns "30000-30999, 31500".
func list(ranges []registry.Range) string {
	var texts []string
	for i, r := range ranges {
		switch {
		case i == maxListed:
			return strings.Join(texts, ", ") + ", …"
		case r.First == r.Last:
			texts = append(texts, fmt.Sprint(r.First))
		default:
			texts = append(texts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return strings.Join(texts, ", ")
}
