package netns

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tick is the time between two calls, in these tests.
const tick = 15 * time.Second

// census is a pids of a fake host with a clock and a last pid that the test sets.
type census struct {
	*pids
	h     fakeHost
	clock time.Time
	last  int
}

// newCensus returns one that is past its first two calls, which list everything.
func newCensus(t *testing.T, last int) *census {
	t.Helper()
	h := newFakeHost(t)
	for pid := 2; pid <= 200; pid++ {
		h.add(pid, "main")
	}
	f := newFinder(t, h.dir)
	membersOf(t, f)
	c := &census{pids: f.pids, h: h, clock: time.Unix(1_700_000_000, 0), last: last}
	c.now = func() time.Time { return c.clock }
	c.lastPID = func() int { return c.last }
	for range 2 {
		if _, whole := c.call(t); !whole {
			t.Fatal("not everything was listed at first")
		}
	}
	return c
}

// call returns the numbers that are tried, without the piece of the listing, a tick after the call before. There is a process
// for each that the fake host has.
func (c *census) call(t *testing.T) (numbers []int, whole bool) {
	t.Helper()
	c.clock = c.clock.Add(tick)
	candidates, whole, err := c.next(false)
	if err != nil {
		t.Fatal(err)
	}
	for _, candidate := range candidates {
		if !candidate.listed {
			numbers = append(numbers, candidate.pid)
		}
		if _, err := inodeAt(int(c.root.Fd()), strconv.Itoa(candidate.pid)+"/net/tcp"); err == nil {
			c.seen(candidate.pid)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), whole
}

func TestNewNumbersAreTriedTwiceAndProcessesForAMinute(t *testing.T) {
	c := newCensus(t, 1000)
	c.h.add(1002, "main")
	for i, step := range []struct {
		last int
		want []int
	}{
		{1000, nil},
		{1003, []int{1001, 1002, 1003}},
		{1003, []int{1001, 1002, 1003}}, // one of them may not have been visible yet
		{1004, []int{1002, 1004}},
		{1004, []int{1002, 1004}},
		{1004, []int{1002}},
		{1004, []int{1002}}, // it has been a minute since it was seen last among the new ones
		{1004, nil},
	} {
		c.last = step.last
		got, whole := c.call(t)
		if diff := cmp.Diff(step.want, got); diff != "" || whole {
			t.Errorf("call %d: everything listed: %t, tried (-want +got):\n%s", i, whole, diff)
		}
	}
}

func TestNumbersThatStartAnewAreFollowed(t *testing.T) {
	c := newCensus(t, 1000)
	c.h.write(c.h.dir+"/sys/kernel/pid_max", "1003\n")
	c.last = 3
	got, whole := c.call(t)
	if diff := cmp.Diff([]int{1, 2, 3, 1001, 1002}, got); diff != "" || whole {
		t.Errorf("everything listed: %t, tried (-want +got):\n%s", whole, diff)
	}
}

func TestEverythingIsListedWhereNumbersDoNotHelp(t *testing.T) {
	for name, last := range map[string]int{
		"too many new ones":                1000 + minNumbers + 1,
		"the last one cannot be known":     0,
		"they started anew, at an unknown": 3,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCensus(t, 1000)
			c.last = last
			if _, whole := c.call(t); !whole {
				t.Error("not everything was listed")
			}
		})
	}
}

func TestEveryProcessIsLookedAtAgainAfterSomeCalls(t *testing.T) {
	for _, processes := range []int{10, 200, 1500} {
		t.Run(strconv.Itoa(processes), func(t *testing.T) {
			c := newCensus(t, 10_000)
			for pid := 201; pid <= processes; pid++ {
				c.h.add(pid, "main")
			}
			c.last = 0
			c.call(t) // a listing that knows how many there are
			c.last = 10_000
			c.call(t)
			c.call(t)
			for c.reading != 0 {
				c.call(t)
			}
			looked := make(map[int]bool)
			for range rounds + 1 { // the last one may find the end alone
				candidates, whole, err := c.next(false)
				if err != nil || whole {
					t.Fatal(whole, err)
				}
				if len(candidates) > max(minSlice, processes/rounds+20) {
					t.Errorf("%d at a time", len(candidates))
				}
				for _, candidate := range candidates {
					looked[candidate.pid] = true
				}
			}
			if want := max(processes, 200); len(looked) != want {
				t.Errorf("%d looked at, want %d", len(looked), want)
			}
		})
	}
}

func TestTheLastPIDIsTheLastFieldOfLoadavg(t *testing.T) {
	for line, want := range map[string]int{
		"3.33 3.05 3.21 6/99 28986\n":         28986,
		"0.00 0.00 0.00 0/0 0\n":              0, // gVisor
		"0.00 0.00 0.00 0/0 -1\n":             0,
		"0.00 0.00 0.00 1/1 1x\n":             0,
		"0.00 0.00 0.00 1/1\n":                0,
		"0.00 0.00 0.00 1/1 1 2\n":            0,
		"0 0 0 1/1 99999999999999999999999\n": 0,
		"":                                    0,
	} {
		if got := parseLastPID([]byte(line)); got != want {
			t.Errorf("%q: got %d, want %d", line, got, want)
		}
	}
}
