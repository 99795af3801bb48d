package inventory

import (
	"cmp"
	"net/netip"
	"time"
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
	// Detailed tells whether it knows each listener's limits, IPv6Only and device, and the drops of TCP.
	Detailed bool
	// Reads has one entry a protocol, in the order tcp, udp. The listeners of a protocol whose read failed are absent.
	Reads []Read
	// Listeners are the ports that listen, lowest port first.
	Listeners []Listener
	// Gone are listeners that went within the last hour and had lost packets. Only their Drops mean anything.
	Gone []Listener
	// Omitted is how many listeners were left out because there are more than Options.MaxPorts.
	Omitted int
}

// Read says how reading one protocol's sockets went.
type Read struct {
	Proto    string
	Err      error
	Duration time.Duration
}

// Key tells one listener from another. Sockets that share it (SO_REUSEPORT, forked workers) are one listener.
type Key struct {
	Proto string
	Addr  netip.AddrPort
	Scope Scope
	Range Range
	// Device is the interface that the sockets are bound to, or empty.
	Device string
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
	// Drops counts the packets discarded at this listener since the exporter started. HasDrops tells whether the source
	// counts them for this protocol.
	Drops    uint64
	HasDrops bool
	// IPv6Only tells that an IPv6 listener does not take IPv4.
	IPv6Only bool
	// FirstSeen is when the listener appeared; zero if it was there when the exporter started.
	FirstSeen time.Time
}

// byPort orders listeners as people look for them: by port, then protocol, then address.
func byPort(a, b Listener) int {
	return cmp.Or(
		cmp.Compare(a.Addr.Port(), b.Addr.Port()),
		cmp.Compare(a.Proto, b.Proto),
		a.Addr.Addr().Compare(b.Addr.Addr()),
		cmp.Compare(a.Device, b.Device),
	)
}
