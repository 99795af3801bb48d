//go:build linux

package holder

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patrol has a finder's patrols go all the time.
func (x *fixture) patrol(f *Finder) {
	f.patrols = newPatrols(f.processes, time.Millisecond)
	for _, p := range f.patrols {
		p.share = 0.5
	}
}

// wantSoon fails the test unless a socket soon has these holders, without a change of the sockets.
func (x *fixture) wantSoon(f *Finder, sockets []Socket, want ...Holder) {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if x.find(f, sockets, true); cmp.Equal(want, f.Holders(sockets[0])) {
			return
		}
	}
	x.want(f, sockets[0], want...)
}

func TestWhoGetsAKnownSocketLaterIsFound(t *testing.T) {
	x := newFixture(t)
	x.process(100, "master", 1000)
	x.process(101, "idle")
	sockets := []Socket{{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service", 100, 101)}}
	f := x.finder()
	x.patrol(f)
	x.find(f, sockets, false)
	want := []Holder{{Process: "master", Unit: "a.service"}}
	x.want(f, sockets[0], want...)

	for _, step := range []struct {
		name string
		pid  int
		unit string
	}{
		{"worker", 102, "a.service"},
		{"elsewhere", 103, "b.service"},
		{"worker", 104, "c.service"}, // the same name, but another unit
	} {
		x.group("system.slice/"+step.unit, step.pid)
		x.process(step.pid, step.name, 1000)
		want = append(want, Holder{Process: step.name, Unit: step.unit})
		slices.SortFunc(want, Compare)
		x.wantSoon(f, sockets, want...)
	}

	// One that was there before gets it.
	x.link(101, 3, "socket:[1000]")
	want = append(want, Holder{Process: "idle", Unit: "a.service"})
	slices.SortFunc(want, Compare)
	x.wantSoon(f, sockets, want...)

	// Of two with one name, unit and program the second takes the place of the first.
	x.process(105, "worker", 1000)
	x.write("105/cgroup", "0::/system.slice/c.service\n")
	x.end(104)
	x.wantSoon(f, sockets, want...)
	x.end(105)
	x.end(103)
	want = slices.DeleteFunc(want, func(h Holder) bool { return h.Process == "elsewhere" || h.Unit == "c.service" })
	x.wantSoon(f, sockets, want...)
	if !f.Exact(sockets[0]) {
		t.Error("the holders are not exact")
	}
}

func TestWithoutFindsThePatrolsEnd(t *testing.T) {
	x := newFixture(t)
	x.process(100, "master", 1000)
	sockets := []Socket{{ID: 1, Inode: 1000}}
	f := x.finder()
	x.patrol(f)
	for range 2 {
		x.find(f, sockets, false)
	}
	for _, p := range f.patrols {
		p.mu.Lock()
		p.lastFind = p.lastFind.Add(-2 * patrolEnds)
		p.mu.Unlock()
		for running, end := true, time.Now().Add(20*time.Second); running && time.Now().Before(end); time.Sleep(time.Millisecond) {
			p.mu.Lock()
			running = p.running
			p.mu.Unlock()
		}
		if p.running {
			t.Error("a patrol goes on")
		}
	}
	// The next Find sends them again.
	x.process(101, "late", 1000)
	x.wantSoon(f, sockets, Holder{Process: "late"}, Holder{Process: "master"})
}

func TestWhatAPatrolCannotReadIsAnErrorOfTheNextFind(t *testing.T) {
	x := newFixture(t)
	x.process(100, "master", 1000)
	sockets := []Socket{{ID: 1, Inode: 1000}}
	f := x.finder()
	x.patrol(f)
	x.find(f, sockets, false)
	x.process(101, "late", 1000)
	x.fifo("101/comm")
	if err := findUntil(f, sockets, func(err error) bool { return err != nil }); err == nil {
		t.Error("no Find fails")
	}
	x.want(f, sockets[0], Holder{Process: "master"})

	// So it stays until it can be read again.
	if _, err := f.Find(sockets, true); err == nil {
		t.Error("the next Find does not fail")
	}
	x.remove(x.procfs + "/101/comm")
	x.write("101/comm", "late\n")
	_ = findUntil(f, sockets, func(err error) bool { return err == nil })
	x.wantSoon(f, sockets, Holder{Process: "late"}, Holder{Process: "master"})
}

func TestAPanicOfAPatrolIsAnErrorWithItsStack(t *testing.T) {
	x := newFixture(t)
	x.process(100, "master", 1000)
	sockets := []Socket{{ID: 1, Inode: 1000}}
	f := x.finder()
	x.patrol(f)
	x.find(f, sockets, false)
	for _, p := range f.patrols {
		p.beat = beat{wanted: map[uint64]*attribution{}, known: map[*attribution][]witness{nil: {{}}}} // of no socket
		p.running, p.lastFind = true, time.Now()
		go p.run()
	}
	var panicked interface{ Stack() []byte }
	err := findUntil(f, nil, func(err error) bool { return errors.As(err, &panicked) })
	if panicked == nil {
		t.Fatalf("Find: %v, want a panic", err)
	}
	if !strings.Contains(string(panicked.Stack()), "check") {
		t.Errorf("the stack is %s", panicked.Stack())
	}
}

// findUntil repeats a Find until its error is as wanted, for 20 s at most, and returns the last error.
func findUntil(f *Finder, sockets []Socket, wanted func(error) bool) (err error) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err = f.Find(sockets, true)
		if wanted(err) || time.Now().After(end) {
			return err
		}
	}
}
