//go:build linux

package registry

import (
	"net/netip"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// The reasons for a violation, of which a listener has at most one: the first that applies.
const (
	// ReasonForbidden: the protocol and port must not listen, or only elsewhere.
	ReasonForbidden = "forbidden"
	// ReasonUnregistered: no service declares the protocol and port, or none of those that are known by their holder, and the port is
	// not reserved.
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
	// Creators are the units in whose cgroups the sockets without exact holders were created, as far as they are known.
	Creators []string
	// HoldersUnread is set if the holders could not be read this time.
	HoldersUnread bool
	// Client is set if this is most often a client, unless a service declares it.
	Client bool
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
	// Purpose and Owner are those of the service, if the file has them.
	Purpose, Owner string
	// Declared is the part of the service that the listener violates, for a person: "10.0.0.0/8, loopback" for ReasonBind, which
	// may be shortened, and "process sshd or dropbear, unit ssh.service" for ReasonProcess. For ReasonForbidden it is why the port
	// is forbidden. For ReasonUnregistered and ReasonReserved it is the service that would declare the listener if its holder was
	// known. It is empty otherwise.
	Declared string
	// HolderUnchecked reports that the verdict depends on who holds the listener, and that the holders of a socket are not known.
	// DeviceUnchecked reports that the verdict depends on the interface, which is not known.
	HolderUnchecked, DeviceUnchecked bool
	// Undecided reports that there is no verdict, because it depends on holders that could not be read this time.
	Undecided bool
}

// Judge returns the verdict on a listener.
//
// A narrower address than declared complies: loopback is within private, and every IPv4 address within 0.0.0.0. A wildcard
// address is only within any and itself. So a listener on :: is wider than 0.0.0.0, whether it takes IPv4 or not.
//
// A socket is held as declared if a service declares one of its exact holders: whoever else has it open got it from that program.
// Several services may share a port, each with holders of its own.
//
// A range of ports with process or unit, or any port, is only declared for a listener with a known holder that the service declares:
// an exact one, or the unit that created the socket. Otherwise each program in the range would pass where no holder is known.
func (t *Table) Judge(l Listener) Verdict {
	forbidden, unchecked := t.forbids(&l)
	if forbidden != nil {
		return Verdict{Reason: ReasonForbidden, Declared: forbidden.reason, DeviceUnchecked: unchecked}
	}
	verdict := t.judge(&l)
	verdict.DeviceUnchecked = verdict.DeviceUnchecked || unchecked
	return verdict
}

// forbids returns what forbids a listener, or nil. unchecked reports whether that depends on the interface, which is not known.
func (t *Table) forbids(l *Listener) (first *prohibition, unchecked bool) {
	for f := range t.forbidden.of(protoOf(l.Proto), l.Addr.Port()) {
		if f.tolerated.permits(l) {
			continue
		}
		unknown := f.tolerated.mayPermit(l)
		unchecked = unchecked || unknown || f.tolerated.local && !l.Detailed
		if first == nil && !unknown {
			first = f
		}
	}
	return first, unchecked
}

// claimed is a claim to the port of a listener that may hold for it.
type claimed struct {
	portEntry
	// sure is set if the bind allows the listener for certain, and allowed if it may.
	sure, allowed bool
	// holds is set if the service declares a holder, as far as they are known.
	holds bool
}

// judge returns the verdict on a listener that is not forbidden. If several services claim it, the one that allows the address and
// declares a holder counts, then one that is sure to allow the address, then the first in the file.
func (t *Table) judge(l *Listener) Verdict {
	var buffer [8]claimed
	claims := buffer[:0]
	unchecked := false        // the verdict depends on the interface
	var unattributed []string // the services that may declare it, whose holder is not known
	for at := range t.claims(protoOf(l.Proto), l.Addr.Port()) {
		c := claimed{portEntry: at, sure: at.bind.permits(l)}
		c.allowed = c.sure || at.bind.mayPermit(l)
		c.holds = at.mayHoldSome(l)
		if at.byHolder() && !at.knownToHold(l) {
			if c.allowed && at.mayHold(l) {
				unattributed = append(unattributed, at.name)
			}
			continue
		}
		unchecked = unchecked || c.allowed || at.bind.local
		claims = append(claims, c)
	}
	if len(claims) == 0 {
		return t.undeclared(l, unattributed)
	}
	best := &claims[0]
	for i := range claims {
		if claims[i].before(best) {
			best = &claims[i]
		}
	}
	verdict := Verdict{
		Service: best.name, Purpose: best.purpose, Owner: best.owner,
		DeviceUnchecked: unchecked && !l.Detailed && !best.sure,
	}
	switch {
	case !best.allowed:
		verdict.Reason, verdict.Declared = ReasonBind, best.boundTo
	case slices.ContainsFunc(l.Sockets, func(holders []Holder) bool { return !anyHolds(claims, holders) }):
		verdict.Reason, verdict.Declared = ReasonProcess, declaredHolders(claims, best)
	default:
		verdict.HolderUnchecked = best.toldByHolder() && l.someUnknown()
	}
	return verdict
}

// undeclared returns the verdict on a listener that no service declares. Each service of unattributed does if it is the holder.
func (t *Table) undeclared(l *Listener, unattributed []string) Verdict {
	port := l.Addr.Port()
	reserved, isReserved := firstRange(t.reserved, func(r Range) bool { return r.Contains(port) })
	switch {
	case l.Own:
		return Verdict{Service: wording.Program}
	case len(unattributed) > 0 && l.HoldersUnread:
		return Verdict{Undecided: true}
	}
	verdict := Verdict{Reason: ReasonUnregistered}
	if isReserved {
		verdict = Verdict{Reason: ReasonReserved, Service: reserved.Team}
	}
	if len(unattributed) > 0 {
		verdict.HolderUnchecked = true
		verdict.Declared = shortened(unattributed, " or ") + " does if it is the holder, which is not known"
	}
	return verdict
}

// before reports whether a claim counts rather than another one.
func (c *claimed) before(o *claimed) bool {
	for _, better := range [][2]bool{{c.allowed, o.allowed}, {c.holds, o.holds}, {c.sure, o.sure}, {!c.anyPort, !o.anyPort}} {
		if better[0] != better[1] {
			return better[0]
		}
	}
	return c.order < o.order
}

// anyHolds reports whether one of the claims that allow the listener declares one of the holders of a socket, or they are not known.
func anyHolds(claims []claimed, holders []Holder) bool {
	return slices.ContainsFunc(claims, func(c claimed) bool { return c.allowed && c.holdsOrUnknown(holders) })
}

// declaredHolders returns the holders that the claims declare, that of best first.
func declaredHolders(claims []claimed, best *claimed) string {
	all := []string{best.holders()}
	for i := range claims {
		if c := &claims[i]; c != best && c.allowed && !c.anyPort {
			all = append(all, c.holders())
		}
	}
	return shortened(all, ", or ")
}

// known reports whether the holders of a socket are known.
func known(holders []Holder) bool { return len(holders) > 0 }

// someUnknown reports whether the holders of a socket are not known.
func (l *Listener) someUnknown() bool {
	return len(l.Sockets) == 0 || slices.ContainsFunc(l.Sockets, func(holders []Holder) bool { return !known(holders) })
}

// holds reports whether the service declares one of the exact holders of a socket.
func (s *service) holds(holders []Holder) bool { return slices.ContainsFunc(holders, s.declares) }

// holdsOrUnknown reports whether the service declares one of the exact holders of a socket, or they are not known.
func (s *service) holdsOrUnknown(holders []Holder) bool { return !known(holders) || s.holds(holders) }

// knownToHold reports whether the service declares a holder that is known: an exact one, or the unit that created a socket.
func (s *service) knownToHold(l *Listener) bool {
	return slices.ContainsFunc(l.Sockets, func(holders []Holder) bool { return slices.ContainsFunc(holders, s.names) }) ||
		len(s.units) > 0 && slices.ContainsFunc(l.Creators, func(unit string) bool {
			return slices.ContainsFunc(s.units, func(p pattern) bool { return p.isUnit(unit) })
		})
}

// mayHoldSome reports whether the service declares a holder. If none is known, it reports whether that is possible.
func (s *service) mayHoldSome(l *Listener) bool {
	if slices.ContainsFunc(l.Sockets, known) {
		return slices.ContainsFunc(l.Sockets, func(holders []Holder) bool { return known(holders) && s.holds(holders) })
	}
	return s.mayHold(l) || s.knownToHold(l)
}

// mayHold reports whether the service may declare the holder of a socket, which is not known.
func (s *service) mayHold(l *Listener) bool {
	unknown := 0
	for _, holders := range l.Sockets {
		if !known(holders) {
			unknown++
		}
	}
	return len(l.Sockets) == 0 || unknown > 0 && (len(s.units) == 0 || unknown > len(l.Creators))
}

// ServiceState is whether a required service listens on a port.
type ServiceState struct {
	*Service
	Up bool
	// Assumed is set if Up depends on whether a listener on :: takes IPv4, which is not known. It is then taken from
	// net.ipv6.bindv6only.
	Assumed bool
	// Undecided is set if Up depends on holders that are not known. It is then false.
	Undecided bool
}

// Up returns the state of what must listen: each port and protocol of each required service, in the order of the file. A port is up
// if a socket on its port is as declared. A listener on :: that takes IPv4 counts as one on 0.0.0.0 too. If that is not known, it takes
// IPv4 unless bindV6Only.
func (t *Table) Up(listeners []Listener, bindV6Only bool) []ServiceState {
	states := make([]ServiceState, len(t.rows))
	for i := range states {
		states[i].Service = &t.rows[i]
	}
	if len(states) == 0 {
		return nil
	}
	for i := range listeners {
		l := &listeners[i]
		held := false // by what some service declares
		for at := range t.claims(protoOf(l.Proto), l.Addr.Port()) {
			held = held || at.mayHoldSome(l)
		}
		for at := range t.claims(protoOf(l.Proto), l.Addr.Port()) {
			if at.required == optional {
				continue
			}
			state := &states[at.rowOf(l.Addr.Port())]
			switch {
			case at.byHolder() && !at.knownToHold(l):
				state.Undecided = state.Undecided || !state.Up && at.mayHold(l)
			case held && !at.mayHoldSome(l): // but by another one
			case len(l.Sockets) == 0 || slices.ContainsFunc(l.Sockets, at.holdsOrUnknown):
				state.add(&at.bind, l, bindV6Only)
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
		s.Up, s.Assumed, s.Undecided = true, false, false
	case asIPv4 && !l.Detailed && (!s.Up || s.Assumed):
		s.Up, s.Assumed, s.Undecided = !bindV6Only, true, false
	}
}

// Reserved returns how the teams' ranges are used, in the order of the file.
func (t *Table) Reserved(listeners []Listener) []TeamUse {
	if len(t.teams) == 0 {
		return nil
	}
	used := make(map[string]int)
	counted := make(map[uint16]bool)
	for i := range listeners {
		port := listeners[i].Addr.Port()
		if reserved, ok := firstRange(t.reserved, func(r Range) bool { return r.Contains(port) }); ok && !counted[port] {
			counted[port] = true
			used[reserved.Team]++
		}
	}
	uses := slices.Clone(t.teams)
	for i := range uses {
		uses[i].Used = used[uses[i].Team]
	}
	return uses
}
