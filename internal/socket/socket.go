// Package socket reads a network namespace's listening sockets from the kernel.
package socket

import (
	"fmt"
	"net/netip"
	"syscall"
)

// Protocol is a transport protocol, by its number in the IP header (IPPROTO_* in include/uapi/linux/in.h).
type Protocol uint8

// The protocols whose listeners are read.
const (
	TCP Protocol = syscall.IPPROTO_TCP
	UDP Protocol = syscall.IPPROTO_UDP
)

// String returns the value of the proto label.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	default:
		return fmt.Sprintf("protocol %d", uint8(p))
	}
}

// Socket is one listening socket: a TCP socket in the state LISTEN, or a UDP socket that is bound and not connected.
type Socket struct {
	// Addr is the local end. An IPv4-mapped IPv6 address stays an IPv6 address: the family is the socket's own.
	Addr netip.AddrPort
	// Inode is the socket's inode number in sockfs. 0 means that no process holds it, and identifies nothing.
	Inode uint64
	// Queue is the receive queue. TCP: connections that wait for accept(). UDP: bytes of buffer memory, the kernel's
	// overhead included.
	Queue uint64
	// Drops counts the packets discarded at a UDP socket since its birth, modulo 2^32 (sk_drops is 32 bits wide).
	Drops uint32
}

// Source reads the listening sockets of one network namespace.
type Source interface {
	// Name is the way in which the kernel is asked: the value of the source label.
	Name() string
	// Append appends the sockets that listen now to dst and returns the result. After an error nothing that was
	// appended may be used: a table that was read in part is not an answer.
	Append(dst []Socket, proto Protocol) ([]Socket, error)
	// PortRanges returns the namespace's port ranges. With an error it returns the kernel's defaults.
	PortRanges() (PortRanges, error)
}
