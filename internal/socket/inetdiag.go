//go:build linux

package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Sizes of the kernel's structures, in bytes.
const (
	headerLength  = unix.SizeofNlMsghdr // struct nlmsghdr, include/uapi/linux/netlink.h
	requestLength = 56                  // struct inet_diag_req_v2, include/uapi/linux/inet_diag.h
	replyLength   = 72                  // struct inet_diag_msg, include/uapi/linux/inet_diag.h
	attrLength    = unix.SizeofNlAttr   // struct nlattr
	memInfoLength = 4 * unix.SK_MEMINFO_VARS
)

// Offsets into struct inet_diag_msg.
const (
	replyState      = 1
	replySourcePort = 4
	replySource     = 8
	replyInterface  = 40
	replyCookie     = 44
	replyReadQueue  = 56
	replyWriteQueue = 60
	replyUID        = 64
	replyInode      = 68
	sockidLength    = 48
)

// Attributes of a reply (include/uapi/linux/inet_diag.h).
const (
	attrSKMemInfo = 7
	attrSKV6Only  = 11
	attrCgroupID  = 21 // since Linux 5.9
)

// attrTypeMask leaves the type of an attribute without its flags (NLA_TYPE_MASK).
const attrTypeMask = 0x3fff

// noCookie asks for a socket whatever its cookie (INET_DIAG_NOCOOKIE).
const noCookie = ^uint64(0)

// errInterrupted means that the kernel's tables changed during the dump, which may have missed a socket.
var errInterrupted = errors.New("the dump was interrupted")

// errOtherFamily means a reply about a socket of another address family than the one that was asked for.
var errOtherFamily = errors.New("sock_diag reply of another address family")

// exchange is one request to sock_diag, and what identifies its replies.
type exchange struct {
	family   uint8 // AF_INET or AF_INET6
	proto    Protocol
	sequence uint32
	port     uint32 // the netlink port of the socket that asks
}

// appendDump appends the request for all listening sockets of the exchange's family and protocol.
func (x exchange) appendDump(dst []byte) []byte {
	return x.appendRequest(dst, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 1<<listenState(x.proto), [sockidLength]byte{})
}

// appendLookup appends the request for the socket that listens on an address, bound to an interface or, with 0, to none. The
// kernel may answer with a wildcard socket instead.
func (x exchange) appendLookup(dst []byte, addr netip.AddrPort, device uint32) []byte {
	// As a packet would find it: TCP has the listener in the source, UDP in the destination
	// (inet_diag_find_one_icsk in net/ipv4/inet_diag.c, udp_dump_one in net/ipv4/udp_diag.c).
	var id [sockidLength]byte
	port, ip := id[0:2], id[4:20]
	if x.proto == UDP {
		port, ip = id[2:4], id[20:36]
	}
	binary.BigEndian.PutUint16(port, addr.Port())
	copy(ip, addr.Addr().AsSlice())
	binary.NativeEndian.PutUint32(id[36:40], device)
	binary.NativeEndian.PutUint64(id[40:48], noCookie)
	return x.appendRequest(dst, unix.NLM_F_REQUEST, ^uint32(0), id)
}

func (x exchange) appendRequest(dst []byte, flags uint16, states uint32, id [sockidLength]byte) []byte {
	dst = binary.NativeEndian.AppendUint32(dst, headerLength+requestLength)
	dst = binary.NativeEndian.AppendUint16(dst, unix.SOCK_DIAG_BY_FAMILY)
	dst = binary.NativeEndian.AppendUint16(dst, flags)
	dst = binary.NativeEndian.AppendUint32(dst, x.sequence)
	dst = binary.NativeEndian.AppendUint32(dst, x.port)
	dst = append(dst, x.family, uint8(x.proto), 1<<(attrSKMemInfo-1), 0)
	dst = binary.NativeEndian.AppendUint32(dst, states)
	return append(dst, id[:]...)
}

// read adds the sockets of a datagram from the kernel to r. done reports whether the dump ends with it.
//
// It fails if a message is cut short, if it is an error of any form, or if the dump was interrupted: a part of the sockets must not
// look like all of them. It skips messages of another exchange, such as one that was given up.
func (x exchange) read(r *reading, datagram []byte) (done bool, err error) {
	for len(datagram) > 0 {
		if len(datagram) < headerLength {
			return false, fmt.Errorf("netlink message of %d bytes: shorter than its header", len(datagram))
		}
		length := binary.NativeEndian.Uint32(datagram)
		if length < headerLength || uint64(length) > uint64(len(datagram)) {
			return false, fmt.Errorf("netlink message claims %d bytes, but there are %d", length, len(datagram))
		}
		header, payload := datagram[:headerLength], datagram[headerLength:length]
		datagram = datagram[min(align(int(length)), len(datagram)):]

		if binary.NativeEndian.Uint32(header[8:]) != x.sequence || binary.NativeEndian.Uint32(header[12:]) != x.port {
			continue
		}
		if flags := binary.NativeEndian.Uint16(header[6:]); flags&unix.NLM_F_DUMP_INTR != 0 {
			return false, errInterrupted
		}
		switch kind := binary.NativeEndian.Uint16(header[4:]); kind {
		case unix.NLMSG_NOOP:
		case unix.NLMSG_DONE:
			// A dump that fails halfway says so here.
			if err := errorCode("end of dump", payload, true); err != nil {
				return false, err
			}
			return true, nil
		case unix.NLMSG_ERROR:
			return false, errorCode("netlink error", payload, false)
		case unix.SOCK_DIAG_BY_FAMILY:
			r.answered = true
			if r.repeats(payload) {
				continue
			}
			s, listens, err := x.parse(payload)
			if err != nil {
				return false, err
			}
			if listens {
				r.add(s, payload)
			}
		default:
			return false, fmt.Errorf("netlink message of the unexpected type %d", kind)
		}
	}
	return false, nil
}

// errorCode returns the error that a message's payload begins with: a negative errno, or 0 where that may be.
func errorCode(what string, payload []byte, zeroIsNone bool) error {
	if len(payload) < 4 {
		return fmt.Errorf("%s: %d bytes are no error code", what, len(payload))
	}
	code := int32(binary.NativeEndian.Uint32(payload))
	switch {
	case code < 0:
		return fmt.Errorf("%s: %w", what, unix.Errno(-code))
	case code == 0 && zeroIsNone:
		return nil
	default:
		return fmt.Errorf("%s: unexpected code %d", what, code)
	}
}

// parse reads a struct inet_diag_msg and its attributes. listens is false for a socket in another state.
func (x exchange) parse(reply []byte) (s Socket, listens bool, err error) {
	if len(reply) < replyLength {
		return Socket{}, false, fmt.Errorf("sock_diag reply of %d bytes, want at least %d", len(reply), replyLength)
	}
	if family := reply[0]; family != x.family {
		return Socket{}, false, fmt.Errorf("%w: %d, want %d", errOtherFamily, family, x.family)
	}
	if reply[replyState] != listenState(x.proto) {
		return Socket{}, false, nil
	}
	var ip netip.Addr
	if x.family == unix.AF_INET {
		ip = netip.AddrFrom4([4]byte(reply[replySource:]))
	} else {
		ip = netip.AddrFrom16([16]byte(reply[replySource:]))
	}
	s = Socket{
		Addr:      netip.AddrPortFrom(ip, binary.BigEndian.Uint16(reply[replySourcePort:])),
		ID:        binary.NativeEndian.Uint64(reply[replyCookie:]),
		Queue:     uint64(binary.NativeEndian.Uint32(reply[replyReadQueue:])),
		UID:       binary.NativeEndian.Uint32(reply[replyUID:]),
		Inode:     uint64(binary.NativeEndian.Uint32(reply[replyInode:])),
		Interface: binary.NativeEndian.Uint32(reply[replyInterface:]),
	}
	if x.proto == TCP {
		s.QueueLimit = uint64(binary.NativeEndian.Uint32(reply[replyWriteQueue:]))
	}
	return s, true, x.parseAttributes(&s, reply[replyLength:])
}

func (x exchange) parseAttributes(s *Socket, attrs []byte) error {
	hasMemInfo := false
	for len(attrs) > 0 {
		if len(attrs) < attrLength {
			return fmt.Errorf("sock_diag attribute of %d bytes: shorter than its header", len(attrs))
		}
		length := int(binary.NativeEndian.Uint16(attrs))
		if length < attrLength || length > len(attrs) {
			return fmt.Errorf("sock_diag attribute claims %d bytes, but there are %d", length, len(attrs))
		}
		kind, value := binary.NativeEndian.Uint16(attrs[2:])&attrTypeMask, attrs[attrLength:length]
		attrs = attrs[min(align(length), len(attrs)):]

		switch kind {
		case attrSKMemInfo:
			if len(value) < memInfoLength {
				return fmt.Errorf("sock_diag attribute SKMEMINFO of %d bytes, want %d", len(value), memInfoLength)
			}
			hasMemInfo = true
			s.Drops = binary.NativeEndian.Uint32(value[4*unix.SK_MEMINFO_DROPS:])
			if x.proto == UDP {
				s.QueueLimit = uint64(binary.NativeEndian.Uint32(value[4*unix.SK_MEMINFO_RCVBUF:]))
			}
		case attrSKV6Only:
			if len(value) < 1 {
				return errors.New("sock_diag attribute SKV6ONLY is empty")
			}
			s.IPv6Only = value[0] != 0
		case attrCgroupID:
			if len(value) < 8 {
				return fmt.Errorf("sock_diag attribute CGROUP_ID of %d bytes, want 8", len(value))
			}
			s.Cgroup = binary.NativeEndian.Uint64(value)
		}
	}
	if !hasMemInfo {
		return errors.New("sock_diag reply without the attribute SKMEMINFO, which was asked for")
	}
	return nil
}

// listenState returns the state of a protocol's listening sockets.
func listenState(proto Protocol) uint8 {
	if proto == UDP {
		return stateClose
	}
	return stateListen
}

// align rounds a length up to the next message or attribute (NLMSG_ALIGN, NLA_ALIGN).
func align(length int) int { return (length + 3) &^ 3 }
