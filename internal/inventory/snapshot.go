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
	// Reads has one entry a protocol, in the order tcp, udp. The listeners of a protocol whose read failed are absent.
	Reads []Read
	// Listeners are the ports that listen, lowest port first.
	Listeners []Listener
	// Gone are UDP listeners that went within the last hour and had lost packets. Only their Drops mean anything.
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
}

// Family returns the socket's own address family: a dual-stack wildcard is ipv6.
func (k Key) Family() string {
	if k.Addr.Addr().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// Listener is a port that listens on an address.
type Listener struct {
	Key
	// Sockets is how many sockets share the address and port.
	Sockets int
	// AcceptQueueLength counts the connections that wait for accept() at the fullest of the sockets. TCP only.
	AcceptQueueLength uint64
	// ReceiveQueueBytes is the buffer memory of packets that wait to be read, in all the sockets. UDP only.
	ReceiveQueueBytes uint64
	// Drops counts the packets discarded at this listener since the exporter started. UDP only.
	Drops uint64
	// FirstSeen is when the listener appeared; zero if it was there when the exporter started.
	FirstSeen time.Time
}

// byPort orders listeners as people look for them: by port, then protocol, then address.
func byPort(a, b Listener) int {
	return cmp.Or(
		cmp.Compare(a.Addr.Port(), b.Addr.Port()),
		cmp.Compare(a.Proto, b.Proto),
		a.Addr.Addr().Compare(b.Addr.Addr()),
	)
}
