//go:build linux

package inventory

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// instant is a moment: how long after the host's boot it was (CLOCK_BOOTTIME, which goes on while the host sleeps), or how long
// before, if negative. Nobody sets that clock, so durations between instants are right.
type instant time.Duration

// never is the instant of what has not happened.
const never = instant(math.MinInt64)

func (i instant) since(earlier instant) time.Duration { return time.Duration(i - earlier) }

// longestStep is how far the wall clock may get away from the boot clock before it has been set. Less is how NTP slews it: timestamps
// that are shown must not change all the time.
const longestStep = time.Second

// clock says what the wall clock shows at an instant. When somebody sets the wall clock, all instants move along: the age of
// something is right by whatever the wall clock shows now.
type clock struct {
	read   func() (sinceBoot time.Duration, wall time.Time)
	offset time.Duration // of the wall clock (Unix time) from the boot clock
}

// now returns the present, and whether the wall clock was set since the last call.
func (c *clock) now() (_ instant, wall time.Time, wasSet bool) {
	sinceBoot, wall := c.read()
	if offset := time.Duration(wall.UnixNano()) - sinceBoot; (offset - c.offset).Abs() > longestStep {
		c.offset, wasSet = offset, true
	}
	return instant(sinceBoot), wall, wasSet
}

// wall returns what the wall clock shows at an instant: the zero time for never. instant is its inverse.
func (c *clock) wall(at instant) time.Time {
	if at == never {
		return time.Time{}
	}
	return time.Unix(0, int64(c.offset)+int64(at))
}

func (c *clock) instant(wall time.Time) instant {
	if wall.IsZero() {
		return never
	}
	return instant(wall.UnixNano() - int64(c.offset))
}

// readClock reads the clocks of the host. It reads them again if the kernel let another program run in between.
func readClock() (sinceBoot time.Duration, wall time.Time) {
	for range 5 {
		sinceBoot, wall = bootTime(), time.Now()
		if bootTime()-sinceBoot < longestStep/10 {
			break
		}
	}
	return sinceBoot, wall
}

// bootTime returns the time since the host's boot.
func bootTime() time.Duration { return clockTime(unix.CLOCK_BOOTTIME) }

// cpuTime returns the processor time that the program has used.
func cpuTime() time.Duration { return clockTime(unix.CLOCK_PROCESS_CPUTIME_ID) }

// clockTime returns the time of one of the kernel's clocks (clock_gettime(2)).
func clockTime(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return 0 // only of a kernel that is older than any supported one
	}
	return time.Duration(t.Nano())
}
