package socket

import (
	"bytes"
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

// portRangeReader reads the port ranges often. It keeps the files open, and parses them when they have changed.
type portRangeReader struct {
	procfs string     // empty if its sysctls are those of another namespace
	files  []*os.File // empty until they are open
	text   [len(portRangeFiles)][]byte
	buffer []byte
	ranges PortRanges
}

func newPortRangeReader(procfs string) *portRangeReader {
	return &portRangeReader{procfs: procfs, buffer: make([]byte, 64)} // a line of two numbers has at most 12 bytes
}

// read returns the ranges of the reader's own network namespace, or the kernel's defaults for another one: <procfs>/sys/net
// always shows the reader's.
func (r *portRangeReader) read() (PortRanges, error) {
	if r.procfs == "" {
		return defaultPortRanges, nil
	}
	changed, err := r.readFiles()
	if err == nil && changed {
		r.ranges, err = parsePortRanges(string(r.text[0]), string(r.text[1]))
	}
	if err != nil {
		r.close()
		return defaultPortRanges, fmt.Errorf("read port ranges: %w", err)
	}
	return r.ranges, nil
}

// readFiles reads the files, and reports whether they have changed.
func (r *portRangeReader) readFiles() (changed bool, err error) {
	if len(r.files) == 0 {
		changed = true
		for _, name := range portRangeFiles {
			f, err := os.Open(filepath.Join(r.procfs, "sys/net/ipv4", name))
			if err != nil {
				return false, err
			}
			r.files = append(r.files, f)
		}
	}
	for i, f := range r.files {
		n, err := f.ReadAt(r.buffer, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if !bytes.Equal(r.buffer[:n], r.text[i]) {
			r.text[i], changed = append(r.text[i][:0], r.buffer[:n]...), true
		}
	}
	return changed, nil
}

func (r *portRangeReader) close() {
	for _, f := range r.files {
		_ = f.Close()
	}
	r.files = nil
}

// parsePortRanges parses the content of portRangeFiles.
func parsePortRanges(start, local string) (PortRanges, error) {
	var values []int
	for i, text := range []string{start, local} {
		fields := strings.Fields(text)
		if want := i + 1; len(fields) != want {
			return PortRanges{}, fmt.Errorf("%s has %d values: want %d", portRangeFiles[i], len(fields), want)
		}
		for _, field := range fields {
			value, err := strconv.Atoi(field)
			if err != nil {
				return PortRanges{}, fmt.Errorf("%s has the value %q: want a number", portRangeFiles[i], field)
			}
			values = append(values, value)
		}
	}
	return PortRanges{UnprivilegedStart: values[0], EphemeralFirst: values[1], EphemeralLast: values[2]}, nil
}

// BindV6Only reports whether an IPv6 wildcard socket does not accept IPv4 unless it asks for it (net.ipv6.bindv6only), in the
// reader's own network namespace. It returns false, the kernel's default, if that cannot be read.
func BindV6Only(procfs string) bool {
	text, err := os.ReadFile(filepath.Join(procfs, "sys/net/ipv6/bindv6only"))
	if err != nil {
		return false
	}
	value, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && value != 0
}
