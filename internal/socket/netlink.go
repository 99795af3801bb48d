//go:build linux

package socket

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer holds any datagram of a dump: the kernel makes them at most 32 KiB long (netlink_dump in
	// net/netlink/af_netlink.c).
	receiveBuffer = 64 << 10
	// dumpAttempts is how often an interrupted dump is tried.
	dumpAttempts = 4
	// maxLookups is how many sockets are looked up one by one, at some microseconds each. More are confirmed by a second dump, which
	// can lack the same socket again: next to very busy neighbours, a read was seen to lack 192 at once.
	maxLookups = 2000
)

var families = [...]uint8{unix.AF_INET, unix.AF_INET6}

// Netlink asks sock_diag(7) for the listening sockets of one network namespace. It needs no privilege. The cost of a TCP dump
// grows only with the namespace's listeners, that of a UDP dump with its UDP sockets.
type Netlink struct {
	wire
	sysctls  sysctls
	sequence uint32
	request  []byte
	buffer   []byte
	tables   map[Protocol]*netlinkTable
}

// netlinkTable has the last dumps of one protocol.
type netlinkTable struct {
	readings [len(families)]*reading
	sockets  []Socket          // of all families
	devices  map[uint32]device // to which they are bound, by index
	behind   bool              // a read failed halfway: the readings may be newer than sockets
}

var _ Source = (*Netlink)(nil)

// OpenNetlink returns a source of the exporter's own network namespace, and tries it: an error means that the kernel has no
// sock_diag for one of the protocols, or that a part of it is forbidden here. procfs is where the procfs is mounted.
func OpenNetlink(procfs string, protocols ...Protocol) (*Netlink, error) {
	n := newNetlink(procfs, here, make([]byte, receiveBuffer), protocols...)
	if err := n.try(protocols); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// newNetlink returns a source that has not been tried. inside calls a function with the calling thread in the network namespace that
// it reads. Sources that take turns can share the buffer, which has receiveBuffer bytes.
//
// The source may be closed after each Read and Confirm: it opens itself again.
func newNetlink(procfs string, inside func(do func() error) error, buffer []byte, protocols ...Protocol) *Netlink {
	dial := func() (fd int, err error) {
		err = inside(func() (err error) {
			fd, err = dialSockDiag()
			return err
		})
		return fd, err
	}
	n := &Netlink{
		wire:    wire{dial: dial, send: unix.Write, receive: receive, fd: -1},
		sysctls: sysctls{procfs: procfs, inside: inside},
		buffer:  buffer,
		tables:  make(map[Protocol]*netlinkTable),
	}
	for _, proto := range protocols {
		n.tables[proto] = &netlinkTable{readings: [...]*reading{newReading(), newReading()}}
	}
	return n
}

// here calls a function on any thread of the exporter's own network namespace.
func here(do func() error) error { return do() }

// try does once everything that a Read may do.
func (n *Netlink) try(protocols []Protocol) error {
	for _, proto := range protocols {
		if _, _, err := n.Read(proto); err != nil {
			return err
		}
	}
	if n.fd < 0 { // nothing is read
		return nil
	}
	// There may be no socket that is bound to an interface yet. The index 1 is the loopback's; it need not exist.
	_, err := n.device(1)
	return err
}

// Name returns "netlink".
func (n *Netlink) Name() string { return "netlink" }

// Detailed returns true.
func (n *Netlink) Detailed() bool { return true }

// BindV6Only returns false: each socket has its own IPv6Only.
func (n *Netlink) BindV6Only() bool { return false }

// PortRanges implements Source.
func (n *Netlink) PortRanges() (PortRanges, error) { return n.sysctls.portRanges() }

// Read implements Source.
func (n *Netlink) Read(proto Protocol) (sockets []Socket, same bool, err error) {
	table := n.tables[proto]
	if table == nil {
		return nil, false, fmt.Errorf("ask sock_diag for listening sockets: the source was not opened for %s", proto)
	}
	same = !table.behind
	table.behind = true
	for i, family := range families {
		sameFamily, err := n.dump(table.readings[i], family, proto)
		if err != nil {
			return nil, false, fmt.Errorf("ask sock_diag for %s sockets of %s: %w", proto, familyName(family), err)
		}
		same = same && sameFamily
	}
	if !same {
		table.sockets = slices.Grow(table.sockets[:0], len(table.readings[0].last.sockets)+len(table.readings[1].last.sockets))
		for _, r := range table.readings {
			table.sockets = append(table.sockets, r.last.sockets...)
		}
	}
	changed, err := n.fillDevices(table, same)
	if err != nil {
		return nil, false, err
	}
	table.behind = false
	return table.sockets, same && !changed, nil
}

// Confirm implements Source. It looks up each socket if that is exact and cheap, and otherwise dumps a second time.
func (n *Netlink) Confirm(proto Protocol, missing []Socket) ([]Socket, error) {
	var there []Socket
	unsure := len(missing) == 0 || len(missing) > maxLookups
	if !unsure {
		for _, s := range missing {
			found, ok, err := n.lookup(s, proto)
			switch {
			case err != nil:
				return nil, fmt.Errorf("ask sock_diag for the %s socket on %s: %w", proto, s.Addr, err)
			case !ok:
				// A UDP socket that was once connected may keep the remote address. Then no lookup finds it.
				unsure = unsure || proto == UDP
			case found.ID == s.ID:
				if found.Interface != 0 {
					on, err := n.device(found.Interface)
					if err != nil {
						return nil, err
					}
					found.Device, found.Loopback = on.name, on.loopback
				}
				there = append(there, found)
			default:
				// Another socket gets the packets: one that shares the port, or one on a wildcard address. Only a dump shows
				// whether the missing socket is there too.
				unsure = true
			}
		}
	}
	if !unsure {
		return there, nil
	}
	sockets, _, err := n.Read(proto)
	if len(there) == 0 {
		return sockets, err
	}
	return append(there, sockets...), err
}

// fillDevices fills in what is known of the interfaces that sockets are bound to, and reports whether that changed. Interfaces
// are renamed, and their indexes reused: the answer is good for one read.
func (n *Netlink) fillDevices(table *netlinkTable, same bool) (changed bool, err error) {
	if same && len(table.devices) == 0 {
		return false, nil
	}
	devices := make(map[uint32]device)
	for i := range table.sockets {
		s := &table.sockets[i]
		if s.Interface == 0 {
			continue
		}
		on, known := devices[s.Interface]
		if !known {
			if on, err = n.device(s.Interface); err != nil {
				return false, err
			}
			devices[s.Interface] = on
		}
		s.Device, s.Loopback = on.name, on.loopback
	}
	changed = !maps.Equal(devices, table.devices)
	table.devices = devices
	return changed, nil
}

// dump reads the listening sockets of one family. It discards an interrupted dump.
func (n *Netlink) dump(r *reading, family uint8, proto Protocol) (same bool, err error) {
	for range dumpAttempts {
		x, openErr := n.begin(family, proto)
		if openErr != nil {
			return false, openErr
		}
		n.request = x.appendDump(n.request[:0])
		r.begin()
		if err = n.exchange(r, x, false); err == nil {
			_, same = r.end()
			return same, nil
		}
		n.close() // discards what of the dump is still on its way
		if !errors.Is(err, errInterrupted) && !errors.Is(err, unix.ENOBUFS) {
			return false, err
		}
	}
	return false, fmt.Errorf("%d times: %w", dumpAttempts, err)
}

// lookup asks for the socket that gets the packets for the address of s. ok is false if there is none. A socket of another family
// or state, which cannot be s, is returned without an ID.
func (n *Netlink) lookup(s Socket, proto Protocol) (found Socket, ok bool, err error) {
	family := uint8(unix.AF_INET)
	if s.Addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	x, err := n.begin(family, proto)
	if err != nil {
		return Socket{}, false, err
	}
	n.request = x.appendLookup(n.request[:0], s.Addr, s.Interface)
	r := newReading()
	err = n.exchange(r, x, true)
	switch {
	case errors.Is(err, unix.ENOENT):
		return Socket{}, false, nil
	case errors.Is(err, errOtherFamily): // a dual-stack socket
		return Socket{}, true, nil
	case err != nil:
		n.close()
		return Socket{}, false, err
	}
	sockets, _ := r.end()
	if len(sockets) == 0 { // one in another state
		return Socket{}, true, nil
	}
	return sockets[0], true, nil
}

// begin returns the next exchange.
func (n *Netlink) begin(family uint8, proto Protocol) (exchange, error) {
	if err := n.open(); err != nil {
		return exchange{}, err
	}
	n.sequence++
	return exchange{family: family, proto: proto, sequence: n.sequence, port: n.port}, nil
}

// exchange sends the request and reads the replies: until the end of a dump or, with single, one reply.
func (n *Netlink) exchange(r *reading, x exchange, single bool) error {
	if _, err := n.send(n.fd, n.request); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	for {
		length, sender, err := n.receive(n.fd, n.buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("no answer within %s", receiveTimeout)
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case sender != 0: // not from the kernel
			continue
		case length > len(n.buffer):
			return fmt.Errorf("netlink datagram of %d bytes does not fit into %d", length, len(n.buffer))
		}
		done, err := x.read(r, n.buffer[:length])
		if err != nil {
			return err
		}
		if done || single && r.answered {
			return nil
		}
	}
}

func familyName(family uint8) string {
	if family == unix.AF_INET6 {
		return "IPv6"
	}
	return "IPv4"
}
