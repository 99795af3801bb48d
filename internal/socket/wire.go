//go:build linux

package socket

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiveTimeout ends a read that the kernel never answers. A dump is answered within the call that asks for it.
const receiveTimeout = 5 * time.Second

// deviceAttempts is how often an interface is asked for that goes or is renamed between the two requests.
const deviceAttempts = 3

// wire is a netlink socket that is opened when it is needed. It is written by hand, and fuzzed, because mdlayher/netlink allocates
// for each message: with 10 000 listeners a snapshot would take megabytes, not hundreds of bytes.
type wire struct {
	// The system calls, which tests replace. A socket sees the network namespace in which it was dialled.
	dial func() (fd int, err error)
	// A message without an address goes to the kernel.
	send    func(fd int, message []byte) (int, error)
	receive func(fd int, buffer []byte) (length int, sender uint32, err error)

	fd   int    // -1 while it is closed
	port uint32 // the socket's netlink address, which the kernel gives it
}

// dialSockDiag opens a socket that sees the network namespace of the calling thread.
func dialSockDiag() (fd int, err error) {
	return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
}

// receive reads a datagram. length is its whole length, which is greater than the buffer's if it does not fit. sender is the
// netlink port it came from: the kernel's is 0. unix.Recvfrom does the same, but allocates an address each time.
func receive(fd int, buffer []byte) (length int, sender uint32, err error) {
	var from unix.RawSockaddrNetlink
	fromLength := uint32(unix.SizeofSockaddrNetlink)
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(buffer))), uintptr(len(buffer)), unix.MSG_TRUNC,
		uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&fromLength)))
	switch {
	case errno != 0:
		return 0, 0, errno
	case from.Family != unix.AF_NETLINK:
		return 0, 0, fmt.Errorf("a datagram from the address family %d, want %d", from.Family, unix.AF_NETLINK)
	}
	return int(n), from.Pid, nil
}

// open opens the socket, if it is not.
func (w *wire) open() error {
	if w.fd >= 0 {
		return nil
	}
	fd, err := w.dial()
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	w.fd = fd
	timeout := unix.NsecToTimeval(receiveTimeout.Nanoseconds())
	if err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
	); err != nil {
		w.close()
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	address, err := unix.Getsockname(fd)
	own, ok := address.(*unix.SockaddrNetlink)
	if !ok { // there is no address
		w.close()
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	w.port = own.Pid
	return nil
}

// close closes the socket, and discards what is on its way.
func (w *wire) close() {
	if w.fd >= 0 {
		_ = unix.Close(w.fd)
		w.fd = -1
	}
}

// device is what is known of an interface that sockets are bound to.
type device struct {
	name     string
	loopback bool // nothing but this host reaches it
}

// device returns the interface with an index, which is not 0. A socket stays bound to an interface that is gone. The wire must be
// open.
func (w *wire) device(index uint32) (device, error) {
	request, err := unix.NewIfreq("")
	if err != nil {
		return device{}, err
	}
	for range deviceAttempts {
		request.SetUint32(index)
		err = unix.IoctlIfreq(w.fd, unix.SIOCGIFNAME, request) // writes the name into the request
		if errors.Is(err, unix.ENODEV) {
			return device{name: DeviceGone, loopback: true}, nil
		}
		if err == nil {
			err = unix.IoctlIfreq(w.fd, unix.SIOCGIFFLAGS, request)
		}
		if err == nil {
			return device{name: escaped(request.Name()), loopback: request.Uint16()&unix.IFF_LOOPBACK != 0}, nil
		}
	}
	return device{}, fmt.Errorf("ask for network interface %d: %w", index, err)
}

// escaped returns an interface's name, which may be any bytes, as valid UTF-8 that is not [DeviceGone]. It writes a byte that is
// not UTF-8 as \xNN, and likewise the backslash of a text that looks like that, so that different names stay different.
// wording.Printable does not promise that: here the name is a label.
func escaped(name string) string {
	if name == DeviceGone {
		return `\x28` + name[1:]
	}
	if utf8.ValidString(name) && !strings.Contains(name, `\x`) {
		return name
	}
	var b strings.Builder
	for len(name) > 0 {
		r, size := utf8.DecodeRuneInString(name)
		if r == utf8.RuneError && size == 1 || strings.HasPrefix(name, `\x`) {
			fmt.Fprintf(&b, `\x%02x`, name[0])
		} else {
			b.WriteString(name[:size])
		}
		name = name[size:]
	}
	return b.String()
}
