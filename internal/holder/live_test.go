//go:build linux

package holder

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// groupVariable gives a process of a test the ID of a cgroup.
const groupVariable = "LISTEN_EXPORTER_HOLDERTEST_CGROUP"

// anyExecutable ignores the file of the program, which is some shell.
var anyExecutable = cmpopts.IgnoreFields(Holder{}, "Executable")

// pair opens two sockets that are connected to each other and to nothing else: any kind will do here.
func pair(t *testing.T) (sockets []int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[:]
}

// known returns what the kernel knows of a socket, but for its cgroup.
func known(t *testing.T, fd int) Socket {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	return Socket{ID: stat.Ino, Inode: stat.Ino, UID: stat.Uid}
}

// wantHolders fails the test unless these are the holders of a socket, once all processes have been searched for it.
func wantHolders(t *testing.T, f *Finder, s Socket, want ...Holder) {
	t.Helper()
	for round := 0; round == 0 || f.search != nil; round++ { // on a host of many processes it takes several
		if _, err := f.Find([]Socket{s}, round > 0); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, f.Holders(s), anyExecutable); diff != "" {
		t.Errorf("holders (-want +got):\n%s", diff)
	}
}

func TestProcessesThatComeAndGoDuringTheSearchAreNoErrors(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		mine := pair(t)
		stays := known(t, mine[0])
		netnstest.HandOver(t, netnstest.Program{Name: "stays", Sockets: mine})
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
					s := known(t, fds[1])
					last.Store(&s)
					started.Add(1)
					process := netnstest.HandOver(t, netnstest.Program{Name: "goes", Sockets: fds})
					time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
					process.End(t)
				}
			})
		}
		for n, deadline := 0, time.Now().Add(20*time.Second); n < 200 || started.Load() < 100 && time.Now().Before(deadline); n++ {
			sockets := []Socket{stays, *last.Load(), {ID: 1 << 40, Inode: 1<<40 + uint64(n)}} // the last one makes it search
			if _, err := f.Find(sockets, false); err != nil {
				t.Errorf("Find %d: %v", n, err)
			}
			if diff := cmp.Diff([]Holder{{Process: "stays"}}, f.Holders(stays), anyExecutable); diff != "" {
				t.Errorf("Find %d: holders of a process that stays (-want +got):\n%s", n, diff)
			}
		}
		stop.Store(true)
		all.Wait()
		if started.Load() < 100 {
			t.Errorf("only %d processes came and went", started.Load())
		}
	})
}

func TestInsideACgroupNamespaceTheWholeHierarchyStillNamesUnits(t *testing.T) {
	if os.Getenv(groupVariable) == "" {
		group := netnstest.NewCgroup(t, "exporter.service")
		server := netnstest.NewCgroup(t, "demo.service")
		fds, below := pair(t), pair(t)
		s, posing := known(t, fds[0]), known(t, below[0])
		netnstest.HandOver(t, netnstest.Program{Name: "demo", Cgroup: server, Sockets: fds})
		netnstest.HandOver(t, netnstest.Program{Name: "posing", Cgroup: group.Sibling(t, "exporter.service/ssh.service"), Sockets: below})
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
	f, err := New("/proc", "/sys")
	if err != nil {
		t.Fatal(err)
	}
	want := Holder{Process: "demo", Unit: "demo.service"}
	wantHolders(t, f, Socket{ID: 1, Inode: inode, Cgroup: group}, want)
	// Without the socket's own cgroup that of the process is asked for, whose path begins where the reader's namespace does.
	wantHolders(t, f, Socket{ID: 2, Inode: inode}, want)
	wantHolders(t, f, Socket{ID: 3, Inode: posing}, Holder{Process: "posing", Unit: "exporter.service"})
}
