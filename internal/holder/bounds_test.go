//go:build linux

package holder

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// withDescriptors runs body while the process can open only so many files.
func withDescriptors(t *testing.T, more int, body func()) {
	t.Helper()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	free := int(file.Fd())
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free + more), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	body()
}

func TestAReaderWithoutDescriptorsLosesNoHolder(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	x.process(101, "other", 1001)
	x.write("101/cgroup", "0::/system.slice/b.service\n")
	one := Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service", 100)}
	two := Socket{ID: 2, Inode: 1001}
	added := Socket{ID: 3, Inode: 1002, Cgroup: x.group("system.slice/c.service", 102)}
	x.process(102, "added", 1002)
	for more := range 4 {
		f := x.finder()
		x.find(f, []Socket{one, two}, false)
		withDescriptors(t, more, func() {
			for range 8 {
				if _, err := f.Find([]Socket{one, two, added}, false); !errors.Is(err, unix.EMFILE) && (err != nil || more < 2) {
					t.Errorf("Find with %d descriptors: %v, want %v", more, err, unix.EMFILE)
				}
				x.want(f, one, Holder{Process: "server", Unit: "a.service"})
				x.want(f, two, Holder{Process: "other", Unit: "b.service"})
			}
		})
		if len(f.cgroups.removed) > 0 {
			t.Errorf("with %d descriptors %d cgroups are taken for gone", more, len(f.cgroups.removed))
		}
		x.find(f, []Socket{one, two, added}, false)
		x.want(f, added, Holder{Process: "added", Unit: "c.service"})
	}
}

func TestALaterSearchEndsWhenEachSocketIsServed(t *testing.T) {
	x := newFixture(t)
	for pid := 100; pid < 110; pid++ {
		x.process(pid, fmt.Sprint("p", pid), 1000)
	}
	old, young := watchOpening(t, x.fdDir(100)), watchOpening(t, x.fdDir(109))
	s := Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service")}
	f := x.finder()
	x.find(f, nil, false)
	x.find(f, []Socket{s}, false)
	x.want(f, s, Holder{Process: "p109"})
	young.want(x.fdDir(109))
	old.want()

	// Without a cgroup, whose processes would have been looked into before, only all of them have all of the names.
	s = Socket{ID: 2, Inode: 1000}
	x.find(f, []Socket{s}, false)
	if got := len(f.Holders(s)); got != 10 {
		t.Errorf("%d holders, want 10", got)
	}
	old.want(x.fdDir(100))
}

func TestOfACgroupWithVeryManyProcessesNoNamesAreRead(t *testing.T) {
	x := newFixture(t)
	var pids []int
	for n := range maxNamed + 1 {
		x.write(fmt.Sprintf("%d/comm", 100+n), "fork\n")
		pids = append(pids, 100+n)
	}
	few := Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/few.service", pids[:maxNamed]...)}
	many := Socket{ID: 2, Inode: 1001, Cgroup: x.group("system.slice/many.service", pids...)}
	f := x.finder()
	x.find(f, []Socket{few, many}, false)
	x.want(f, few, Holder{Process: "fork", Unit: "few.service"})
	x.want(f, many, Holder{Unit: "many.service"})
}

func TestAFindKeepsToItsTimeAndTheNextGoesOnWhereItStopped(t *testing.T) {
	for name, inCgroups := range map[string]bool{"many processes": false, "many cgroups": true} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			x.process(50, "server", 7)
			s := Socket{ID: 1, Inode: 7}
			sockets, want := []Socket{s}, []Holder{{Process: "server"}}
			for n := range 100 {
				pid := 100 + n
				x.process(pid, "hostile", uint64(1000+n))
				added, holder := Socket{ID: uint64(2 + n), Inode: uint64(1000 + n)}, Holder{Process: "hostile"}
				if inCgroups {
					holder.Unit = fmt.Sprintf("u%d.service", n)
					added.Cgroup = x.group("system.slice/"+holder.Unit, pid)
				}
				sockets, want = append(sockets, added), append(want, holder)
			}
			f := x.finder()
			rounds, limit := 0, firstSearch
			for ; rounds < 60 && (len(f.Holders(s)) == 0 || len(f.pending) > 0 || f.search != nil); rounds++ {
				x.tick = limit / 20 // what each step takes
				before := x.clock.Add(recheckPause)
				x.find(f, sockets, rounds > 0)
				if took := x.clock.Sub(before); took > limit+3*x.tick {
					t.Errorf("Find %d took %s, want %s at most", rounds, took, limit)
				}
				limit = laterSearch
			}
			for n, s := range sockets {
				x.want(f, s, want[n])
			}
			t.Logf("all was known after %d Finds", rounds)
		})
	}
}

func TestAProcessWithVeryManyDescriptorsTakesNoMoreThanTheTimeOfAFind(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	x.process(300, "huge")
	for fd := range 6 * namesAtOnce {
		x.link(300, 3+fd, "socket:[9]")
	}
	s := Socket{ID: 1, Inode: 1000}
	f := x.finder()
	x.find(f, nil, false)
	x.tick = laterSearch / 6
	x.find(f, []Socket{s}, false)
	if f.search == nil || len(f.search.pids) != 1 {
		t.Errorf("the search is %+v, want one that has left out the process and goes on", f.search)
	}
	x.want(f, s)
	x.find(f, []Socket{s}, true)
	x.want(f, s, Holder{Process: "server"})
}

func TestACgroupThatIsNotReachedInTimeIsNotGone(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	for n := range 100 {
		x.group(fmt.Sprintf("user.slice/%d", n))
	}
	s := Socket{ID: 1, Inode: 1000, Cgroup: x.group("a.slice/b.slice/a.service", 100)}
	gone := Socket{ID: 2, Inode: 1001, Cgroup: 1 << 60}
	f := x.finder()
	x.find(f, nil, false)
	x.tick = laterSearch / 50
	rounds := 0
	for ; rounds < 30 && len(f.cgroups.removed) == 0; rounds++ {
		x.find(f, []Socket{s, gone}, rounds > 0)
		if holders := f.Holders(s); len(holders) > 0 {
			x.want(f, s, Holder{Process: "server", Unit: "a.service"})
		}
	}
	if rounds < 3 || rounds == 30 {
		t.Errorf("the cgroups were walked through in %d Finds, want 3 to 29", rounds)
	}
	x.want(f, s, Holder{Process: "server", Unit: "a.service"})
	x.want(f, gone)
	if len(f.cgroups.paths) != 1 || f.cgroups.levels != nil {
		t.Errorf("%d paths and %d directories are kept, want one path", len(f.cgroups.paths), len(f.cgroups.levels))
	}
}

func TestCgroupsAreLookedForToADepth(t *testing.T) {
	x := newFixture(t)
	var sockets []Socket
	for depth := 31; depth <= 33; depth++ {
		path := strings.Join(slices.Repeat([]string{"a.slice"}, depth-1), "/") + "/a.service"
		sockets = append(sockets, Socket{ID: uint64(depth), Inode: uint64(1000 + depth), Cgroup: x.group(path)})
	}
	f := x.finder()
	x.find(f, sockets, false)
	x.want(f, sockets[0], Holder{Unit: "a.service"})
	x.want(f, sockets[1], Holder{Unit: "a.service"})
	x.want(f, sockets[2])
}
