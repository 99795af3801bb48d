//go:build linux

package manifest

import (
	"cmp"
	"fmt"
	"net/netip"
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
	if known || r.registry == nil {
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

// nodePorts are those from which the API server chooses, unless it is configured otherwise.
var nodePorts = ports.Set{{First: 30000, Last: 32767}}

// inRange finds whether a port is reserved for others, or is not among those for its namespace.
func (c *checker) inRange(u *use) {
	if placeholderName(u.namespace) {
		return
	}
	own := c.ranges.of(u.namespace)
	from := "reserved for namespace " + wording.Name(u.namespace) + " at " + own.place
	if len(own.ports) == 0 {
		own.ports, own.place = c.namespaces.allowed(u.namespace)
		from = "in the annotation " + rangeAnnotation + " of its Namespace at " + own.place
	}
	want := "want a port that is not reserved"
	if len(own.ports) > 0 {
		want = "want one of " + list(own.ports)
	}
	if u.port == 0 {
		if outside := nodePorts.Without(own.ports.Merged()); len(own.ports) > 0 && len(outside) > 0 {
			c.report.find(RuleRange, u.file, u.at, "%s of %s is not set, so the API server chooses one, which need not be %s: %s", u.key, u.owner, from, want)
		}
		return
	}
	if own.ports.Contains(u.port) {
		return
	}
	if c.ranges.registry != nil && u.key != externalPort {
		if other, found := c.ranges.registry.RangeOf(u.port); found {
			c.report.find(RuleRange, u.file, u.at, "%s %d of %s is reserved for team %q at %s: %s", u.key, u.port, u.owner, other.Team, placeOf(other), want)
			return
		}
	}
	if len(own.ports) > 0 {
		c.report.find(RuleRange, u.file, u.at, "%s %d of %s is not among the ports %s: %s", u.key, u.port, u.owner, from, want)
	}
}

// registered finds whether a nodePort is the port of a service that the registry declares for hosts, and that is not the same
// one by its name. A service for all nodePorts is no other.
func (c *checker) registered(u *use) {
	if c.ranges.registry == nil || u.pod != nil || !u.onNode() || u.port == 0 {
		return
	}
	for _, s := range c.ranges.registry.DeclaredBy(strings.ToLower(u.protocol), u.port) {
		whole := s.First <= nodePorts[0].First && s.Last >= nodePorts[0].Last
		if whole || s.Name == u.name || s.Name == u.namespace+"-"+u.name || s.Name == u.namespace+"/"+u.name {
			continue
		}
		c.report.find(RuleService, u.file, u.at, "%s %s of %s is the port of service %q at %s:%d: want another port",
			u.key, u, u.owner, s.Name, wording.Path(s.File), s.Line)
		return
	}
}

// forbidden finds whether a port of a node is one that the registry forbids on every host. Host networking does not say at which
// address a pod listens.
func (c *checker) forbidden(u *use) {
	if c.ranges.registry == nil || !u.onNode() || u.port == 0 || u.protocol == "" {
		return
	}
	addr, err := netip.ParseAddr(u.address)
	if err != nil && u.key != containerPort {
		addr = netip.IPv6Unspecified()
	}
	if f, is := c.ranges.registry.ForbiddenAt(strings.ToLower(u.protocol), u.port, addr); is {
		c.report.find(RuleForbidden, u.file, u.at, "%s %s of %s is forbidden at %s:%d (%s): want another port",
			u.key, u, u.owner, wording.Path(f.File), f.Line, wording.Printable(f.Reason))
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
