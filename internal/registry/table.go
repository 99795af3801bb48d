package registry

import (
	"iter"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// Table is what a registry declares for one host. It never changes, and may be shared.
type Table struct {
	registry *Registry
	services int
	// The entries by port: those that name a port, and those with a range.
	byPort map[portKey][]portEntry
	ranges [protocols][]portEntry
	// rows are the ports that must listen: one for each port and protocol of each required service, in the order of the file.
	rows []Service
}

// entry is a service of the table's host, with its place among them.
type entry struct {
	*service
	order int
}

type portKey struct {
	proto int
	port  uint16
}

// portEntry is a port or a range of ports that an entry has.
type portEntry struct {
	ports.Range
	*entry
	row int // of the first port in Table.rows, if they are required
}

// Service is one port of a required service, for one protocol: a service with two ports is two of them.
type Service struct {
	Name, Purpose string
	Proto         string
	Port          uint16
}

// For returns what the registry declares for a host. Host names are compared without regard to case.
func (r *Registry) For(host string) *Table {
	services := r.servicesFor(strings.ToLower(host))
	t := &Table{registry: r, services: len(services), byPort: make(map[portKey][]portEntry)}
	for order, s := range services {
		e := &entry{service: s, order: order}
		for proto, declared := range s.protos {
			if declared {
				t.index(e, proto)
			}
		}
	}
	return t
}

// index adds an entry for one of its protocols.
func (t *Table) index(e *entry, proto int) {
	for _, p := range e.ports {
		at := portEntry{p.Range, e, len(t.rows)}
		if p.First == p.Last {
			key := portKey{proto, p.First}
			t.byPort[key] = append(t.byPort[key], at)
		} else {
			t.ranges[proto] = append(t.ranges[proto], at)
		}
		for port := int(p.First); e.required && port <= int(p.Last); port++ {
			t.rows = append(t.rows, Service{Name: e.name, Purpose: e.purpose, Proto: protoNames[proto], Port: uint16(port)})
		}
	}
}

// claims returns the entries that declare a port, in no particular order, each with the row of the port if it is required.
func (t *Table) claims(proto int, port uint16) iter.Seq2[*entry, int] {
	return func(yield func(*entry, int) bool) {
		if proto < 0 {
			return
		}
		for _, at := range t.byPort[portKey{proto, port}] {
			if !yield(at.entry, at.row) {
				return
			}
		}
		for _, at := range t.ranges[proto] {
			if at.Contains(port) && !yield(at.entry, at.row+int(port-at.First)) {
				return
			}
		}
	}
}

// Declares reports whether a service of this host declares the port.
func (t *Table) Declares(proto string, port uint16) bool {
	for range t.claims(protoOf(proto), port) {
		return true
	}
	return false
}

// ServiceCount returns how many services of the file are for the table's host.
func (t *Table) ServiceCount() int { return t.services }
