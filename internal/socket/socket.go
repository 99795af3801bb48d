//go:build linux

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

// The states of sockets that listen (include/net/tcp_states.h). A UDP socket that is bound and not connected is in
// the state CLOSE. Only the state counts: a remote address may be left over from an earlier connect().
const (
	stateClose  = 0x07
	stateListen = 0x0A
)

// Socket is one listening socket: a TCP socket in the state LISTEN, or a UDP socket that is bound and not connected.
type Socket struct {
	// Addr is the local end. An IPv4-mapped IPv6 address stays an IPv6 address: the family is the socket's own.
	Addr netip.AddrPort
	// ID identifies the socket as long as it lives: its cookie (netlink) or its inode (procfs). It is 0 if that is not known.
	ID uint64
	// Queue is the receive queue. TCP: connections that wait for accept(). UDP: bytes of buffer memory, the kernel's
	// overhead included.
	Queue uint64
	// Drops counts the packets discarded at the socket since its birth, modulo 2^32 (sk_drops is 32 bits wide). For TCP only a
	// detailed source knows them.
	Drops uint32
	// UID is the user who owns the socket, usually the one who created it.
	UID uint32
	// Inode is the number in the links of /proc/<pid>/fd, or 0 if no process has the socket open.
	Inode uint64

	// Only a detailed source fills in the rest.

	// QueueLimit is the limit of Queue. TCP: the backlog; the kernel refuses a connection when Queue is greater. UDP: the
	// bytes of the receive buffer.
	QueueLimit uint64
	// IPv6Only reports whether an IPv6 socket does not accept IPv4.
	IPv6Only bool
	// Loopback reports whether the socket is bound to an interface that reaches only this host: one with the flag IFF_LOOPBACK, or
	// one that is gone.
	Loopback bool
	// Interface is the index of the interface that the socket is bound to, or 0; Device is that interface's name, or [DeviceGone].
	Interface uint32
	Device    string
	// Cgroup is the ID of the cgroup in which the socket was made, or 0: the inode of a directory of the cgroup2 hierarchy.
	Cgroup uint64
}

// DeviceGone is the Device of a socket that is bound to an interface which no longer exists: nothing reaches it. An interface that
// is called so has another Device: \x28gone).
//
// The kernel may give the index of the interface to a later one. Then the socket is bound to that.
const DeviceGone = "(gone)"

// Source reads the listening sockets of one network namespace. It is used by one goroutine at a time.
type Source interface {
	// Name is how the kernel is asked: the value of the source label.
	Name() string
	// Detailed reports whether the source fills in every field of a Socket.
	Detailed() bool
	// Read returns the sockets that listen now. They are valid until the next call of Read or Confirm for the protocol. If same is
	// true, they equal in each field those that the last call returned; if it is false, they may do so too.
	Read(proto Protocol) (sockets []Socket, same bool, err error)
	// Confirm asks again for sockets that an earlier Read returned and the last one did not. It returns those that are there after
	// all, and may return others that listen. Without missing sockets it is Read.
	Confirm(proto Protocol, missing []Socket) ([]Socket, error)
	// BindV6Only reports whether an IPv6 wildcard socket whose IPv6Only is not known refuses IPv4 unless it asked for it
	// (net.ipv6.bindv6only). It returns false, the kernel's default, if it cannot be read. It may be called during a Read.
	BindV6Only() bool
	// PortRanges returns the namespace's port ranges. With an error it returns the kernel's defaults.
	PortRanges() (PortRanges, error)
}
