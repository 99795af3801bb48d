package registry

import (
	"cmp"
	"slices"
)

// maxWork bounds the work that comparing the services of a port with each other takes, in steps of some 5 ns: well below a
// second, for which a scrape waits.
const maxWork = 1 << 26

// claim is a service's claim to a span of ports.
type claim struct {
	portSpan
	service *service
	// order is the service's place in the file.
	order int
}

// conflicts notes services that claim the same port so that one listener could be of both.
func (p *parser) conflicts() {
	var work int64
	for proto := range protocols {
		var claims []claim
		for order, s := range p.registry.services {
			for _, span := range s.ports {
				if s.protos[proto] {
					claims = append(claims, claim{span, s, order})
				}
			}
		}
		for later, other := range p.clashes(claims, &work, "want fewer services there, fewer and shorter globs, or hosts in full") {
			p.add(later.line, later.column, "%s %s: taken by service %s on line %d already: want another port, or a bind or hosts that have none in common",
				protoNames[proto], common(later.portSpan, other.portSpan), quoted(other.service.name), other.line)
		}
		if work > maxWork {
			return // told already
		}
	}
}

// overlaps notes ports that are reserved for more than one team. A team claims them as a service would that listens
// everywhere.
func (p *parser) overlaps() {
	var claims []claim
	teams := make(map[string]*service)
	for order, r := range p.registry.reserved {
		if r.team == "" {
			continue
		}
		if teams[r.team] == nil {
			teams[r.team] = &service{name: r.team, bind: anywhere}
		}
		for _, span := range r.ports {
			claims = append(claims, claim{span, teams[r.team], order})
		}
	}
	var work int64
	for later, other := range p.clashes(claims, &work, "want each port with one team") {
		p.add(later.line, later.column, "%s: reserved for team %s on line %d already: want each port with one team",
			common(later.portSpan, other.portSpan), quoted(other.service.name), other.line)
	}
}

// clashes returns the claims that are at odds with one of an earlier service, with the first such one in the file. If
// that is too much work, it notes so, and what is wanted.
func (p *parser) clashes(claims []claim, work *int64, want string) map[claim]claim {
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.order, b.order))
	})
	s := sweep{claims: claims, byHost: make(map[string][]int), earlier: make(map[claim]claim), work: work}
	if at := s.run(); at >= 0 {
		p.add(claims[at].line, claims[at].column, "%s: comparing all who claim the same takes too long: %s", claims[at], want)
	}
	return s.earlier
}

func common(a, b portSpan) portSpan {
	return portSpan{first: max(a.first, b.first), last: min(a.last, b.last)}
}

// sweep compares the claims of one protocol, in the order of their first ports, with those before them that reach as far. A
// claim for hosts that are named in full is compared only with those that name the same ones, and with globs.
type sweep struct {
	claims []claim
	// all are the claims seen; globs those that have a glob or no hosts; byHost the others, by host. Those that do not
	// reach the present port are taken out.
	all, globs []int
	byHost     map[string][]int
	// earlier is the first claim in the file that a later one is at odds with.
	earlier map[claim]claim
	work    *int64
}

// run returns the claim at which it became too much work, or -1.
func (s *sweep) run() int {
	for i, c := range s.claims {
		literal := len(c.service.hosts) > 0
		for _, g := range c.service.hosts {
			literal = literal && g.literal
		}
		if literal {
			s.globs = s.compare(i, s.globs)
			for _, g := range c.service.hosts {
				if *s.work > maxWork {
					break
				}
				s.byHost[g.head] = append(s.compare(i, s.byHost[g.head]), i)
			}
		} else {
			s.all = s.compare(i, s.all)
			s.globs = append(s.globs, i)
		}
		s.all = append(s.all, i)
		if *s.work > maxWork {
			return i
		}
	}
	return -1
}

// compare compares a claim with those in list, and returns the part of the list that reaches as far.
func (s *sweep) compare(i int, list []int) []int {
	c := s.claims[i]
	kept := list[:0]
	for at, j := range list {
		other := s.claims[j]
		if other.last < c.first {
			continue
		}
		kept = append(kept, j)
		if other.service == c.service {
			*s.work++
			continue
		}
		met := s.meet(c.service, other.service)
		if *s.work > maxWork {
			return append(kept, list[at+1:]...)
		}
		if !met {
			continue
		}
		later, earlier := c, other
		if c.order < other.order {
			later, earlier = other, c
		}
		if known, ok := s.earlier[later]; !ok || earlier.order < known.order {
			s.earlier[later] = earlier
		}
	}
	return kept
}

// pairWork is what comparing two prefixes takes, or two globs that begin or end in different ways.
const pairWork = 4

// meet tells whether one listener could be of both services. If that is too much work, it has no answer.
func (s *sweep) meet(a, b *service) bool {
	if *s.work += pairWork * (1 + int64(len(a.bind))*int64(len(b.bind))); *s.work > maxWork || !overlap(a.bind, b.bind) {
		return false
	}
	if len(a.hosts) == 0 || len(b.hosts) == 0 {
		return true // on every host
	}
	for i := range a.hosts {
		for j := range b.hosts {
			if *s.work += a.hosts[i].work(&b.hosts[j]); *s.work > maxWork {
				return false
			}
			if a.hosts[i].meets(&b.hosts[j]) {
				return true
			}
		}
	}
	return false
}
