package registry

import (
	"net/netip"
	"slices"
)

// The reasons for a violation, of which a listener has at most one.
const (
	// ReasonUnregistered: no service declares the protocol and port, and the port is not reserved.
	ReasonUnregistered = "unregistered"
	// ReasonReserved: no service declares the protocol and port, and the port is reserved for a team.
	ReasonReserved = "reserved"
	// ReasonBind: it listens on a wider or another address than declared.
	ReasonBind = "bind"
	// ReasonProcess: its address is as declared, but another process or unit than declared holds it.
	ReasonProcess = "process"
)

// Tristate is a truth value that may be unknown.
type Tristate uint8

// The values of a Tristate.
const (
	Unknown Tristate = iota
	No
	Yes
)

// Listener is a listening port, as far as it is known.
type Listener struct {
	// Proto is tcp or udp.
	Proto string
	Addr  netip.AddrPort
	// IPv6Only says whether an IPv6 wildcard refuses IPv4.
	IPv6Only Tristate
	// Holders are judged only if HoldersKnown is set: they are all holders, and exact.
	Holders      []Holder
	HoldersKnown bool
	// Own is set for the exporter's own listener. It need not be declared, and its holder is not judged. If a service declares
	// its port, its address is judged.
	Own bool
}

// Verdict is the result of judging a listener.
type Verdict struct {
	// Reason is why the listener violates the registry. It is empty if it complies.
	Reason string
	// Service is the service that declares the listener or, for ReasonReserved, the team that its port is reserved for. It is
	// empty if nothing declares it.
	Service string
	// Purpose is the purpose of the service, if the file has one.
	Purpose string
	// Declared is the part of the service that the listener violates, for a person: "10.0.0.0/8, loopback" for ReasonBind, which
	// may be shortened, and "process sshd, unit ssh.service" for ReasonProcess. It is empty otherwise.
	Declared string
}

// Judge returns the verdict on a listener.
//
// A narrower address than declared complies: loopback is within private, and every IPv4 address within 0.0.0.0. A wildcard
// address is only within any and itself. So a listener on :: is wider than 0.0.0.0, whether it takes IPv4 or not.
func (t *Table) Judge(l Listener) Verdict {
	port := l.Addr.Port()
	addr := l.Addr.Addr().Unmap().WithZone("")
	// If several entries declare the port, the first one in the file that allows the address counts, or else the first one.
	var declared, allowed *entry
	for e := range t.claims(protoOf(l.Proto), port) {
		if declared == nil || e.order < declared.order {
			declared = e
		}
		if (allowed == nil || e.order < allowed.order) && permits(e.bind, addr) {
			allowed = e
		}
	}
	switch {
	case allowed != nil && !l.Own && !allowed.holds(&l):
		return Verdict{Reason: ReasonProcess, Service: allowed.name, Purpose: allowed.purpose, Declared: allowed.holder()}
	case allowed != nil:
		return Verdict{Service: allowed.name, Purpose: allowed.purpose}
	case declared != nil:
		return Verdict{Reason: ReasonBind, Service: declared.name, Purpose: declared.purpose, Declared: declared.boundTo}
	case l.Own:
		return Verdict{}
	}
	if reserved, ok := t.registry.RangeOf(port); ok {
		return Verdict{Reason: ReasonReserved, Service: reserved.Team}
	}
	return Verdict{Reason: ReasonUnregistered}
}

// holds reports whether the service declares all holders of a listener, or they are not known.
func (s *service) holds(l *Listener) bool {
	return !l.HoldersKnown || !slices.ContainsFunc(l.Holders, func(h Holder) bool { return !s.heldBy(h) })
}

// ServiceState is whether a required service listens on a port.
type ServiceState struct {
	*Service
	Up bool
	// Assumed is set if Up depends on whether a listener on :: takes IPv4, which is not known. It is then taken from
	// net.ipv6.bindv6only.
	Assumed bool
}

// Up returns the state of each row of Services, in the same order. A row is up if a listener on its port complies. A listener on
// :: that takes IPv4 counts as one on 0.0.0.0 too. If that is not known, it takes IPv4 unless bindV6Only.
func (t *Table) Up(listeners []Listener, bindV6Only bool) []ServiceState {
	states := make([]ServiceState, len(t.rows))
	for i := range states {
		states[i].Service = &t.rows[i]
	}
	for i := range listeners {
		l := &listeners[i]
		proto, port := protoOf(l.Proto), l.Addr.Port()
		for e := range t.claims(proto, port) {
			if e.required && (l.Own || e.holds(l)) {
				states[e.row(proto, port)].add(e.bind, l, bindV6Only)
			}
		}
	}
	return states
}

// add adds a listener on the row's port to the state.
func (s *ServiceState) add(bind []netip.Prefix, l *Listener, bindV6Only bool) {
	addr := l.Addr.Addr().Unmap().WithZone("")
	sure := permits(bind, addr)
	asIPv4 := !sure && addr == netip.IPv6Unspecified() && permits(bind, netip.IPv4Unspecified())
	switch {
	case sure, asIPv4 && l.IPv6Only == No:
		s.Up, s.Assumed = true, false
	case asIPv4 && l.IPv6Only == Unknown && (!s.Up || s.Assumed):
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
