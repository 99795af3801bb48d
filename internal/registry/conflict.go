package registry

import (
	"cmp"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// maxWork limits how long services are compared with each other. A unit takes a few nanoseconds: the limit is well below a
// second, and thousands of services may share a port.
const maxWork = 1 << 27

// conflictsOn returns the conflicts between the services of a host, as Faults.
func (r *Registry) conflictsOn(host string) error {
	host = strings.ToLower(host)
	found := report{file: r.file}
	found.conflicts(r.servicesFor(host), " for host "+wording.Quoted(host), func(*service, *service, *int) bool { return true })
	return found.err()
}

// conflicts notes services that claim the same port so that one listener could belong to both, if shared reports that they have a
// host in common. where is added to the faults.
func (r *report) conflicts(services []*service, where string, shared func(a, b *service, work *int) bool) {
	work := 0
	for proto := range protocols {
		var claims []claim
		for order, s := range services {
			for _, p := range s.ports {
				if s.protos[proto] {
					claims = append(claims, claim{p, order})
				}
			}
		}
		for later, earlier := range firstConflicts(claims, &work, func(a, b *claim) bool {
			one, other := services[a.order], services[b.order]
			if !shared(one, other, &work) {
				return false
			}
			work += one.bind.size() * other.bind.size()
			return one.bind.overlaps(&other.bind)
		}) {
			r.add(later.line, later.column, "%s %s: taken by service %s on line %d%s: want another port, or a bind or hosts that do not overlap",
				protoNames[proto], later.common(earlier), wording.Quoted(services[earlier.order].name), earlier.line, where)
		}
		if work > maxWork {
			r.add(claims[0].line, claims[0].column, "too many services on the same ports to compare them: want fewer services, hosts or addresses there")
			return
		}
	}
}

// shareHost reports whether two services have a host in common: if one of them is for every host, if both have the same glob, or if
// one names a host that the other matches. Two different globs can have a host in common too, such as "web-*" and "*-db":
// [Registry.conflictsOn] finds that on such a host.
func shareHost(a, b *service, work *int) bool {
	if len(a.hosts) == 0 || len(b.hosts) == 0 {
		return true
	}
	for _, g := range a.hosts {
		for _, h := range b.hosts {
			if *work++; *work > maxWork {
				return false
			}
			if g == h {
				return true
			}
			if g.name != h.name {
				*work += len(g.pattern) * len(h.pattern)
				if g.name && h.matches(g.pattern) || h.name && g.matches(h.pattern) {
					return true
				}
			}
		}
	}
	return false
}

// overlaps notes ports that are reserved for more than one team.
func (r *report) overlaps(reserved []*reservation) {
	var claims []claim
	for order, res := range reserved {
		for _, p := range res.ports {
			claims = append(claims, claim{p, order})
		}
	}
	work := 0
	for later, earlier := range firstConflicts(claims, &work, func(a, b *claim) bool {
		one, other := reserved[a.order].team, reserved[b.order].team
		return one != other && one != "" && other != ""
	}) {
		r.add(later.line, later.column, "%s: reserved for team %s on line %d: want each port with one team",
			later.common(earlier), wording.Quoted(reserved[earlier.order].team), earlier.line)
	}
	if work > maxWork {
		r.add(claims[0].line, claims[0].column, "too many ranges reserve the same ports to compare them: want each port with one team")
	}
}

// claim is a range of ports that an entry of the file claims, with the place of the entry in its list.
type claim struct {
	portRange
	order int
}

// common returns the ports that are in both claims.
func (c *claim) common(o *claim) portRange {
	return portRange{Range: ports.Range{First: max(c.First, o.First), Last: min(c.Last, o.Last)}}
}

// firstConflicts returns the claims that conflict with an earlier entry's claim to the same ports, and the first such claim of
// each. It sorts the claims by port. It returns nothing when work exceeds maxWork.
func firstConflicts(claims []claim, work *int, conflict func(a, b *claim) bool) map[*claim]*claim {
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.order, b.order))
	})
	firsts := make(map[*claim]*claim)
	var before []*claim // the claims so far that reach the present port
	for i := range claims {
		c := &claims[i]
		before = slices.DeleteFunc(before, func(b *claim) bool { return b.Last < c.First })
		for _, b := range before {
			if *work++; *work > maxWork {
				return nil
			}
			if !conflict(c, b) {
				continue
			}
			later, earlier := c, b
			if c.order < b.order {
				later, earlier = b, c
			}
			if first := firsts[later]; first == nil || earlier.order < first.order {
				firsts[later] = earlier
			}
		}
		before = append(before, c)
	}
	return firsts
}
