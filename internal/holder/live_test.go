package holder

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// groupVariable gives a process of a test the ID of a cgroup.
const groupVariable = "LISTEN_EXPORTER_HOLDERTEST_CGROUP"

// pair opens two sockets that are connected to each other and to nothing else: any kind will do here.
func pair(tb testing.TB) (sockets []int) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return fds[:]
}

// known returns what the kernel knows of a socket.
func known(tb testing.TB, fd int, made *netnstest.Cgroup) Socket {
	tb.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		tb.Fatal(err)
	}
	s := Socket{ID: stat.Ino, Inode: stat.Ino, UID: stat.Uid}
	if made != nil {
		s.Cgroup = made.ID
	}
	return s
}

func TestAProcessOfAnotherPIDNamespaceIsNotGuessed(t *testing.T) {
	if os.Getenv(groupVariable) == "" {
		group := netnstest.NewCgroup(t, "demo.service")
		netnstest.Start(t, netnstest.Program{Name: "demo", Cgroup: group})
		t.Setenv(groupVariable, strconv.FormatUint(group.ID, 10))
		wantHolders(t, newFinder(t), Socket{ID: 1, Inode: 1, Cgroup: group.ID}, Holder{Process: "demo", Unit: "demo.service"})
	}
	netnstest.RunAsHost(t, func(t *testing.T) {
		id, err := strconv.ParseUint(os.Getenv(groupVariable), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		wantHolders(t, newFinder(t), Socket{ID: 1, Inode: 1, Cgroup: id}, Holder{Unit: "demo.service"})
	})
}

// newFinder returns a Finder for this host.
func newFinder(t *testing.T) *Finder {
	t.Helper()
	f, err := New("/proc", "/sys")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wantHolders fails the test unless these are the holders of a socket, once all processes have been searched for it.
func wantHolders(t *testing.T, f *Finder, s Socket, want ...Holder) {
	t.Helper()
	for round := 0; round == 0 || f.search != nil; round++ { // on a host of many processes it takes several
		if _, err := f.Find([]Socket{s}, round > 0); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, f.Holders(s)); diff != "" {
		t.Errorf("holders (-want +got):\n%s", diff)
	}
}

func TestProcessesThatComeAndGoDuringTheSearchAreNoErrors(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		mine := pair(t)
		stays := known(t, mine[0], nil)
		holder := netnstest.HandOver(t, netnstest.Program{Name: "stays", Sockets: mine})
		f, err := New("/proc", "/sys")
		if err != nil {
			t.Logf("without cgroups: %v", err)
		}
		var last atomic.Pointer[Socket]
		last.Store(&stays)
		var started atomic.Int64
		var stop atomic.Bool
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				for !stop.Load() {
					fds := pair(t)
					s := known(t, fds[1], nil)
					last.Store(&s)
					started.Add(1)
					cmd := exec.Command("sleep", "5")
					cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket")}
					err := cmd.Start()
					for _, file := range cmd.ExtraFiles {
						_ = file.Close()
					}
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}
			})
		}
		for n, deadline := 0, time.Now().Add(20*time.Second); n < 200 || started.Load() < 100 && time.Now().Before(deadline); n++ {
			sockets := []Socket{stays, *last.Load(), {ID: 1 << 40, Inode: 1<<40 + uint64(n)}} // the last one makes it search
			if _, err := f.Find(sockets, false); err != nil {
				t.Errorf("Find %d: %v", n, err)
			}
			if diff := cmp.Diff([]Holder{{Process: "stays"}}, f.Holders(stays)); diff != "" {
				t.Errorf("Find %d: holders of a process that stays (-want +got):\n%s", n, diff)
			}
		}
		stop.Store(true)
		all.Wait()
		if started.Load() < 100 {
			t.Errorf("only %d processes came and went", started.Load())
		}
		holder.End(t)
		if _, err := f.Find(nil, false); err != nil {
			t.Error(err)
		}
		wantNoSocketsOrDirectories(t)
	})
}

// wantNoSocketsOrDirectories fails the test if its process has kept a descriptor that a Find opens or a test's socket.
func wantNoSocketsOrDirectories(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		var stat unix.Stat_t
		path := "/proc/self/fd/" + entry.Name()
		link, err := os.Readlink(path)
		if err != nil || unix.Stat(path, &stat) != nil {
			continue // the directory's own
		}
		if kind := stat.Mode & unix.S_IFMT; kind == unix.S_IFSOCK || kind == unix.S_IFDIR {
			t.Errorf("descriptor %s is open: %s", entry.Name(), link)
		}
	}
}

func TestInsideACgroupNamespaceTheWholeHierarchyStillNamesUnits(t *testing.T) {
	if os.Getenv(groupVariable) == "" {
		group := netnstest.NewCgroup(t, "exporter.service")
		server := netnstest.NewCgroup(t, "demo.service")
		fds, below := pair(t), pair(t)
		s, posing := known(t, fds[0], nil), known(t, below[0], nil)
		netnstest.HandOver(t, netnstest.Program{Name: "demo", Cgroup: server, Sockets: fds})
		netnstest.HandOver(t, netnstest.Program{Name: "posing", Cgroup: group.Beside(t, "exporter.service/ssh.service"), Sockets: below})
		group.Inside(t, func() {
			cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %d", groupVariable, server.ID, s.Inode, posing.Inode))
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS}
			output, err := cmd.CombinedOutput()
			t.Logf("another process:\n%s", output)
			if err != nil {
				t.Error(err)
			}
		})
		return
	}
	var group, inode, posing uint64
	if _, err := fmt.Sscan(os.Getenv(groupVariable), &group, &inode, &posing); err != nil {
		t.Fatal(err)
	}
	// A container gets this mount of its own, next to that of the host's.
	own := t.TempDir()
	if err := unix.Mount("cgroup2", own, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(own, unix.MNT_DETACH) }()
	f := newFinder(t)
	want := Holder{Process: "demo", Unit: "demo.service"}
	wantHolders(t, f, Socket{ID: 1, Inode: inode, Cgroup: group}, want)
	// Without the socket's own cgroup that of the process is asked for, whose path begins where the reader's namespace does.
	wantHolders(t, f, Socket{ID: 2, Inode: inode}, want)
	wantHolders(t, f, Socket{ID: 3, Inode: posing}, Holder{Process: "posing", Unit: "exporter.service"})
}

func BenchmarkFind(b *testing.B) {
	const processes, each = 50, 2
	var sockets []Socket
	var groups []*netnstest.Cgroup
	for n := range 10 {
		groups = append(groups, netnstest.NewCgroup(b, fmt.Sprintf("bench-%d.service", n)))
	}
	for n := range processes {
		group := groups[n%len(groups)]
		fds := pair(b)
		for _, fd := range fds {
			sockets = append(sockets, known(b, fd, group))
		}
		netnstest.HandOver(b, netnstest.Program{Name: "bench", Cgroup: group, UID: 4242, Sockets: fds})
	}
	b.Logf("%d sockets", len(sockets))

	findAll := func(b *testing.B) *Finder {
		b.Helper()
		f, err := New("/proc", "/sys")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Find(sockets, false); err != nil {
			b.Fatal(err)
		}
		for _, s := range sockets {
			if len(f.Holders(s)) != 1 {
				b.Fatalf("holders of %+v: %+v, want one", s, f.Holders(s))
			}
		}
		return f
	}
	b.Run("unchanged", func(b *testing.B) {
		f := findAll(b)
		b.ReportAllocs()
		for b.Loop() {
			if changed, err := f.Find(sockets, true); err != nil || changed {
				b.Fatal(changed, err)
			}
		}
	})
	b.Run("a new listener", func(b *testing.B) {
		f := findAll(b)
		added := sockets[0]
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			if _, err := f.Find(sockets[1:], false); err != nil {
				b.Fatal(err)
			}
			added.ID++
			b.StartTimer()
			if _, err := f.Find(append(sockets[1:], added), false); err != nil {
				b.Fatal(err)
			}
			if len(f.Holders(added)) != 1 {
				b.Fatal("no holder")
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			findAll(b)
		}
	})
}
