//go:build linux

package holder

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestASocketWithoutAProcessIsSearchedForOnce(t *testing.T) {
	x := newFixture(t)
	x.process(100, "other", 7)
	kernels := []Socket{{ID: 1, Inode: 1000}}
	f := x.finder()
	root := watchOpening(t, x.procfs)
	x.find(f, kernels, false)
	root.want(x.procfs)
	for range 1000 {
		x.clock = x.clock.Add(10 * time.Second)
		x.find(f, kernels, true)
	}
	root.want()

	// So is one of PID 1's, even if its service runs.
	x.process(1, "systemd", 1001)
	x.process(102, "foo")
	x.group("system.slice/foo.service", 102)
	waits := Socket{ID: 2, Inode: 1001, Cgroup: x.group("system.slice/foo.socket")}
	root.since() // the test's own
	x.find(f, append(kernels, waits), false)
	x.want(f, waits, Holder{Process: "systemd", Unit: "foo.socket"})
	root.want(x.procfs)
	for range 8 {
		x.find(f, append(kernels, waits), true)
	}
	root.want()

	// After a time without Finds, when no patrol went, it is searched for again.
	x.process(101, "late", 1000)
	x.clock = x.clock.Add(24 * time.Hour)
	x.find(f, kernels, true)
	x.want(f, kernels[0], Holder{Process: "late"})
}

func TestWhereNoProcessShowsItsDescriptorsNoneIsSearchedForAWhile(t *testing.T) {
	x := newFixture(t)
	x.process(os.Getpid(), "exporter", 5) // it sees its own
	for pid := 100; pid < 105; pid++ {
		x.process(pid, "server")
		x.rename(x.fdDir(pid), x.fdDir(pid)+".hidden")
	}
	f := x.finder()
	root := watchOpening(t, x.procfs)
	sockets := []Socket{{ID: 1, Inode: 1000}}
	x.find(f, sockets, false)
	root.want(x.procfs)
	for pid := 100; pid < 105; pid++ {
		x.rename(x.fdDir(pid)+".hidden", x.fdDir(pid))
	}
	x.link(100, 3, "socket:[2000]")
	for n := range 590 {
		x.clock = x.clock.Add(time.Second - recheckPause)
		sockets = append(sockets, Socket{ID: uint64(2 + n), Inode: uint64(2000 + n)}) // new ones make no difference
		x.find(f, sockets, false)
	}
	root.want()
	x.clock = x.clock.Add(11 * time.Second)
	x.find(f, sockets, true)
	x.want(f, sockets[1], Holder{Process: "server"})
}

func TestUnchangedSocketsCostNoWalk(t *testing.T) {
	x := newFixture(t)
	var sockets []Socket
	dirs := []string{x.procfs}
	for n := range 10 {
		pid := 100 + n
		x.process(pid, "server", uint64(1000+n))
		dirs = append(dirs, x.fdDir(pid))
		sockets = append(sockets, Socket{
			ID: uint64(1 + n), Inode: uint64(1000 + n),
			Cgroup: x.group(fmt.Sprintf("system.slice/s%d.service", n), pid),
		})
	}
	dirs = append(dirs, x.groups, x.groups+"/system.slice")
	f := x.finder()
	if !x.find(f, sockets, false) {
		t.Error("the first Find changed nothing")
	}
	walks := watchOpening(t, dirs...)
	// Others that open the same socket are not looked for.
	x.process(200, "late", 1000)
	for round := range 40 {
		if x.find(f, sockets, round%2 == 0) {
			t.Errorf("Find %d changed something", round)
		}
	}
	walks.want()
	for n, s := range sockets {
		x.want(f, s, Holder{Process: "server", Unit: fmt.Sprintf("s%d.service", n)})
	}

	// One more costs a search of its own cgroup only: its directory is new, and so the cgroups are walked.
	added := Socket{ID: 99, Inode: 9999, Cgroup: x.group("system.slice/added.service", 300)}
	x.process(300, "added", 9999)
	sockets = append(sockets, added)
	x.find(f, sockets, false)
	x.want(f, added, Holder{Process: "added", Unit: "added.service"})
	walks.want(x.groups, x.groups+"/system.slice")
}

func TestAFailedSearchIsAnErrorAndKeepsTheHoldersOfBefore(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	x.process(101, "other", 1001)
	for _, c := range []struct {
		name, missing string
		instead       func() error
		want          error
	}{
		{"no procfs", x.procfs, nil, unix.ENOENT},
		{"a link to itself", x.fdDir(101), func() error { return os.Symlink("fd", x.fdDir(101)) }, unix.ELOOP},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, two := Socket{ID: 1, Inode: 1000}, Socket{ID: 2, Inode: 1001}
			f := x.finder()
			x.find(f, []Socket{one}, false)
			x.rename(c.missing, c.missing+".later")
			if c.instead != nil {
				if err := c.instead(); err != nil {
					t.Fatal(err)
				}
			}
			for range 16 {
				if _, err := f.Find([]Socket{one, two}, false); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.missing) {
					t.Fatalf("Find: %v, want %v of %s", err, c.want, c.missing)
				}
				x.want(f, one, Holder{Process: "server"})
				x.want(f, two)
			}
			x.remove(c.missing)
			x.rename(c.missing+".later", c.missing)
			x.find(f, []Socket{one, two}, true)
			x.want(f, one, Holder{Process: "server"})
			x.want(f, two, Holder{Process: "other"})
		})
	}
}

func TestAfterAPanicTheNextFindIsRight(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	sockets := []Socket{{ID: 1, Inode: 1000}}
	f := x.finder()
	now := f.now
	for calls := range 5 { // at each place that reads the clock
		left := calls
		f.now = func() time.Time {
			if left--; left < 0 {
				panic("the clock stopped")
			}
			return now()
		}
		func() {
			defer func() { _ = recover() }()
			_, _ = f.Find(sockets, false)
		}()
	}
	f.now = now
	x.find(f, sockets, false)
	x.want(f, sockets[0], Holder{Process: "server"})
}

func TestWhoServesASocketThatPID1WaitsOnIsFoundLater(t *testing.T) {
	x := newFixture(t)
	x.process(1, "systemd", 1000)
	x.process(100, "other", 7)
	s := Socket{ID: 1, Inode: 1000, Cgroup: x.group("init.scope", 1)}
	waits := Holder{Process: "systemd", Unit: "init.scope"}
	f := x.finder()
	x.patrol(f)
	x.find(f, []Socket{s}, false)
	x.want(f, s, waits)
	x.process(300, "bard", 1000)
	x.wantSoon(f, []Socket{s}, Holder{Process: "bard"})
	x.end(300)
	x.wantSoon(f, []Socket{s}, waits)
}

func TestACgroupThatIsNoMoreIsLookedForOnce(t *testing.T) {
	x := newFixture(t)
	x.process(2, "bystander", 7)
	there := Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service")}
	sockets := []Socket{there}
	for n := range 10 {
		sockets = append(sockets, Socket{ID: uint64(2 + n), Inode: uint64(1001 + n), Cgroup: 1<<60 + uint64(n)})
	}
	f := x.finder()
	slice := x.groups + "/system.slice"
	groups := watchOpening(t, x.groups, slice)
	x.find(f, sockets, false)
	groups.want(x.groups, slice)
	for range 16 {
		x.find(f, sockets, false)
	}
	groups.want()

	// So are those that are removed later.
	x.remove(slice + "/a.service")
	groups.since()
	for range 8 {
		x.find(f, sockets, true)
	}
	groups.want(x.groups, slice)
	x.want(f, there)
	for range 16 {
		x.find(f, sockets, true)
	}
	groups.want()
}
