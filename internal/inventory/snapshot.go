//go:build linux

package inventory

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// The transport protocols, as the proto and collector labels name them.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Snapshot is what listens at one moment. It never changes, and may be shared.
type Snapshot struct {
	// Time is what the host's wall clock showed when it was made.
	Time time.Time
	// Source is how the kernel was asked: netlink or procfs.
	Source string
	// Reads has one entry for each collector: the protocols, and then the others that are asked for. The listeners of a protocol
	// whose read failed are absent.
	Reads []Read
	// Listeners are the open ports: the main network namespace first, lowest port first.
	Listeners []Listener
	// Processes are the exact holders of each listener, the one with the lowest PID first, if Options.Processes asks for them and they
	// could be read.
	Processes map[Key][]Process `json:"-"` // a Key is none of an object
	// Gone are listeners that closed within the last hour and had dropped packets. Only their Key and Drops are set.
	Gone []Listener
	// Traffic is that of each port of the main network namespace that one of the Listeners has, lowest port first: none unless it is
	// asked for and could be read.
	Traffic []PortTraffic
	// Omitted is how many listeners were left out because there are more than Options.MaxPorts.
	Omitted int
	// Unattributed is how many of the Listeners have no Holders. It is 0 unless the holders were asked for and could be read.
	Unattributed int
	// Namespaces is how many network namespaces were found, including the main one. NamespacesOmitted is how many of them were
	// not read this time: their listeners are those of their last read. NamespacesNeverRead is how many have no last read, because
	// there are too many or because they wait for their first turn: their listeners are missing. All are 0 unless all namespaces were
	// asked for.
	Namespaces, NamespacesOmitted, NamespacesNeverRead int
	// Compliance is nil without a registry.
	Compliance *Compliance
	// Leases are nil without Options.Leases, and where they could not be asked for.
	Leases *LeaseView
	// EventsLost is how many openings, closings and connections the kernel could not report since the exporter started.
	EventsLost uint64
	// Memory is what happened before. It is the same memory while nothing changes, and nil if nothing could be read.
	Memory *Memory
	// WatchInterval is how often Watch looks now, or 0 if it does not.
	WatchInterval time.Duration
	// Saves reports whether what is remembered is saved, and Saved whether that succeeded the last time.
	Saves, Saved bool

	confirming bool // it takes more looks to know whether something is gone
}

// Compliance is how far the main network namespace, as a whole, complies with the registry.
type Compliance struct {
	// Declared are all services for this host. They are the same memory while the registry is the same.
	Declared []ServiceInfo
	// Services are the required ports. Those of a protocol whose read failed are absent.
	Services []ServiceState
	// Reserved is how the teams' ranges are used. It is nil if a protocol could not be read.
	Reserved []TeamUse
	// Reloaded reports whether the last load of the file succeeded. ReloadedAt is when a load last succeeded.
	Reloaded   bool
	ReloadedAt time.Time
}

// LeaseView is the leases at a look. Those that say why a listener is as it is may have ended since it began.
type LeaseView struct {
	lease.View
	// Booted is what the wall clock would have shown at the host's boot, from which the times of leases count.
	Booted time.Time
}

// IsEmpty reports whether there is nothing to show: no ports are leased, and none may be. The view may be nil.
func (v *LeaseView) IsEmpty() bool { return v == nil || len(v.Teams) == 0 && len(v.Leases) == 0 }

// The collectors other than the protocols, as the collector label names them.
const (
	CollectorEvent    = "event"
	CollectorHolder   = "holder"
	CollectorNetns    = "netns"
	CollectorRegistry = "registry"
	CollectorTraffic  = "traffic"
)

// Read is how the read of one collector went.
type Read struct {
	Collector string
	Err       error
	Duration  time.Duration
}

// Asked reports whether a collector was read, successfully or not.
func (s *Snapshot) Asked(collector string) bool {
	return slices.ContainsFunc(s.Reads, func(r Read) bool { return r.Collector == collector })
}

// unfinished reports whether a read had not ended.
func (s *Snapshot) unfinished() bool {
	return slices.ContainsFunc(s.Reads, func(r Read) bool { return errors.Is(r.Err, errStillReading) })
}

// Succeeded reports whether a collector was read successfully.
func (s *Snapshot) Succeeded(collector string) bool {
	return slices.ContainsFunc(s.Reads, func(r Read) bool { return r.Collector == collector && r.Err == nil })
}

// Missing returns the required services that do not listen, as far as their protocols were read: none without a registry. It leaves
// out those for which the verdict on one of the Listeners says why they are not up, and those that may be on another host.
func (s *Snapshot) Missing() []ServiceState {
	if s.Compliance == nil {
		return nil
	}
	type place struct {
		service, proto string
		port           uint16 // 0 for one of the service's ports
	}
	explained := make(map[place]bool)
	for i := range s.Listeners {
		switch l := &s.Listeners[i]; l.Verdict.Reason {
		case ReasonForbidden: // for every service
			explained[place{"", l.Proto, l.Addr.Port()}] = true
		case ReasonBind, ReasonProcess:
			explained[place{l.Verdict.Service, l.Proto, l.Addr.Port()}] = true
			explained[place{l.Verdict.Service, l.Proto, 0}] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(s.Compliance.Services), func(state ServiceState) bool {
		at := place{state.Name, state.Proto, state.Port}
		if state.OnePort {
			at.port = 0
		}
		return state.Up || state.OneHost || explained[at] || explained[place{"", state.Proto, state.Port}]
	})
}

// The types of holders and of a registry's verdicts. With these names, code that shows a snapshot need not import either.
type (
	// Holder is who holds a listener. What is not known is empty.
	Holder = holder.Holder
	// Process is an exact holder.
	Process = holder.Process
	// UserNames are the names of users.
	UserNames = holder.UserNames
	// Verdict is the registry's verdict on a listener.
	Verdict = registry.Verdict
	// Service is a required port.
	Service = registry.Service
	// ServiceInfo is what the registry says of a service, for people.
	ServiceInfo = registry.ServiceInfo
	// ServiceState is whether a required port listens as declared.
	ServiceState = registry.ServiceState
	// Lease is one or more ports that somebody has for a time.
	Lease = lease.Lease
	// LeaseTeam is how a team's ranges are leased.
	LeaseTeam = lease.Team
	// TeamUse is how many of a team's reserved ports are in use.
	TeamUse = registry.TeamUse
	// LastRegistry is what the files of the registry had when they were last good.
	LastRegistry = registry.Good
)

// The states of a lease that is not held: see [lease.View.State].
const (
	LeaseOverstayed = lease.Overstayed
	LeaseExpired    = lease.Expired
)

// The reasons of a Verdict.
const (
	ReasonForbidden    = registry.ReasonForbidden
	ReasonUnregistered = registry.ReasonUnregistered
	ReasonReserved     = registry.ReasonReserved
	ReasonBind         = registry.ReasonBind
	ReasonProcess      = registry.ReasonProcess
)

// Key identifies a listener. Sockets that share it (SO_REUSEPORT, forked workers) are one listener.
type Key struct {
	Proto string
	Addr  netip.AddrPort
	Scope Scope
	Range Range
	// Device is the interface that the sockets are bound to, or empty.
	Device string
	// Netns is the name of the network namespace, or empty for the main one.
	Netns string
}

// Family returns the socket's own address family: a dual-stack wildcard is ipv6.
func (k Key) Family() string {
	if k.IsIPv6() {
		return "ipv6"
	}
	return "ipv4"
}

// IsIPv6 reports whether the socket's own address family is IPv6.
func (k Key) IsIPv6() bool { return k.Addr.Addr().Is6() }

// Listener is an open port on an address.
type Listener struct {
	Key
	// Sockets is how many sockets share the address and port.
	Sockets int
	// AcceptQueueLength counts the connections that wait for accept() at the socket whose queue is nearest to its limit, and
	// AcceptQueueLimit is the backlog of that socket. TCP only.
	AcceptQueueLength, AcceptQueueLimit uint64
	// ReceiveQueueBytes is the buffer memory of packets that wait to be read at the socket whose queue is nearest to its limit, and
	// ReceiveBufferLimitBytes is that limit. UDP only.
	ReceiveQueueBytes, ReceiveBufferLimitBytes uint64
	// Drops counts the packets discarded at this listener since the exporter started. For TCP only a detailed source counts them.
	Drops uint64
	// Detailed reports whether the limits, IPv6Only and the device are known, and the drops of TCP.
	Detailed bool
	// IPv6Only reports whether an IPv6 listener does not accept IPv4.
	IPv6Only bool
	// Connections are those of a TCP listener, where events report them.
	Connections Connections
	// FirstSeen is when the listener appeared. It is zero if it was there when the exporter started.
	FirstSeen time.Time
	// Holders are the holders of the sockets, each once, at most maxHolders. ManyHolders reports whether there are more.
	Holders     []Holder
	ManyHolders bool
	held        [][]Holder // the exact holders of each socket, by which it is judged; nil where they are not known
	creators    []string   // the units in whose cgroups the other sockets were created, as far as they are known
	// Exact reports whether the Holders are the processes that have the sockets open. Otherwise they are inferred from cgroups.
	Exact bool
	// Verdict is the registry's verdict on the listener, if it is Judged.
	Verdict Verdict
	Judged  bool
	// Lease is that of the port, if the registry declares none of its listeners: as it was when the listener was judged. The listener is
	// as declared by it unless there is a Reason. It is nil if the port is not leased.
	Lease *Lease
	// Starts are since when something has been wrong with it, or nil if nothing is.
	Starts *Starts
	// Client reports whether this is most often a client, not a service: a UDP socket on an ephemeral port that no service declares.
	// It is not Judged.
	Client bool
}

// Connections are what is known of the connections that a listener has completed: those that are established, accepted or not yet.
type Connections struct {
	// Counts reports whether they are counted. Count is how many there have been since the exporter started or the listener opened.
	Counts bool
	Count  uint64
	// Last is when the last of them was completed. It is zero if none was.
	Last time.Time
}

// Starts are since when something has been wrong with a listener. A time is zero if that is not so, and for some listeners if it is so
// for very many.
type Starts struct {
	// Violation is since when the Verdict has been this violation, Full since when the accept queue has been full, and Dropping since
	// when it has lost more than a packet a second.
	Violation, Full, Dropping time.Time
}

// Declared reports whether a service of the registry declares the listener.
func (l *Listener) Declared() bool {
	return l.Judged && l.Verdict.Reason != ReasonForbidden && l.Verdict.Reason != ReasonUnregistered && l.Verdict.Reason != ReasonReserved
}

// The states of a listener other than the reasons of a violation.
const (
	StateOK     = "ok"        // as the registry says
	StateLeased = "leased"    // as declared by its Lease
	StateClient = "ephemeral" // a Client
)

// State returns what there is to say about a listener, wherever it is shown: StateClient, StateOK, StateLeased, the reason for which it
// violates the registry, or nothing where there is no registry to judge it.
func (l *Listener) State() string {
	switch {
	case l.Client:
		return StateClient
	case !l.Judged:
		return ""
	case l.Verdict.Reason == "" && l.Lease != nil:
		return StateLeased
	case l.Verdict.Reason == "":
		return StateOK
	default:
		return l.Verdict.Reason
	}
}

// Full reports whether the kernel refuses connections to the listener: its accept queue takes one more than the limit says
// (sk_acceptq_is_full in include/net/sock.h). It is false if the limit is not known.
func (l *Listener) Full() bool {
	return l.Proto == TCP && l.Detailed && l.AcceptQueueLength > l.AcceptQueueLimit
}

// Input returns the listener in the form that the registry judges.
func (l *Listener) Input() registry.Listener {
	input := registry.Listener{
		Proto: l.Proto, Addr: l.Addr, IPv6Only: l.IPv6Only, Device: l.Device, Detailed: l.Detailed, Loopback: l.Scope == ScopeLoopback,
		Creators: l.creators,
	}
	for _, socket := range l.held {
		var holders []registry.Holder
		for _, h := range socket {
			holders = append(holders, registry.Holder{Process: h.Process, Executable: h.Executable, Unit: h.Unit, NoUnit: h.NoUnit})
		}
		input.Sockets = append(input.Sockets, holders)
	}
	return input
}

// byPort orders listeners as people look for them: the main network namespace first, then by port, protocol and address.
func byPort(a, b *Listener) int {
	return cmp.Or(
		cmp.Compare(a.Netns, b.Netns),
		cmp.Compare(a.Addr.Port(), b.Addr.Port()),
		cmp.Compare(a.Proto, b.Proto),
		a.Addr.Addr().Compare(b.Addr.Addr()),
		cmp.Compare(a.Device, b.Device),
	)
}
