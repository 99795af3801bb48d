package registry

import (
	"cmp"
	"slices"
	"strings"
)

// Table is what a registry declares for one host, ready to be looked up. It is never changed after it was made, and may be
// shared.
type Table struct {
	registry *Registry
	entries  []entry
	// at has, for each port of a protocol, the index in lists of the entries that claim it, in the order of the file; the
	// first list is empty. A list is a part of claimants.
	at        [protocols][1 << 16]uint16
	lists     [protocols][]part
	claimants [protocols][]*entry
	rows      []Service
}

// part is where a part of a slice begins and ends.
type part struct{ start, end int }

// entry is a service of the table's host.
type entry struct {
	*service
	order int
	// required are the ports that must listen, sorted; firstRow is where they begin in Table.rows, by protocol.
	required []uint16
	firstRow [protocols]int
}

// Service is a port that a required service must listen on.
type Service struct {
	Name, Purpose string
	Proto         string
	Port          uint16
}

// For returns what the registry declares for a host. Host names are compared without regard to case.
func (r *Registry) For(host string) *Table {
	host = strings.ToLower(host)
	t := &Table{registry: r}
	for _, s := range r.services {
		if s.isFor(host) {
			t.entries = append(t.entries, entry{service: s, order: len(t.entries)})
		}
	}
	total := 0
	for _, e := range t.entries {
		total += e.mustListenOn()
	}
	ports := make([]uint16, 0, total)
	for i := range t.entries {
		ports = t.require(&t.entries[i], ports)
	}
	for proto := range protocols {
		t.index(proto)
	}
	return t
}

// mustListenOn returns how many ports a service must listen on.
func (s *service) mustListenOn() int {
	if !s.required {
		return 0
	}
	total := 0
	for _, span := range s.ports {
		total += span.size()
	}
	return total
}

// require adds the rows of an entry. Its ports are appended to those of others, which saves memory of its own.
func (t *Table) require(e *entry, ports []uint16) []uint16 {
	if !e.service.required {
		return ports
	}
	start := len(ports)
	for _, span := range e.ports {
		for port := int(span.first); port <= int(span.last); port++ {
			ports = append(ports, uint16(port))
		}
	}
	e.required = ports[start:]
	for proto, declared := range e.protos {
		if !declared {
			continue
		}
		e.firstRow[proto] = len(t.rows)
		for _, port := range e.required {
			t.rows = append(t.rows, Service{Name: e.name, Purpose: e.purpose, Proto: protoNames[proto], Port: port})
		}
	}
	return ports
}

// edge is where an entry's claim begins or, one port behind its last, ends.
type edge struct {
	port, entry int
	begins      bool
}

// index makes the lists of one protocol. Ports between two edges share theirs, so that a service with a wide range costs no
// more than one with a single port.
func (t *Table) index(proto int) {
	var edges []edge
	for i, e := range t.entries {
		for _, span := range e.ports {
			if e.protos[proto] {
				edges = append(edges, edge{int(span.first), i, true}, edge{int(span.last) + 1, i, false})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.port, b.port) })
	lists := []part{{}}
	var claimants []*entry
	claimed := make(map[int]int) // how often an entry does at this edge
	var active []*entry
	for at := 0; at < len(edges); {
		port := edges[at].port
		for ; at < len(edges) && edges[at].port == port; at++ {
			if edges[at].begins {
				claimed[edges[at].entry]++
			} else {
				claimed[edges[at].entry]--
			}
		}
		for i, by := range claimed {
			n, _ := slices.BinarySearchFunc(active, i, func(e *entry, i int) int { return cmp.Compare(e.order, i) })
			switch {
			case by > 0:
				active = slices.Insert(active, n, &t.entries[i])
			case by < 0:
				active = slices.Delete(active, n, n+1)
			}
		}
		clear(claimed)
		if len(active) == 0 {
			continue
		}
		for next := port; next < edges[at].port; next++ {
			t.at[proto][next] = uint16(len(lists))
		}
		start := len(claimants)
		claimants = append(claimants, active...)
		lists = append(lists, part{start, len(claimants)})
	}
	t.lists[proto], t.claimants[proto] = lists, claimants
}

// claims returns the entries that claim a port, in the order of the file.
func (t *Table) claims(proto int, port uint16) []*entry {
	if proto < 0 {
		return nil
	}
	of := t.lists[proto][t.at[proto][port]]
	return t.claimants[proto][of.start:of.end]
}

// Declares tells whether a service of this host declares the port.
func (t *Table) Declares(proto string, port uint16) bool {
	return len(t.claims(protoOf(proto), port)) > 0
}

// ServiceCount returns how many services of the file are for the table's host.
func (t *Table) ServiceCount() int { return len(t.entries) }

// Services returns the ports that must listen: one row for each port and protocol of each required service, in the order of
// the file. It must not be changed.
func (t *Table) Services() []Service { return t.rows }
