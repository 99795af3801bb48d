//go:build linux

package event

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// key is struct place of programs/listeners.c.
type key struct {
	Netns, Interface uint32
	Port             uint16
	Family, Proto    uint8
	Addr             [16]byte // an IPv4 address is in the first four
}

// state is struct state there.
type state struct {
	Connections, Last uint64
	Sockets, _        uint32
}

func keyOf(p Place) key {
	k := key{Netns: p.Netns, Interface: p.Interface, Port: p.Addr.Port(), Family: unix.AF_INET6, Proto: uint8(p.Proto)}
	if addr := p.Addr.Addr(); addr.Is4() {
		k.Family = unix.AF_INET
		copy(k.Addr[:], addr.AsSlice())
	} else {
		k.Addr = addr.As16()
	}
	return k
}

func (k key) place() (Place, error) {
	p := Place{Proto: socket.Protocol(k.Proto), Netns: k.Netns, Interface: k.Interface}
	switch k.Family {
	case unix.AF_INET:
		p.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(k.Addr[:4])), k.Port)
	case unix.AF_INET6:
		p.Addr = netip.AddrPortFrom(netip.AddrFrom16(k.Addr), k.Port)
	default:
		return Place{}, fmt.Errorf("address family %d is unknown", k.Family)
	}
	if p.Proto != socket.TCP && p.Proto != socket.UDP {
		return Place{}, fmt.Errorf("%v is unknown", p.Proto)
	}
	return p, nil
}

// recordSize is the size of struct event in programs/listeners.c, in bytes.
const recordSize = 80

// decode decodes a struct event, which is in the byte order of the machine.
func decode(record []byte) (Event, error) {
	if len(record) != recordSize {
		return Event{}, fmt.Errorf("event record: %d bytes, want %d", len(record), recordSize)
	}
	order := binary.NativeEndian
	k := key{
		Netns:     order.Uint32(record[32:]),
		Interface: order.Uint32(record[36:]),
		Port:      order.Uint16(record[40:]),
		Family:    record[42],
		Proto:     record[43],
		Addr:      [16]byte(record[44:60]),
	}
	place, err := k.place()
	if err != nil {
		return Event{}, fmt.Errorf("event record: %w", err)
	}
	e := Event{
		Kind:   Kind(record[60]),
		Others: record[61] != 0,
		Time:   time.Duration(order.Uint64(record)),
		Place:  place,
		Cgroup: order.Uint64(record[16:]),
		PID:    order.Uint32(record[24:]),
		UID:    order.Uint32(record[28:]),
	}
	switch e.Kind {
	case Opened:
	case Closed:
		e.Opened = time.Duration(order.Uint64(record[8:]))
	default:
		return Event{}, fmt.Errorf("event record: kind %d is unknown", e.Kind)
	}
	comm, _, _ := bytes.Cut(record[64:], []byte{0})
	e.Comm = string(comm)
	return e, nil
}
