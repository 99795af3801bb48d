package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/procfs"
)

// PortRanges are the kernel's settings that divide the port numbers.
type PortRanges struct {
	// UnprivilegedStart is the first port that needs no privilege to bind (net.ipv4.ip_unprivileged_port_start).
	UnprivilegedStart int
	// EphemeralFirst and EphemeralLast bound the ports that the kernel gives out by itself, both inclusive
	// (net.ipv4.ip_local_port_range, which rules IPv6 too).
	EphemeralFirst, EphemeralLast int
}

// defaultPortRanges is what a namespace starts with (inet_init_net in net/ipv4/af_inet.c).
var defaultPortRanges = PortRanges{UnprivilegedStart: 1024, EphemeralFirst: 32768, EphemeralLast: 60999}

// readPortRanges reads the ranges of the reader's own network namespace: <procfs>/sys/net never speaks of another.
func readPortRanges(path string) (PortRanges, error) {
	fs, err := procfs.NewFS(path)
	if err != nil {
		return defaultPortRanges, fmt.Errorf("read port ranges: %w", err)
	}
	start, err := fs.SysctlInts("net.ipv4.ip_unprivileged_port_start")
	if err != nil {
		return defaultPortRanges, fmt.Errorf("read port ranges: %w", err)
	}
	local, err := fs.SysctlInts("net.ipv4.ip_local_port_range")
	if err != nil {
		return defaultPortRanges, fmt.Errorf("read port ranges: %w", err)
	}
	if len(start) != 1 || len(local) != 2 {
		return defaultPortRanges, fmt.Errorf("read port ranges: ip_unprivileged_port_start has %d values and ip_local_port_range %d, want 1 and 2", len(start), len(local))
	}
	return PortRanges{UnprivilegedStart: start[0], EphemeralFirst: local[0], EphemeralLast: local[1]}, nil
}

// portRangeFiles reads the port ranges often. It keeps the files open, and parses what they say when it has changed.
type portRangeFiles struct {
	procfs string     // empty if its sysctls are those of another namespace
	files  []*os.File // empty until they are open
	said   []byte     // by the files, one after the other
	buffer []byte
	ranges PortRanges
}

func newPortRangeFiles(procfs string) *portRangeFiles {
	return &portRangeFiles{procfs: procfs, buffer: make([]byte, 64)} // a line of two numbers is at most 12 bytes long
}

// read returns the ranges of the reader's own network namespace, or the kernel's defaults for another one.
func (p *portRangeFiles) read() (PortRanges, error) {
	if p.procfs == "" {
		return defaultPortRanges, nil
	}
	if len(p.files) == 0 {
		for _, name := range []string{"ip_unprivileged_port_start", "ip_local_port_range"} {
			f, err := os.Open(filepath.Join(p.procfs, "sys/net/ipv4", name))
			if err != nil {
				p.close()
				return defaultPortRanges, fmt.Errorf("read port ranges: %w", err)
			}
			p.files = append(p.files, f)
		}
	}
	said := p.buffer[:0]
	for _, f := range p.files {
		n, err := f.ReadAt(said[len(said):cap(said)], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			p.close()
			return defaultPortRanges, fmt.Errorf("read port ranges: %w", err)
		}
		said = said[:len(said)+n]
	}
	if len(said) > 0 && bytes.Equal(said, p.said) {
		return p.ranges, nil
	}
	ranges, err := readPortRanges(p.procfs)
	if err == nil {
		p.said, p.ranges = append(p.said[:0], said...), ranges
	}
	return ranges, err
}

func (p *portRangeFiles) close() {
	for _, f := range p.files {
		_ = f.Close()
	}
	p.files = nil
}

// BindV6Only tells whether an IPv6 wildcard socket leaves IPv4 alone unless it asks for it (net.ipv6.bindv6only), in the reader's
// own network namespace. Where that cannot be read it does not: the kernel's default.
func BindV6Only(path string) bool {
	fs, err := procfs.NewFS(path)
	if err != nil {
		return false
	}
	values, err := fs.SysctlInts("net.ipv6.bindv6only")
	return err == nil && len(values) == 1 && values[0] != 0
}
