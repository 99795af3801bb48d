//go:build linux

package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// PortRanges are the kernel's settings that divide the port numbers. They hold for IPv4 and IPv6.
type PortRanges struct {
	// UnprivilegedStart is the first port that needs no privilege to bind (net.ipv4.ip_unprivileged_port_start).
	UnprivilegedStart int
	// EphemeralFirst and EphemeralLast bound the ports that the kernel assigns by itself, both inclusive
	// (net.ipv4.ip_local_port_range).
	EphemeralFirst, EphemeralLast int
	// Reserved are the ports that the kernel never assigns by itself (net.ipv4.ip_local_reserved_ports).
	Reserved ports.Set
}

// defaultPortRanges is what a namespace starts with (inet_init_net in net/ipv4/af_inet.c).
var defaultPortRanges = PortRanges{UnprivilegedStart: 1024, EphemeralFirst: 32768, EphemeralLast: 60999}

// The sysctls that hold the port ranges, in the order of parsePortRanges.
var portRangeFiles = [...]string{"ip_unprivileged_port_start", "ip_local_port_range", reservedPortsFile}

const reservedPortsFile = "ip_local_reserved_ports"

// The bytes that are read of a sysctl: at first, and if it is longer. The kernel clears as many at each read. Every third port
// and its neighbour make the longest list that there can be, of 255 000 bytes.
const (
	usualSysctl = 1 << 10
	maxSysctl   = 256 << 10
)

// sysctls are the settings of a network namespace.
type sysctls struct {
	procfs string // empty if they cannot be seen
	// inside calls a function with the calling thread in the namespace: <procfs>/sys/net shows that of the thread.
	inside func(do func() error) error
}

// portRanges returns the port ranges, or with an error the kernel's defaults.
func (s sysctls) portRanges() (PortRanges, error) {
	if s.procfs == "" {
		return defaultPortRanges, nil
	}
	var texts [len(portRangeFiles)]string
	err := s.inside(func() (err error) {
		for i, name := range portRangeFiles {
			texts[i], err = readSysctl(filepath.Join(s.procfs, "sys/net/ipv4", name))
			if name == reservedPortsFile && errors.Is(err, fs.ErrNotExist) { // nothing is reserved
				err = nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	ranges := defaultPortRanges
	if err == nil {
		ranges, err = parsePortRanges(texts)
	}
	if err != nil {
		return defaultPortRanges, at("read port ranges", err)
	}
	return ranges, nil
}

// bindV6Only returns net.ipv6.bindv6only, or the kernel's default if it cannot be read.
func (s sysctls) bindV6Only() bool {
	if s.procfs == "" {
		return false
	}
	text := ""
	_ = s.inside(func() (err error) {
		text, err = readSysctl(filepath.Join(s.procfs, "sys/net/ipv6/bindv6only"))
		return err
	})
	value, err := strconv.Atoi(strings.TrimSpace(text))
	return err == nil && value != 0
}

// readSysctl returns the text of a sysctl.
func readSysctl(path string) (string, error) {
	fd, err := openRegular(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	text := make([]byte, usualSysctl)
	n, err := unix.Pread(fd, text, 0)
	if n == usualSysctl {
		// The kernel leaves out what does not fit, and a further read does not give it (proc_do_large_bitmap in kernel/sysctl.c).
		text = make([]byte, maxSysctl)
		n, err = unix.Pread(fd, text, 0)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", path, err)
	case n == maxSysctl:
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxSysctl-1)
	}
	return string(text[:n]), nil
}

// parsePortRanges parses the texts of portRangeFiles: "1024\n", "32768\t60999\n", and "8125,9000-9010\n", or "\n" for no port.
func parsePortRanges(texts [len(portRangeFiles)]string) (PortRanges, error) {
	var r PortRanges
	bad := func(i int, want, text string) (PortRanges, error) {
		return r, &foreignError{portRangeFiles[i] + " is malformed: want " + want, fmt.Errorf("it is %.60q", text)}
	}
	start, local, reserved := strings.Fields(texts[0]), strings.Fields(texts[1]), strings.TrimSpace(texts[2])
	if len(start) != 1 || !parsePort(start[0], &r.UnprivilegedStart) {
		return bad(0, "a port", texts[0])
	}
	if len(local) != 2 || !parsePort(local[0], &r.EphemeralFirst) || !parsePort(local[1], &r.EphemeralLast) {
		return bad(1, "two ports", texts[1])
	}
	for item := range strings.SplitSeq(reserved, ",") {
		if reserved == "" {
			break
		}
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		var first, last int
		if !parsePort(from, &first) || !parsePort(to, &last) || first > last {
			return bad(2, "ports such as 8125,9000-9010", item)
		}
		r.Reserved = append(r.Reserved, ports.Range{First: uint16(first), Last: uint16(last)})
	}
	return r, nil
}

// parsePort parses a number of 16 bits. Unlike ports.ParseRange it takes 0, which a sysctl may contain.
func parsePort(text string, port *int) (ok bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	*port = int(n)
	return err == nil
}
