package registry

import (
	"net/netip"
	"slices"
)

// The reasons why a listener violates the registry, in the order in which they are looked for.
const (
	// ReasonUnregistered: no service declares the protocol and port.
	ReasonUnregistered = "unregistered"
	// ReasonReserved: nor that, and the port is reserved for a team.
	ReasonReserved = "reserved"
	// ReasonBind: it listens wider or elsewhere than declared.
	ReasonBind = "bind"
	// ReasonProcess: another program or unit holds it.
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

// Listener is what is judged: a listening port as far as it is known.
type Listener struct {
	// Proto is tcp or udp.
	Proto string
	Addr  netip.AddrPort
	// IPv6Only tells of an IPv6 wildcard whether it takes no IPv4.
	IPv6Only Tristate
	// Holders are judged only if HoldersKnown tells that they are all, and exact.
	Holders      []Holder
	HoldersKnown bool
	// Own tells that it is the exporter's own. Nobody need declare it, whatever holds it; but where a service declares its port,
	// it must be bound as that says.
	Own bool
}

// Verdict is what the registry says of a listener.
type Verdict struct {
	// Reason is why it should not be so, or empty.
	Reason string
	// Service is the service that declares it or, for ReasonReserved, the team that its port is reserved for. It is empty
	// for what nobody declares.
	Service string
	// Purpose is what the service is for, as far as the file says it.
	Purpose string
	// Declared is what Service declares of that which the listener violates, for a person: "10.0.0.0/8, loopback" for
	// ReasonBind, as far as a line bears it, and "process sshd, unit ssh.service" for ReasonProcess. It is empty otherwise.
	Declared string
}

// Judge returns the one verdict on a listener.
//
// Narrower than declared is as declared: loopback is within private, and every IPv4 address within 0.0.0.0. A wildcard
// address is within any and itself alone, so that a listener on :: is wider than 0.0.0.0, whether it takes IPv4 or not.
func (t *Table) Judge(l Listener) Verdict {
	port := l.Addr.Port()
	claims := t.claims(protoOf(l.Proto), port)
	if len(claims) == 0 {
		switch team := t.registry.teamOf[port]; {
		case l.Own:
			return Verdict{}
		case team != 0:
			return Verdict{Reason: ReasonReserved, Service: t.registry.teams[team-1].Team}
		default:
			return Verdict{Reason: ReasonUnregistered}
		}
	}
	addr := l.Addr.Addr().Unmap().WithZone("")
	for _, e := range claims {
		if permits(e.bind, addr) {
			if !l.Own && !e.holds(&l) {
				return Verdict{Reason: ReasonProcess, Service: e.name, Purpose: e.purpose, Declared: e.heldAs}
			}
			return Verdict{Service: e.name, Purpose: e.purpose}
		}
	}
	return Verdict{Reason: ReasonBind, Service: claims[0].name, Purpose: claims[0].purpose, Declared: claims[0].boundTo}
}

// holds tells whether a listener is held as the service declares, as far as that is known.
func (s *service) holds(l *Listener) bool {
	if !l.HoldersKnown {
		return true
	}
	for _, h := range l.Holders {
		if !s.heldBy(h) {
			return false
		}
	}
	return true
}

// ServiceState tells whether a required service listens on a port.
type ServiceState struct {
	*Service
	Up bool
	// Assumed tells that this rests on whether a listener on :: takes IPv4, which is not known but taken from
	// net.ipv6.bindv6only.
	Assumed bool
}

// Up returns the state of each row of Services, in the same order. A row is up if a listener on its port is as declared. A
// listener on :: that takes IPv4 counts as one on 0.0.0.0 too; where that is not known, it does unless bindV6Only.
//
// last is what the table's Up returned before, or nil. It is returned again if nothing has changed.
func (t *Table) Up(listeners []Listener, bindV6Only bool, last []ServiceState) []ServiceState {
	rows := make([]rowState, len(t.rows))
	for i := range listeners {
		l := &listeners[i]
		proto := protoOf(l.Proto)
		for _, e := range t.claims(proto, l.Addr.Port()) {
			if !e.service.required || !l.Own && !e.holds(l) {
				continue
			}
			n, _ := slices.BinarySearch(e.required, l.Addr.Port())
			rows[e.firstRow[proto]+n].seen(e.bind, l, bindV6Only)
		}
	}
	if slices.EqualFunc(rows, last, func(now rowState, then ServiceState) bool { return now.up == then.Up && now.assumed == then.Assumed }) {
		return last
	}
	states := make([]ServiceState, len(rows))
	for i, row := range rows {
		states[i] = ServiceState{Service: &t.rows[i], Up: row.up, Assumed: row.assumed}
	}
	return states
}

// rowState is what is known of a row of Services.
type rowState struct{ up, assumed bool }

// seen takes a listener on the row's port into account.
func (s *rowState) seen(bind []netip.Prefix, l *Listener, bindV6Only bool) {
	addr := l.Addr.Addr().Unmap().WithZone("")
	sure := permits(bind, addr)
	asIPv4 := !sure && addr == netip.IPv6Unspecified() && permits(bind, netip.IPv4Unspecified())
	switch {
	case sure, asIPv4 && l.IPv6Only == No:
		s.up, s.assumed = true, false
	case asIPv4 && l.IPv6Only == Unknown && (!s.up || s.assumed):
		s.up, s.assumed = !bindV6Only, true
	}
}

// TeamUse is how much of what is reserved for a team is in use.
type TeamUse struct {
	Team string
	// Size is how many ports are reserved for it, and Used how many of them listen, on whatever protocol or address.
	Size, Used int
}

// Reserved returns how the teams' ranges are used, in the order of the file.
func (t *Table) Reserved(listeners []Listener) []TeamUse {
	if len(t.registry.teams) == 0 {
		return nil
	}
	uses := slices.Clone(t.registry.teams)
	var counted [1 << 16]bool
	for i := range listeners {
		port := listeners[i].Addr.Port()
		if team := t.registry.teamOf[port]; team != 0 && !counted[port] {
			counted[port] = true
			uses[team-1].Used++
		}
	}
	return uses
}
