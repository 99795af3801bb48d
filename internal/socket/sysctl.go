package socket

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PortRanges are the kernel's settings that divide the port numbers.
type PortRanges struct {
	// UnprivilegedStart is the first port that needs no privilege to bind (net.ipv4.ip_unprivileged_port_start).
	UnprivilegedStart int
	// EphemeralFirst and EphemeralLast bound the ports that the kernel assigns by itself, both inclusive
	// (net.ipv4.ip_local_port_range, which also holds for IPv6).
	EphemeralFirst, EphemeralLast int
}

// defaultPortRanges is what a namespace starts with (inet_init_net in net/ipv4/af_inet.c).
var defaultPortRanges = PortRanges{UnprivilegedStart: 1024, EphemeralFirst: 32768, EphemeralLast: 60999}

// portRangeFiles are the sysctls that hold the port ranges.
var portRangeFiles = [...]string{"ip_unprivileged_port_start", "ip_local_port_range"}

// portRangeReader reads the port ranges. It keeps the files open: where no more can be opened, ports must not seem to lie in other
// ranges.
type portRangeReader struct {
	procfs string     // empty if its sysctls are those of another namespace
	files  []*os.File // those that are open
}

// read returns the ranges of the reader's own network namespace, or the kernel's defaults for another one: <procfs>/sys/net
// always shows the reader's.
func (r *portRangeReader) read() (PortRanges, error) {
	if r.procfs == "" {
		return defaultPortRanges, nil
	}
	values, err := r.values()
	if err != nil {
		for _, f := range r.files {
			_ = f.Close()
		}
		r.files = nil
		return defaultPortRanges, fmt.Errorf("read port ranges: %w", err)
	}
	return PortRanges{UnprivilegedStart: values[0], EphemeralFirst: values[1], EphemeralLast: values[2]}, nil
}

// values returns the numbers in portRangeFiles, of which the first has one and the second two.
func (r *portRangeReader) values() (values []int, err error) {
	for i, name := range portRangeFiles {
		if len(r.files) == i {
			f, err := os.Open(filepath.Join(r.procfs, "sys/net/ipv4", name))
			if err != nil {
				return nil, err
			}
			r.files = append(r.files, f)
		}
		text := make([]byte, 64) // a line of two numbers has at most 12 bytes
		n, err := r.files[i].ReadAt(text, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		fields := strings.Fields(string(text[:n]))
		if want := i + 1; len(fields) != want {
			return nil, fmt.Errorf("%s has %d values: want %d", name, len(fields), want)
		}
		for _, field := range fields {
			value, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("%s has the value %q: want a number", name, field)
			}
			values = append(values, value)
		}
	}
	return values, nil
}

// BindV6Only reports whether an IPv6 wildcard socket does not accept IPv4 unless it asks for it (net.ipv6.bindv6only), in the
// reader's own network namespace. It returns false, the kernel's default, if that cannot be read.
func BindV6Only(procfs string) bool {
	text, _ := os.ReadFile(filepath.Join(procfs, "sys/net/ipv6/bindv6only"))
	value, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && value != 0
}
