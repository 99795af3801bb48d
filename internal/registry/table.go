//go:build linux

package registry

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// Table is what a registry declares for one host. It never changes, and may be shared.
type Table struct {
	services []*service
	// The entries by port: those that name a port, those with any, and those with a range, which is in the list of each 256 ports that
	// it reaches.
	byPort  map[portKey][]portEntry
	anyPort [protocols][]portEntry
	ranges  [protocols][256][]*portEntry
	// rows are what must listen, in the order of the file: each port and protocol of a required service, or each protocol of one of
	// whose ports one must listen.
	rows []Service

	forbidden *bans
	reserved  []Range // lowest port first
	leasable  []Leasable
	teams     []TeamUse

	elsewhere, misnamed []string
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

// byHolder reports whether only the holder of a listener shows that the service declares it: ports that the service chooses itself,
// or a range, which would be a free pass for every program otherwise.
func (p portEntry) byHolder() bool { return p.First != p.Last && p.toldByHolder() }

// rowOf returns the row of a port that is required.
func (p portEntry) rowOf(port uint16) int {
	if p.required == onePort {
		return p.row
	}
	return p.row + int(port-p.First)
}

// Service is one port of a required service, for one protocol: a service with two ports is two of them.
type Service struct {
	Name, Purpose, Owner string
	Proto                string
	// Port is the port, or the first one if OnePort is set.
	Port uint16
	// Ports are the port, or the ports of which one must listen, such as "8080,8081".
	Ports string
	// OnePort is set if one of Ports must listen, and OneHost if it must listen on one of the service's hosts, which need not be this
	// one.
	OnePort, OneHost bool
}

// Required returns what must listen, as the file says it.
func (s *Service) Required() string {
	switch {
	case s.OnePort:
		return "one-port"
	case s.OneHost:
		return "one-host"
	}
	return "true"
}

// ServiceInfo is what a registry says of a service, for people.
type ServiceInfo struct {
	Name, Purpose, Owner string
	// OneHost is set if it must listen on one of its hosts.
	OneHost bool
}

// For returns what the registry declares for a host. Host names are compared without regard to case.
func (r *Registry) For(host string) *Table {
	host = strings.ToLower(host)
	reserved := slices.DeleteFunc(slices.Clone(r.reserved), func(r *reservation) bool { return !r.hosts.match(host) })
	t := &Table{
		services:  r.servicesFor(host),
		byPort:    make(map[portKey][]portEntry),
		forbidden: bansOf(slices.DeleteFunc(slices.Clone(r.forbidden), func(f *prohibition) bool { return !f.hosts.match(host) })),
		reserved:  rangesOf(reserved),
		teams:     teamsOf(reserved),
	}
	t.leasable = leasableOf(t.reserved)
	misnamed := func(h hosts, entry string) {
		if h.misname(host) {
			t.misnamed = append(t.misnamed, entry)
		}
	}
	for _, s := range r.services {
		if !s.hosts.match(host) {
			t.elsewhere = append(t.elsewhere, s.name)
		}
		misnamed(s.hosts, s.name)
	}
	for _, f := range r.forbidden {
		for _, p := range f.ports {
			misnamed(f.hosts, "forbidden "+p.String())
		}
	}
	for _, res := range r.reserved {
		misnamed(res.hosts, "what is reserved for "+res.team)
	}
	for order, s := range t.services {
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
	row := func(port uint16, all string) {
		t.rows = append(t.rows, Service{
			Name: e.name, Purpose: e.purpose, Owner: e.owner, Proto: protoNames[proto], Port: port, Ports: all,
			OnePort: e.required == onePort, OneHost: e.required == oneHost,
		})
	}
	first := len(t.rows)
	if e.required == onePort {
		row(e.ports[0].First, e.portList())
	}
	for _, p := range e.ports {
		at := portEntry{p.Range, e, len(t.rows)}
		if e.required == onePort {
			at.row = first
		}
		switch {
		case e.anyPort:
			t.anyPort[proto] = append(t.anyPort[proto], at)
		case p.First == p.Last:
			key := portKey{proto, p.First}
			t.byPort[key] = append(t.byPort[key], at)
		default:
			for high := p.First >> 8; high <= p.Last>>8; high++ {
				t.ranges[proto][high] = append(t.ranges[proto][high], &at)
			}
		}
		for port := int(p.First); (e.required == everyPort || e.required == oneHost) && port <= int(p.Last); port++ {
			row(uint16(port), strconv.Itoa(port))
		}
	}
}

// portList returns the ports of the service, such as "8080,8081", or the first of many.
func (s *service) portList() string {
	items := make([]string, len(s.ports))
	for i, p := range s.ports {
		items[i] = p.Range.String()
	}
	return shortened(items, ",")
}

// claims returns the entries that declare a port, in no particular order.
func (t *Table) claims(proto int, port uint16) iter.Seq[portEntry] {
	return func(yield func(portEntry) bool) {
		if proto < 0 {
			return
		}
		for _, at := range t.byPort[portKey{proto, port}] {
			if !yield(at) {
				return
			}
		}
		for _, at := range t.ranges[proto][port>>8] {
			if at.Contains(port) && !yield(*at) {
				return
			}
		}
		for _, at := range t.anyPort[proto] {
			if !yield(at) {
				return
			}
		}
	}
}

// Required returns what must listen, in the order of the file.
func (t *Table) Required() []Service { return t.rows }

// Expects reports whether the registry names the port for this host, whoever holds it: a service declares it, or it is forbidden.
func (t *Table) Expects(proto string, port uint16) bool {
	for at := range t.claims(protoOf(proto), port) {
		if !at.byHolder() {
			return true
		}
	}
	for range t.forbidden.of(protoOf(proto), port) {
		return true
	}
	return false
}

// CountElsewhere returns how many services of the registry are for other hosts.
func (t *Table) CountElsewhere() int { return len(t.elsewhere) }

// ServiceCount returns how many services are for the table's host.
func (t *Table) ServiceCount() int { return len(t.services) }

// Elsewhere returns the names of the services that are only for other hosts. It returns "" if there are none, and not all if there are
// many.
func (t *Table) Elsewhere() string { return shortened(t.elsewhere, ", ") }

// Misnamed returns the entries of the registry that would be for the table's host, or not for it, if its name had no domain, or had one.
func (t *Table) Misnamed() string { return shortened(t.misnamed, ", ") }

// Services returns what the registry says of the services for the table's host, in the order of the file.
func (t *Table) Services() []ServiceInfo {
	all := make([]ServiceInfo, len(t.services))
	for i, s := range t.services {
		all[i] = ServiceInfo{s.name, s.purpose, s.owner, s.required == oneHost}
	}
	return all
}
