package socket

import (
	"fmt"

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
