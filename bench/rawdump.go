package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawDump is the least that a dump of the listening sockets can cost: it sends the product's requests, receives, and steps from
// message to message without parsing any.
type rawDump struct {
	fd     int
	buffer [64 << 10]byte
}

func openRawDump() (*rawDump, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	return &rawDump{fd: fd}, nil
}

// dumpRequest is struct nlmsghdr and struct inet_diag_req_v2.
func dumpRequest(family, proto uint8, states uint32) (request [72]byte) {
	binary.NativeEndian.PutUint32(request[0:], uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[16], request[17] = family, proto
	request[18] = 1 << 6 // INET_DIAG_SKMEMINFO
	binary.NativeEndian.PutUint32(request[20:], states)
	return request
}

// all dumps both protocols of both families and returns how many sockets there were.
func (d *rawDump) all(protocols ...uint8) (sockets int, err error) {
	for _, proto := range protocols {
		states := uint32(1 << 10) // LISTEN
		if proto == unix.IPPROTO_UDP {
			states = 1 << 7 // CLOSE
		}
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			n, err := d.one(dumpRequest(family, proto, states))
			if err != nil {
				return 0, err
			}
			sockets += n
		}
	}
	return sockets, nil
}

func (d *rawDump) one(request [72]byte) (sockets int, err error) {
	if _, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(d.fd),
		uintptr(unsafe.Pointer(&request)), unsafe.Sizeof(request), 0, 0, 0); errno != 0 {
		return 0, fmt.Errorf("sendto: %w", errno)
	}
	for {
		length, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(d.fd),
			uintptr(unsafe.Pointer(&d.buffer)), unsafe.Sizeof(d.buffer), 0, 0, 0)
		if errno != 0 {
			return 0, fmt.Errorf("recvfrom: %w", errno)
		}
		for datagram := d.buffer[:length]; len(datagram) >= unix.SizeofNlMsghdr; sockets++ {
			size := int(binary.NativeEndian.Uint32(datagram))
			switch kind := binary.NativeEndian.Uint16(datagram[4:]); {
			case kind == unix.NLMSG_DONE:
				return sockets, nil
			case kind == unix.NLMSG_ERROR, size < unix.SizeofNlMsghdr, size > len(datagram):
				return 0, errors.New("the dump failed")
			}
			datagram = datagram[min((size+3)&^3, len(datagram)):]
		}
	}
}
