//go:build linux

// Package event reports, by eBPF, each listener that opens or closes, and counts the connections that listeners complete. Unlike
// a look at intervals it misses none, however short its life.
//
// The kernel runs the programs of programs/ where sockets begin to listen, end, and complete connections. What opens and closes
// comes through a ring buffer, connections are counted in a map.
package event

import (
	"net/netip"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// Kind is what happened to a listener.
type Kind uint8

// The kinds of events.
const (
	Opened Kind = 1 + iota
	Closed
)

// String returns the kind in one word, for logs.
func (k Kind) String() string {
	switch k {
	case Opened:
		return "opened"
	case Closed:
		return "closed"
	default:
		return "unknown"
	}
}

// Event is a listener that opened or closed: a TCP socket that began or ceased to listen, or a UDP socket that was bound to a port
// or was closed.
type Event struct {
	Kind Kind
	// Time is when it happened, since the boot of the machine (CLOCK_BOOTTIME).
	Time time.Duration
	// Opened is, of a closed listener, when it opened (CLOCK_BOOTTIME), or 0 if that was before the programs were attached. Then
	// who opened it is not known either: PID, UID, Cgroup and Comm are zero.
	Opened time.Duration

	Place
	// Others reports whether other sockets are open at the place: they and this one are one listener.
	Others bool

	// PID, UID, Cgroup and Comm are of the process that opened the listener, as the initial namespaces of PIDs and users number
	// them. Comm is its name in /proc/<pid>/comm when it did so: at most 15 bytes, which anyone may choose.
	PID, UID uint32
	// Cgroup is the inode of a directory of the cgroup2 hierarchy.
	Cgroup uint64
	Comm   string
}

// Place is where a listener listens.
type Place struct {
	Proto socket.Protocol
	// Netns is the number of the network namespace: the inode of /proc/<pid>/ns/net.
	Netns uint32
	// Addr is the local end, of the socket's own family: an IPv4-mapped address stays an IPv6 address, and has no zone.
	Addr netip.AddrPort
	// Interface is the index of the interface that the socket is bound to, or 0.
	Interface uint32
}

// Connections are the TCP connections that the listeners of a place have completed since it is watched.
type Connections struct {
	Count uint64
	// Last is when the last one was completed, since the boot of the machine (CLOCK_BOOTTIME), or 0.
	Last time.Duration
}
