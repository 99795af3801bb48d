package inventory

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// The transport protocols, as the proto and collector labels name them.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Snapshot is what listens at one moment. It is never changed after it was made, and may be shared.
type Snapshot struct {
	// Source is the way in which the kernel was asked.
	Source string
	// Reads has one entry for each thing that is read: the protocols, and then what else is asked for. The listeners of a
	// protocol whose read failed are absent.
	Reads []Read
	// Listeners are the ports that listen: those of the main network namespace first, lowest port first.
	Listeners []Listener
	// Gone are listeners that went within the last hour and had lost packets. Only their Drops mean anything.
	Gone []Listener
	// Omitted is how many listeners were left out because there are more than Options.MaxPorts.
	Omitted int
	// Unattributed is how many of the Listeners have no Holders. It means something only if Holders were asked for.
	Unattributed int
	// Namespaces is how many network namespaces there are, the main one included, and NamespacesOmitted how many of them were
	// not read this time: their listeners are those of the last time. Both are 0 unless all namespaces were asked for.
	Namespaces, NamespacesOmitted int
	// Compliance is what the registry says, or nil if there is none.
	Compliance *Compliance
}

// Compliance is what the registry says of the main network namespace as a whole.
type Compliance struct {
	// Services are the ports that must listen. There is none of a protocol whose read failed.
	Services []ServiceState
	// Reserved is how the teams' ranges are used; nil if a protocol could not be read.
	Reserved []TeamUse
	// Reloaded tells whether the file was good when it was last read, and ReloadedAt when it last was.
	Reloaded   bool
	ReloadedAt time.Time
}

// What is read, as the collector label names it. The protocols have their own names.
const (
	CollectorHolder   = "holder"
	CollectorNetns    = "netns"
	CollectorRegistry = "registry"
)

// Read says how reading one thing went.
type Read struct {
	Collector string
	Err       error
	Duration  time.Duration
}

// Asked tells whether something was read, or tried to be: one of the collectors.
func (s *Snapshot) Asked(collector string) bool {
	return slices.ContainsFunc(s.Reads, func(r Read) bool { return r.Collector == collector })
}

// Succeeded tells whether something was read.
func (s *Snapshot) Succeeded(collector string) bool {
	return slices.ContainsFunc(s.Reads, func(r Read) bool { return r.Collector == collector && r.Err == nil })
}

// Missing returns the services that must listen and do not, as far as they were read: none without a registry.
func (s *Snapshot) Missing() []ServiceState {
	if s.Compliance == nil {
		return nil
	}
	var missing []ServiceState
	for _, state := range s.Compliance.Services {
		if !state.Up {
			missing = append(missing, state)
		}
	}
	return missing
}

// Holder is who holds a listener. What is not known is empty.
type Holder = holder.Holder

// What a registry says.
type (
	// Verdict is what it says of a listener.
	Verdict = registry.Verdict
	// Service is a port that must listen.
	Service = registry.Service
	// ServiceState tells whether it does.
	ServiceState = registry.ServiceState
	// TeamUse is how much of what is reserved for a team is in use.
	TeamUse = registry.TeamUse
)

// The reasons of a Verdict.
const (
	ReasonUnregistered = registry.ReasonUnregistered
	ReasonReserved     = registry.ReasonReserved
	ReasonBind         = registry.ReasonBind
	ReasonProcess      = registry.ReasonProcess
)

// Key tells one listener from another. Sockets that share it (SO_REUSEPORT, forked workers) are one listener.
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

// IsIPv6 tells whether the socket's own address family is IPv6.
func (k Key) IsIPv6() bool { return k.Addr.Addr().Is6() }

// Listener is a port that listens on an address.
type Listener struct {
	Key
	// Sockets is how many sockets share the address and port.
	Sockets int
	// AcceptQueueLength counts the connections that wait for accept() at the fullest of the sockets, and AcceptQueueLimit is
	// the backlog of that same socket. TCP only.
	AcceptQueueLength, AcceptQueueLimit uint64
	// ReceiveQueueBytes is the buffer memory of packets that wait to be read, in all the sockets, and
	// ReceiveBufferLimitBytes the limit of the same. UDP only.
	ReceiveQueueBytes, ReceiveBufferLimitBytes uint64
	// Drops counts the packets discarded at this listener since the exporter started. For TCP only a detailed source does.
	Drops uint64
	// Detailed tells whether the limits, IPv6Only and the device are known, and the drops of TCP.
	Detailed bool
	// IPv6Only tells that an IPv6 listener does not take IPv4.
	IPv6Only bool
	// FirstSeen is when the listener appeared; zero if it was there when the exporter started.
	FirstSeen time.Time
	// Holders are who holds the sockets, each once and maxHolders at most. ManyHolders tells that there are more.
	Holders     []Holder
	ManyHolders bool
	holders     []Holder // all of them, by which it is judged
	// Exact tells that the Holders are the processes that have the sockets open, and not what cgroups let one expect.
	Exact bool
	// Verdict is what the registry says of it, if Judged.
	Verdict Verdict
	Judged  bool
}

// Full tells whether the kernel refuses connections to the listener: its accept queue takes one more than the limit says
// (sk_acceptq_is_full in include/net/sock.h). It is false where the limit is not known.
func (l *Listener) Full() bool {
	return l.Proto == TCP && l.Detailed && l.AcceptQueueLength > l.AcceptQueueLimit
}

// declared tells whether a service of the registry declares the listener's port.
func (l *Listener) declared() bool {
	return l.Judged && l.Verdict.Reason != ReasonUnregistered && l.Verdict.Reason != ReasonReserved
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
