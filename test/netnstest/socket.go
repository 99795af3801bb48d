//go:build linux

package netnstest

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Option is a socket option that is set before the socket is bound.
type Option struct {
	level, name int
	text        string // the value, if it is not 1
}

// ReusePort returns the option that lets several sockets share a port.
func ReusePort() Option { return Option{level: unix.SOL_SOCKET, name: unix.SO_REUSEPORT} }

// IPv6Only returns the option that keeps IPv4 from an IPv6 wildcard socket.
func IPv6Only() Option { return Option{level: unix.IPPROTO_IPV6, name: unix.IPV6_V6ONLY} }

// ToDevice returns the option that binds a socket to an interface. It needs no privilege since Linux 5.7.
func ToDevice(name string) Option {
	return Option{level: unix.SOL_SOCKET, name: unix.SO_BINDTODEVICE, text: name}
}

func (o Option) set(fd int) error {
	if o.text != "" {
		return unix.SetsockoptString(fd, o.level, o.name, o.text)
	}
	return unix.SetsockoptInt(fd, o.level, o.name, 1)
}

// Bind opens a socket, tcp or udp, and binds it. An IPv4-mapped address makes an IPv6 socket; a zone names an interface.
//
// It returns a bare descriptor, which the caller closes. The garbage collector does not, as it would close a net.Listener.
func Bind(proto, address string, options ...Option) (fd int, err error) {
	end, err := netip.ParseAddrPort(address)
	if err != nil {
		return -1, err
	}
	local, family, err := sockaddr(end)
	if err != nil {
		return -1, err
	}
	kind := unix.SOCK_STREAM
	if proto == "udp" {
		kind = unix.SOCK_DGRAM
	} else { // connections of an earlier socket do not matter
		options = append([]Option{{level: unix.SOL_SOCKET, name: unix.SO_REUSEADDR}}, options...)
	}
	fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a %s socket: %w", proto, err)
	}
	for _, option := range options {
		if err := option.set(fd); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("set option %v of a %s socket: %w", option, proto, err)
		}
	}
	if err := unix.Bind(fd, local); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("bind a %s socket to %s: %w", proto, address, err)
	}
	return fd, nil
}

// Listen is [Bind], after which a TCP socket also listens.
func Listen(proto, address string, options ...Option) (fd int, err error) {
	fd, err = Bind(proto, address, options...)
	if err != nil || proto == "udp" {
		return fd, err
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen on %s: %w", address, err)
	}
	return fd, nil
}

func sockaddr(end netip.AddrPort) (unix.Sockaddr, int, error) {
	addr := end.Addr()
	if addr.Is4() {
		return &unix.SockaddrInet4{Port: int(end.Port()), Addr: addr.As4()}, unix.AF_INET, nil
	}
	zone := uint32(0)
	if addr.Zone() != "" {
		device, err := net.InterfaceByName(addr.Zone())
		if err != nil {
			return nil, 0, fmt.Errorf("interface %s: %w", addr.Zone(), err)
		}
		zone = uint32(device.Index)
	}
	return &unix.SockaddrInet6{Port: int(end.Port()), Addr: addr.As16(), ZoneId: zone}, unix.AF_INET6, nil
}

// Connect connects a socket to an address.
func Connect(fd int, address string) error {
	end, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	remote, _, err := sockaddr(end)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, remote); err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	return nil
}

// Disconnect takes a UDP socket's remote end away: connect(2) with an address of the family AF_UNSPEC, for which package unix
// has no type.
func Disconnect(fd int) error {
	unspecified := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspecified)), unsafe.Sizeof(unspecified))
	if errno != 0 {
		return fmt.Errorf("disconnect: %w", errno)
	}
	return nil
}
