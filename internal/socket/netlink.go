package socket

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer holds any datagram of a dump: the kernel makes them at most 32 KiB long (netlink_dump in
	// net/netlink/af_netlink.c).
	receiveBuffer = 64 << 10
	// receiveTimeout ends a read that the kernel never answers. A dump is answered within the call that asks for it.
	receiveTimeout = 5 * time.Second
	// dumpAttempts is how often an interrupted dump is tried.
	dumpAttempts = 4
	// maxLookups is how many sockets are looked up one by one, at some microseconds each. Beyond it a second dump has to do,
	// which can lack the same socket again: beside very busy neighbours, a round was seen to lack 192 at once.
	maxLookups = 2000
)

var families = [...]uint8{unix.AF_INET, unix.AF_INET6}

// Netlink asks sock_diag(7) for the listening sockets of the exporter's own network namespace. It needs no privilege. A TCP
// dump costs the host's listeners alone, a UDP dump the host's UDP sockets.
type Netlink struct {
	ranges   *portRangeFiles
	fd       int // -1 after a failure, until it is opened again
	port     uint32
	sequence uint32
	request  []byte
	buffer   []byte
	tables   map[Protocol]*netlinkTable
}

// netlinkTable is what the dumps of one protocol said.
type netlinkTable struct {
	readings [len(families)]*reading
	sockets  []Socket // of all families
	devices  map[uint32]string
	behind   bool // a read failed on its way: the readings may have moved on without sockets
}

var _ Source = (*Netlink)(nil)

// OpenNetlink returns a source after a trial: an error means that the kernel has no sock_diag for each of the protocols, or
// that it is forbidden here. procfs is where the procfs is mounted.
func OpenNetlink(procfs string, protocols ...Protocol) (*Netlink, error) {
	n := &Netlink{
		ranges: newPortRangeFiles(procfs),
		fd:     -1,
		buffer: make([]byte, receiveBuffer),
		tables: make(map[Protocol]*netlinkTable),
	}
	for _, proto := range protocols {
		n.tables[proto] = &netlinkTable{readings: [...]*reading{newReading(), newReading()}}
		if _, _, err := n.Read(proto); err != nil {
			n.close()
			return nil, err
		}
	}
	return n, nil
}

// Name returns "netlink".
func (n *Netlink) Name() string { return "netlink" }

// Detailed returns true.
func (n *Netlink) Detailed() bool { return true }

// PortRanges returns the namespace's port ranges.
func (n *Netlink) PortRanges() (PortRanges, error) { return n.ranges.read() }

// Read implements Source.
func (n *Netlink) Read(proto Protocol) (sockets []Socket, same bool, err error) {
	table := n.tables[proto]
	if table == nil {
		return nil, false, fmt.Errorf("ask sock_diag for listening sockets: %s was not tried at the start", proto)
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
		table.sockets = table.sockets[:0]
		for _, r := range table.readings {
			table.sockets = append(table.sockets, r.last.sockets...)
		}
	}
	renamed, err := n.nameDevices(table, same)
	if err != nil {
		return nil, false, err
	}
	table.behind = false
	return table.sockets, same && !renamed, nil
}

// Confirm implements Source: by looking up each socket where that is exact and cheap, else by a second dump.
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
				// A UDP socket that was connected once may keep the remote address, and then no lookup finds it.
				unsure = unsure || proto == UDP
			case found.ID == s.ID:
				if found.Device, err = n.deviceName(found.Interface); err != nil {
					return nil, err
				}
				there = append(there, found)
			default:
				// Another socket takes the packets: one that shares the port, or one of a wildcard. Only a dump shows whether
				// the one that is asked for stands behind it.
				unsure = true
			}
		}
	}
	if !unsure {
		return there, nil
	}
	sockets, _, err := n.Read(proto)
	return append(there, sockets...), err
}

// nameDevices fills in the names of the interfaces that sockets are bound to, and tells whether one changed. Interfaces are
// renamed, and their indexes used again: a name holds for one read.
func (n *Netlink) nameDevices(table *netlinkTable, same bool) (renamed bool, err error) {
	if same && len(table.devices) == 0 {
		return false, nil
	}
	names := make(map[uint32]string)
	for i := range table.sockets {
		s := &table.sockets[i]
		if s.Interface == 0 {
			continue
		}
		name, known := names[s.Interface]
		if !known {
			if name, err = n.deviceName(s.Interface); err != nil {
				return false, err
			}
			names[s.Interface] = name
		}
		s.Device = name
	}
	renamed = !maps.Equal(names, table.devices)
	table.devices = names
	return renamed, nil
}

// deviceName returns an interface's name: none for the index 0, and the index itself where the interface is gone, behind which
// a socket may stay.
func (n *Netlink) deviceName(index uint32) (string, error) {
	if index == 0 {
		return "", nil
	}
	request, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	request.SetUint32(index)
	switch err := unix.IoctlIfreq(n.fd, unix.SIOCGIFNAME, request); {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return strconv.FormatUint(uint64(index), 10), nil
	case err != nil:
		return "", fmt.Errorf("name interface %d, to which a socket is bound: %w", index, err)
	}
	return request.Name(), nil
}

// dump reads the listening sockets of one family. What an interrupted dump said is thrown away.
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
		n.close() // with whatever of the dump is still on its way
		if !errors.Is(err, errInterrupted) && !errors.Is(err, unix.ENOBUFS) {
			return false, err
		}
	}
	return false, fmt.Errorf("%d times: %w", dumpAttempts, err)
}

// lookup asks for the socket that takes the packets of the place where s was. ok is false if there is none. A socket that
// cannot be s, because it is of another family or state, is found as one without an ID.
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
	if n.fd < 0 {
		if err := n.open(); err != nil {
			return exchange{}, err
		}
	}
	n.sequence++
	return exchange{family: family, proto: proto, sequence: n.sequence, port: n.port}, nil
}

// exchange sends the request and reads the replies: until the end of a dump or, with single, one reply.
func (n *Netlink) exchange(r *reading, x exchange, single bool) error {
	if err := unix.Sendto(n.fd, n.request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	for {
		length, from, err := unix.Recvfrom(n.fd, n.buffer, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("no answer within %s", receiveTimeout)
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case length > len(n.buffer):
			return fmt.Errorf("netlink datagram of %d bytes does not fit into %d", length, len(n.buffer))
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // not from the kernel
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

func (n *Netlink) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	n.fd = fd
	timeout := unix.NsecToTimeval(receiveTimeout.Nanoseconds())
	if err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
	); err != nil {
		n.close()
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		n.close()
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	n.port = address.(*unix.SockaddrNetlink).Pid
	return nil
}

func (n *Netlink) close() {
	if n.fd >= 0 {
		_ = unix.Close(n.fd)
		n.fd = -1
	}
}

func familyName(family uint8) string {
	if family == unix.AF_INET6 {
		return "IPv6"
	}
	return "IPv4"
}
