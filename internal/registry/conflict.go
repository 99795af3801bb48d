//go:build linux

package registry

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// maxWork limits how long services are compared with each other, to about half a second. Thousands of services may share a port.
const maxWork = 1 << 26

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
	firsts := make(map[string]int, len(services))
	again := make(map[string]byHosts) // the services of each name that there is twice
	work := 0
	for order, s := range services {
		first, known := firsts[s.name]
		if !known {
			firsts[s.name] = order
		}
		if !known || s.name == "" {
			continue
		}
		if again[s.name] == nil {
			again[s.name] = make(byHosts)
			again[s.name].add(services[first].hosts, first)
		}
		for before := range again[s.name].near(s.hosts, func(int) bool { return false }) {
			if earlier := services[before]; s.hosts.meet(earlier.hosts, &work) {
				r.addAt(s.place, "duplicate service %s: already %s%s: want another name, or hosts that do not overlap",
					wording.Quoted(s.name), earlier.from(s.place), where)
				break
			}
		}
		if work > maxWork {
			r.addAt(s.place, "too many services have the name %s to compare their hosts: want different names", wording.Quoted(s.name))
			return
		}
		again[s.name].add(s.hosts, order)
	}
}

// conflicts notes services that claim the same port so that one listener could belong to both, if shared reports that they have a
// host in common. where is added to the faults.
func (r *report) conflicts(services []*service, where string, shared func(a, b *service, work *int) bool) {
	work := 0
	for proto := range protocols {
		// A service with any port takes no port from those that name theirs.
		for _, anyPort := range []bool{false, true} {
			claims := make([]claim, 0, len(services))
			for order, s := range services {
				if s.protos[proto] && s.anyPort == anyPort {
					claims = addClaims(claims, s.ports, order)
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
		claims = addClaims(claims, res.ports, order)
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
	*portRange
	order int
}

// addClaims adds the claims of an entry.
func addClaims(claims []claim, ports []portRange, order int) []claim {
	for i := range ports {
		claims = append(claims, claim{&ports[i], order})
	}
	return claims
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
	for start, end := 0, 0; start < len(claims); start = end {
		// The claims from start to end have ports in common. Most ports have one claim, which is not compared.
		last := claims[start].Last
		for end = start + 1; end < len(claims) && claims[end].First <= last; end++ {
			last = max(last, claims[end].Last)
		}
		if end == start+1 {
			continue
		}
		before := make(byHosts)
		for i := start; i < end; i++ {
			c := &claims[i]
			for j := range before.near(hosts(c.order), func(j int) bool { return claims[j].Last < c.First }) {
				if *work++; *work > maxWork {
					return nil
				}
				if !conflict(c, &claims[j]) {
					continue
				}
				later, earlier := c, &claims[j]
				if later.order < earlier.order {
					later, earlier = earlier, later
				}
				if first := firsts[later]; first == nil || earlier.order < first.order {
					firsts[later] = earlier
				}
			}
			before.add(hosts(c.order), i)
		}
	}
	return firsts
}

// byHosts has the indexes of entries under each host that they name, so that few have to be compared. Those with globs are under anyGlob,
// and all are under anyHost too.
type byHosts map[string][]int

// No host has these names.
const anyGlob, anyHost = "?", "*"

// add adds the index of an entry with hosts h.
func (b byHosts) add(h hosts, index int) {
	b[anyHost] = append(b[anyHost], index)
	if !h.named() {
		b[anyGlob] = append(b[anyGlob], index)
		return
	}
	for _, g := range h.include {
		b[g.pattern] = append(b[g.pattern], index)
	}
}

// near returns the entries that may have a host in common with h, some of them more than once. It forgets those that are over.
func (b byHosts) near(h hosts, over func(index int) bool) iter.Seq[int] {
	keys := []string{anyHost}
	if h.named() {
		keys[0] = anyGlob
		for _, g := range h.include {
			keys = append(keys, g.pattern)
		}
	}
	return func(yield func(int) bool) {
		for _, key := range keys {
			b[key] = slices.DeleteFunc(b[key], over)
			for _, index := range b[key] {
				if !yield(index) {
					return
				}
			}
		}
	}
}
