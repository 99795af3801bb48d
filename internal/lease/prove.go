//go:build linux

package lease

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// prove binds a port once, of each protocol and to all addresses, and lets go of it. An error is why the port is not free. It is an errno
// of the kernel, such as EADDRINUSE.
//
// Without SO_REUSEADDR and SO_REUSEPORT the kernel refuses a port that any socket is bound to, whether it listens or not. It also refuses
// one with closed connections (TIME_WAIT). With SO_REUSEADDR it would not, but neither would it a port that somebody is about to listen on.
func prove(port uint16) error {
	if err := bindAny(unix.SOCK_STREAM, port); err != nil {
		return err
	}
	return bindAny(unix.SOCK_DGRAM, port)
}

// proven reports whether all ports of a lease are proven free.
func proven(l *Lease) bool {
	return !slices.ContainsFunc(l.Ports, func(port uint16) bool { return prove(port) != nil })
}

// bindAny binds a socket to [::], which includes 0.0.0.0, or to that on a host without IPv6.
func bindAny(kind int, port uint16) error {
	err := bindOnce(unix.AF_INET6, kind, &unix.SockaddrInet6{Port: int(port)})
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return bindOnce(unix.AF_INET, kind, &unix.SockaddrInet4{Port: int(port)})
	}
	return err
}

func bindOnce(family, kind int, to unix.Sockaddr) (err error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	return unix.Bind(fd, to)
}

const inUse = "in use"

// whyNot says why a port could not be bound.
func whyNot(err error) string {
	if errors.Is(err, unix.EADDRINUSE) {
		return inUse
	}
	return fmt.Sprintf("cannot be bound: %v", err)
}
