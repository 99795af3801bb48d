package registry

import (
	"cmp"
	"slices"
)

// maxComparisons bounds the work that comparing the services of a port with each other takes: about a second.
const maxComparisons = 1 << 24

// claim is a service's claim to a span of ports.
type claim struct {
	portSpan
	service *service
	// order is the service's place in the file.
	order int
}

// conflicts notes services that claim the same port so that one listener could be of both.
func (p *parser) conflicts() {
	work := 0
	for proto := range protocols {
		var claims []claim
		for order, s := range p.registry.services {
			for _, span := range s.ports {
				if s.protos[proto] {
					claims = append(claims, claim{span, s, order})
				}
			}
		}
		for later, other := range p.clashes(claims, &work) {
			p.add(later.line, later.column, "%s %s: taken by service %s on line %d already: want another port, or a bind or hosts that have none in common",
				protoNames[proto], common(later.portSpan, other.portSpan), quoted(other.service.name), other.line)
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
	work := 0
	for later, other := range p.clashes(claims, &work) {
		p.add(later.line, later.column, "%s: reserved for team %s on line %d already: want each port with one team",
			common(later.portSpan, other.portSpan), quoted(other.service.name), other.line)
	}
}

// clashes returns the claims that are at odds with one of an earlier service, with the first such one in the file.
func (p *parser) clashes(claims []claim, work *int) map[claim]claim {
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.order, b.order))
	})
	s := sweep{claims: claims, byHost: make(map[string][]int), earlier: make(map[claim]claim), work: work}
	if at := s.run(); at >= 0 {
		p.add(claims[at].line, claims[at].column, "too many others have %s to compare them all: want fewer, or hosts in full in place of globs", claims[at])
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
	work    *int
}

// run returns the claim at which it became too much work, or -1.
func (s *sweep) run() int {
	for i, c := range s.claims {
		literal := len(c.service.hosts) > 0
		for _, g := range c.service.hosts {
			literal = literal && g.isLiteral()
		}
		if literal {
			s.globs = s.compare(i, s.globs)
			for _, g := range c.service.hosts {
				s.byHost[g.literal] = append(s.compare(i, s.byHost[g.literal]), i)
			}
		} else {
			s.all = s.compare(i, s.all)
			s.globs = append(s.globs, i)
		}
		s.all = append(s.all, i)
		if *s.work > maxComparisons {
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
		if *s.work += cost(c.service, other.service); *s.work > maxComparisons {
			return append(kept, list[at+1:]...)
		}
		if !overlap(c.service.bind, other.service.bind) || !hostsMeet(c.service.hosts, other.service.hosts) {
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

// cost is what comparing two services takes at most, in comparisons of two prefixes.
func cost(a, b *service) int {
	return 1 + len(a.bind)*len(b.bind) + len(a.hosts)*len(b.hosts)
}
