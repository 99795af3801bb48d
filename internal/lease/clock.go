//go:build linux

package lease

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the time of a host. Nobody can set Boot, so deadlines are on it. Wall only counts for what a host of before its last boot has
// stored.
type Clock struct {
	// Boot returns CLOCK_BOOTTIME.
	Boot func() time.Duration
	// Wall returns the wall clock.
	Wall func() time.Time
	// BootID is another one after each boot, or empty if it is not known.
	BootID string
}

// HostClock returns the clock of this host.
func HostClock() Clock {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id") // random(4)
	if err != nil {
		id = nil
	}
	return Clock{Boot: bootTime, Wall: time.Now, BootID: strings.TrimSpace(string(id))}
}

// bootTime returns the time since the host's boot.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // only of a kernel that is older than any supported one
	}
	return time.Duration(t.Nano())
}
