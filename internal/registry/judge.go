package registry

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// The reasons for a violation, of which a listener has at most one.
const (
	// ReasonUnregistered: no service declares the protocol and port, and the port is not reserved.
	ReasonUnregistered = "unregistered"
	// ReasonReserved: no service declares the protocol and port, and the port is reserved for a team.
	ReasonReserved = "reserved"
	// ReasonBind: it listens on a wider or another address than declared.
	ReasonBind = "bind"
	// ReasonProcess: its address is as declared, but one of its sockets is only held by other processes or units than declared.
	ReasonProcess = "process"
)

// Listener is a listening port, as far as it is known.
type Listener struct {
	// Proto is tcp or udp.
	Proto string
	Addr  netip.AddrPort
	// IPv6Only reports whether an IPv6 wildcard refuses IPv4, and Device is the interface that its sockets are bound to, or empty.
	// Both are known only if Detailed.
	IPv6Only bool
	Device   string
	Detailed bool
	// Loopback is set if the interface reaches only this host.
	Loopback bool
	// Sockets are the exact holders of each of its sockets. A socket without any is not judged: they are not known.
	Sockets [][]Holder
	// Own is set for a listener on the exporter's own port, which need not be declared.
	Own bool
}

// ip returns the address, without a zone and not IPv4-mapped.
func (l *Listener) ip() netip.Addr { return l.Addr.Addr().Unmap().WithZone("") }

// Verdict is the result of judging a listener.
type Verdict struct {
	// Reason is why the listener violates the registry. It is empty if it complies.
	Reason string
	// Service is the service that declares the listener or, for ReasonReserved, the team that its port is reserved for. That of the
	// exporter's own port is listen_exporter, unless the file declares it. It is empty if nothing declares the listener.
	Service string
	// Purpose is the purpose of the service, if the file has one.
	Purpose string
	// Declared is the part of the service that the listener violates, for a person: "10.0.0.0/8, loopback" for ReasonBind, which
	// may be shortened, and "process sshd or dropbear, unit ssh.service" for ReasonProcess. It is empty otherwise.
	Declared string
	// HolderUnchecked reports that the service says who holds the listener, and that the holders of a socket are not known.
	// DeviceUnchecked reports that the verdict depends on the interface, which is not known.
	HolderUnchecked, DeviceUnchecked bool
}

// Judge returns the verdict on a listener.
//
// A narrower address than declared complies: loopback is within private, and every IPv4 address within 0.0.0.0. A wildcard
// address is only within any and itself. So a listener on :: is wider than 0.0.0.0, whether it takes IPv4 or not.
//
// A socket is held as declared if the service declares one of its exact holders: whoever else has it open got it from that program.
func (t *Table) Judge(l Listener) Verdict {
	e, reason, unchecked := t.match(&l)
	switch {
	case e == nil && l.Own:
		return Verdict{Service: wording.Program}
	case e == nil:
		if reserved, ok := t.registry.RangeOf(l.Addr.Port()); ok {
			return Verdict{Reason: ReasonReserved, Service: reserved.Team}
		}
		return Verdict{Reason: ReasonUnregistered}
	}
	verdict := Verdict{Reason: reason, Service: e.name, Purpose: e.purpose, DeviceUnchecked: unchecked}
	switch reason {
	case "":
		unknown := func(holders []Holder) bool { return len(holders) == 0 }
		verdict.HolderUnchecked = len(e.heldBy) > 0 && (len(l.Sockets) == 0 || slices.ContainsFunc(l.Sockets, unknown))
	case ReasonBind:
		verdict.Declared = e.boundTo
	case ReasonProcess:
		verdict.Declared = strings.Join(e.heldBy, ", ")
	}
	return verdict
}

// match returns the entry by which a listener is judged, and why the listener violates it. It returns nil if no entry declares the
// port. If several do, the first one in the file that allows the address counts. If none does for certain, it is the first one that
// may allow it and declares the holders, then the first one that may allow it, and then the first one. unchecked reports whether that
// depends on the interface, which is not known.
func (t *Table) match(l *Listener) (found *entry, reason string, unchecked bool) {
	const certain = 4
	best := 0
	for e := range t.claims(protoOf(l.Proto), l.Addr.Port()) {
		rank, why := 1, ReasonBind
		if sure := e.bind.permits(l); sure || e.bind.mayPermit(l) {
			rank, why = 2, ReasonProcess
			if !slices.ContainsFunc(l.Sockets, func(holders []Holder) bool { return !e.holds(holders) }) {
				rank, why = 3, ""
			}
			if sure {
				rank = certain
			}
		}
		unchecked = unchecked || rank > 1 || e.bind.local
		if rank > best || rank == best && e.order < found.order {
			found, reason, best = e, why, rank
		}
	}
	return found, reason, unchecked && !l.Detailed && best < certain
}

// holds reports whether the service declares one of the exact holders of a socket, or they are not known.
func (s *service) holds(holders []Holder) bool {
	return len(holders) == 0 || slices.ContainsFunc(holders, s.declares)
}

// ServiceState is whether a required service listens on a port.
type ServiceState struct {
	*Service
	Up bool
	// Assumed is set if Up depends on whether a listener on :: takes IPv4, which is not known. It is then taken from
	// net.ipv6.bindv6only.
	Assumed bool
}

// Up returns the state of each port that must listen: one for each port and protocol of each required service, in the order of the
// file. A port is up if a socket on its port is as declared. A listener on :: that takes IPv4 counts as one on 0.0.0.0 too. If that is
// not known, it takes IPv4 unless bindV6Only.
func (t *Table) Up(listeners []Listener, bindV6Only bool) []ServiceState {
	states := make([]ServiceState, len(t.rows))
	for i := range states {
		states[i].Service = &t.rows[i]
	}
	for i := range listeners {
		l := &listeners[i]
		for e, row := range t.claims(protoOf(l.Proto), l.Addr.Port()) {
			if e.required && (len(l.Sockets) == 0 || slices.ContainsFunc(l.Sockets, e.holds)) {
				states[row].add(&e.bind, l, bindV6Only)
			}
		}
	}
	return states
}

// add adds a listener on the row's port to the state.
func (s *ServiceState) add(b *bind, l *Listener, bindV6Only bool) {
	sure := b.permits(l) || b.mayPermit(l)
	asIPv4 := !sure && l.Addr.Addr() == netip.IPv6Unspecified() && b.permitsAddr(netip.IPv4Unspecified())
	switch {
	case sure, asIPv4 && l.Detailed && !l.IPv6Only:
		s.Up, s.Assumed = true, false
	case asIPv4 && !l.Detailed && (!s.Up || s.Assumed):
		s.Up, s.Assumed = !bindV6Only, true
	}
}

// Reserved returns how the teams' ranges are used, in the order of the file.
func (t *Table) Reserved(listeners []Listener) []TeamUse {
	if len(t.registry.teams) == 0 {
		return nil
	}
	used := make(map[string]int)
	counted := make(map[uint16]bool)
	for i := range listeners {
		port := listeners[i].Addr.Port()
		if reserved, ok := t.registry.RangeOf(port); ok && !counted[port] {
			counted[port] = true
			used[reserved.Team]++
		}
	}
	uses := slices.Clone(t.registry.teams)
	for i := range uses {
		uses[i].Used = used[uses[i].Team]
	}
	return uses
}
