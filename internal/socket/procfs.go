//go:build linux

package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// table is one of the kernel's socket tables.
type table struct {
	file  string // below a process's net/ directory
	state uint64 // of the sockets that listen
	ipv6  bool   // IPv6 can be missing from a kernel (ipv6.disable=1), IPv4 cannot
	rows  rowForm
	read  func(procfs.FS) (procfs.NetIPSocket, error)
}

// tables are the tables that hold a protocol's sockets.
//
//nolint:staticcheck // SA1019: NetTCP and NetTCP6 are deprecated in favour of netlink, which needs the socket's own namespace and a diag module; the tables are the portable way, and work without either.
var tables = map[Protocol][]table{
	TCP: {
		{"tcp", stateListen, false, tcpRow, rowsOf(procfs.FS.NetTCP)},
		{"tcp6", stateListen, true, tcpRow, rowsOf(procfs.FS.NetTCP6)},
	},
	UDP: {
		{"udp", stateClose, false, udpRow, rowsOf(procfs.FS.NetUDP)},
		{"udp6", stateClose, true, udpRow, rowsOf(procfs.FS.NetUDP6)},
	},
}

// rowsOf gives all tables one type. The library panics on rows that are shorter than it expects; that is a failed read.
func rowsOf[T procfs.NetTCP | procfs.NetUDP](read func(procfs.FS) (T, error)) func(procfs.FS) (procfs.NetIPSocket, error) {
	return func(fs procfs.FS) (_ procfs.NetIPSocket, err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("the procfs library panicked: %v", r)
			}
		}()
		rows, err := read(fs)
		return procfs.NetIPSocket(rows), err
	}
}

// Procfs reads the socket tables below /proc/<pid>/net. It works for any namespace of which a process can be seen, and needs no
// privilege. Its cost grows with all sockets of the namespace, listening or not. A whole table is in memory while it is read,
// at some 300 bytes a socket.
type Procfs struct {
	dir string // /proc/<pid>
	// via is another path of the same directory, which is read instead of dir unless it is empty.
	via     string
	sysctls sysctls
	// foreign is set for a namespace that is one of many. A table without a socket is not read then: the kernel finds that out by a look
	// at all sockets of the host.
	foreign bool
}

var _ Source = (*Procfs)(nil)

// NewProcfs returns a source that reads the tables of the process with the directory dir. procfs is the procfs mount whose
// sys/net shows the same namespace, or empty if there is none.
func NewProcfs(dir, procfs string) *Procfs {
	return &Procfs{dir: dir, sysctls: sysctls{procfs: procfs, inside: here}}
}

// Name returns "procfs".
func (p *Procfs) Name() string { return "procfs" }

// Detailed returns false.
func (p *Procfs) Detailed() bool { return false }

// Confirm implements Source: the tables can only be read as a whole.
func (p *Procfs) Confirm(proto Protocol, _ []Socket) ([]Socket, error) {
	sockets, _, err := p.Read(proto)
	return sockets, err
}

// BindV6Only implements Source.
func (p *Procfs) BindV6Only() bool { return p.sysctls.bindV6Only() }

// PortRanges returns the namespace's port ranges, or the kernel's defaults if its sysctls cannot be seen.
func (p *Procfs) PortRanges() (PortRanges, error) { return p.sysctls.portRanges() }

// Read implements Source. It never reports that nothing changed.
func (p *Procfs) Read(proto Protocol) (sockets []Socket, same bool, err error) {
	if tables[proto] == nil {
		return nil, false, fmt.Errorf("read listening sockets: %s has no table in procfs", proto)
	}
	dir, closeDir, err := p.open()
	if err != nil {
		return nil, false, err
	}
	defer closeDir()
	for _, t := range tables[proto] {
		if p.foreign && t.isEmpty(dir) {
			continue
		}
		if sockets, err = p.appendTable(sockets, dir, t); err != nil {
			return nil, false, err
		}
	}
	return sockets, false, nil
}

// open returns the path by which the tables are read. The procfs library takes every file whose path contains "udp" for a UDP
// table, and then fails on TCP rows, so a procfs that is mounted at such a path is read through a descriptor.
func (p *Procfs) open() (dir string, closeDir func(), err error) {
	if p.via != "" {
		return p.via, func() {}, nil
	}
	if !strings.Contains(p.dir, "udp") {
		return p.dir, func() {}, nil
	}
	fd, err := unix.Open(p.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("read %s: %w", p.dir, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() { _ = unix.Close(fd) }, nil
}

// appendTable reads the table t below dir. In errors it has the path that the user knows.
func (p *Procfs) appendTable(dst []Socket, dir string, t table) ([]Socket, error) {
	dst, err := t.appendSockets(dst, dir)
	if onPath := new(fs.PathError); errors.As(err, &onPath) {
		err = onPath.Err
	}
	if err != nil {
		return nil, at("read "+filepath.Join(p.dir, "net", t.file), err)
	}
	return dst, nil
}

// appendSockets reads the table below dir.
func (t table) appendSockets(dst []Socket, dir string) ([]Socket, error) {
	path := filepath.Join(dir, "net", t.file)
	if err := checkTable(path); err != nil {
		if t.ipv6 && errors.Is(err, fs.ErrNotExist) {
			return dst, nil
		}
		return nil, err
	}
	proc, err := procfs.NewFS(dir)
	if err != nil {
		return nil, err
	}
	rows, err := t.read(proc)
	if onPath := new(fs.PathError); errors.As(err, &onPath) {
		return nil, err
	}
	if err != nil {
		what, row := locateBadRow(path, t.rows)
		if row != nil {
			err = fmt.Errorf("%q: %w", shortened(row), err)
		}
		return nil, &foreignError{what, err}
	}
	for i, row := range rows {
		addr, ok := address(row.LocalAddr, cpu.IsBigEndian)
		if !ok || addr.Is4() == t.ipv6 || row.LocalPort > 65535 {
			// The header is line 1.
			what := fmt.Sprintf("line %d: a local address that does not belong in this table", i+2)
			return nil, &foreignError{what, fmt.Errorf("%s port %d", row.LocalAddr, row.LocalPort)}
		}
		if row.St != t.state {
			continue
		}
		s := Socket{
			Addr:  netip.AddrPortFrom(addr, uint16(row.LocalPort)),
			ID:    row.Inode,
			Queue: row.RxQueue,
			UID:   uint32(row.UID),
			Inode: row.Inode,
		}
		if row.Drops != nil {
			s.Drops = uint32(*row.Drops)
		}
		dst = append(dst, s)
	}
	return dst, nil
}

// address converts the address of a row. The kernel prints each 32-bit word of an address as a number in its own byte order. The
// library always reverses the bytes, which is right only on little-endian machines.
func address(ip net.IP, bigEndian bool) (netip.Addr, bool) {
	if bigEndian {
		ip = append(net.IP(nil), ip...)
		for word := ip; len(word) >= 4; word = word[4:] {
			word[0], word[1], word[2], word[3] = word[3], word[2], word[1], word[0]
		}
	}
	return netip.AddrFromSlice(ip)
}
