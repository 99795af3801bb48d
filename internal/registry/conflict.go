package registry

import (
	"cmp"
	"iter"
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
	var found report
	services, where := r.servicesFor(host), " for host "+wording.Quoted(host)
	found.names(services, where)
	found.conflicts(services, where, func(*service, *service, *int) bool { return true })
	return found.err()
}

// names notes services that have the name of an earlier one, if they have a host in common.
func (r *report) names(services []*service, where string) {
	named := make(map[string]*byHosts[*service])
	work := 0
	for _, s := range services {
		if s.name == "" {
			continue
		}
		if named[s.name] == nil {
			named[s.name] = new(byHosts[*service])
		}
		for earlier := range named[s.name].near(s.hosts) {
			if s.hosts.meet(earlier.hosts, &work) || work > maxWork {
				r.addAt(s.place, "duplicate service %s: already %s%s: want another name, or hosts that do not overlap",
					wording.Quoted(s.name), earlier.from(s.place), where)
				break
			}
		}
		named[s.name].add(s.hosts, s)
	}
}

// conflicts notes services that claim the same port so that one listener could belong to both, if shared reports that they have a
// host in common. where is added to the faults.
func (r *report) conflicts(services []*service, where string, shared func(a, b *service, work *int) bool) {
	work := 0
	for proto := range protocols {
		// A service with any port takes no port from those that name theirs.
		for _, anyPort := range []bool{false, true} {
			var claims []claim
			for order, s := range services {
				for _, p := range s.ports {
					if s.protos[proto] && s.anyPort == anyPort {
						claims = append(claims, claim{p, order})
					}
				}
			}
			hosts := func(order int) hosts { return services[order].hosts }
			for later, earlier := range firstConflicts(claims, hosts, &work, func(a, b *claim) bool {
				one, other := services[a.order], services[b.order]
				work += one.bind.size()*other.bind.size() + len(one.processes)*len(other.processes) + len(one.units)*len(other.units)
				return shared(one, other, &work) && one.bind.overlaps(&other.bind) && !toldApart(one, other)
			}) {
				other := services[earlier.order]
				r.addAt(later.place, "%s %s: taken by service %s %s%s: want another port, or process, unit, bind or hosts that tell them apart",
					protoNames[proto], later.common(earlier), wording.Quoted(other.name), other.from(later.place), where)
			}
			if work > maxWork {
				r.addAt(claims[0].place, "too many services on the same ports to compare them: want fewer services, hosts or addresses there")
				return
			}
		}
	}
}

// toldApart reports whether no holder belongs to both services, as far as that shows without solving globs.
func toldApart(a, b *service) bool {
	switch {
	case len(a.processes) > 0 && len(b.processes) > 0 && disjoint(a.processes, b.processes),
		len(a.units) > 0 && len(b.units) > 0 && disjoint(a.units, b.units):
		return true
	case len(a.processes) > 0 && len(a.units) == 0:
		return len(b.processes) == 0 && len(b.units) > 0
	case len(a.units) > 0 && len(a.processes) == 0:
		return len(b.units) == 0 && len(b.processes) > 0
	}
	return false
}

// disjoint reports whether no name of one list is, or is matched by, one of the other.
func disjoint(a, b []pattern) bool {
	return !slices.ContainsFunc(a, func(p pattern) bool {
		return slices.ContainsFunc(b, func(q pattern) bool { return p.matches(q.text) || q.matches(p.text) })
	})
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
	hosts := func(order int) hosts { return reserved[order].hosts }
	for later, earlier := range firstConflicts(claims, hosts, &work, func(a, b *claim) bool {
		one, other := reserved[a.order], reserved[b.order]
		return one.team != other.team && one.team != "" && other.team != "" && one.hosts.meet(other.hosts, &work)
	}) {
		other := reserved[earlier.order]
		r.addAt(later.place, "%s: reserved for team %s %s: want each port with one team",
			later.common(earlier), wording.Quoted(other.team), other.from(later.place))
	}
	if work > maxWork {
		r.addAt(claims[0].place, "too many ranges reserve the same ports to compare them: want each port with one team")
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
// each. It sorts the claims by port. hosts returns the hosts of an entry. It returns nothing when work exceeds maxWork.
func firstConflicts(claims []claim, hosts func(order int) hosts, work *int, conflict func(a, b *claim) bool) map[*claim]*claim {
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.order, b.order))
	})
	firsts := make(map[*claim]*claim)
	var before byHosts[*claim] // the claims so far that reach the present port
	for i := range claims {
		c := &claims[i]
		before.remove(func(b *claim) bool { return b.Last < c.First })
		for b := range before.near(hosts(c.order)) {
			if b.Last < c.First {
				continue
			}
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
		before.add(hosts(c.order), c)
	}
	return firsts
}

// byHosts are entries by their hosts. Most name theirs, so few have to be compared.
type byHosts[T any] struct {
	all, globs []T // globs are those that do not only name hosts
	named      map[string][]T
}

// add adds an entry.
func (b *byHosts[T]) add(h hosts, entry T) {
	b.all = append(b.all, entry)
	if !h.named() {
		b.globs = append(b.globs, entry)
		return
	}
	if b.named == nil {
		b.named = make(map[string][]T)
	}
	for _, g := range h.include {
		b.named[g.pattern] = append(b.named[g.pattern], entry)
	}
}

// remove removes entries, except from named.
func (b *byHosts[T]) remove(is func(T) bool) {
	b.all, b.globs = slices.DeleteFunc(b.all, is), slices.DeleteFunc(b.globs, is)
}

// near returns the entries that may have a host in common with h, some of them more than once.
func (b *byHosts[T]) near(h hosts) iter.Seq[T] {
	lists := [][]T{b.all}
	if h.named() {
		lists[0] = b.globs
		for _, g := range h.include {
			lists = append(lists, b.named[g.pattern])
		}
	}
	return func(yield func(T) bool) {
		for _, list := range lists {
			for _, entry := range list {
				if !yield(entry) {
					return
				}
			}
		}
	}
}
