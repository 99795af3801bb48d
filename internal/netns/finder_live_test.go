package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestANamespaceThatTakesADeadOnesNumberIsAnotherOne(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		f := newFinder(t, "/proc")
		var last *Namespace
		for tries := range 100 {
			process := sleeper(t)
			o := findWitness(t, f, process)
			if last != nil && last.Inode == o.Inode {
				t.Logf("namespace %d has the number %d, as the one before it", tries, o.Inode)
				if o == last || o.Serial <= last.Serial || last.Alive() || !o.Alive() {
					t.Errorf("got %+v after %+v", o, last)
				}
				if _, err := os.Stat(filepath.Join(last.Dir(), tcpTable)); err == nil {
					t.Error("the dead one's path leads to the new one")
				}
				return
			}
			last = o
			// That its number is free for others, while it is held on to, shows that a witness does not keep the namespace alive.
			process.kill()
			time.Sleep(time.Duration(50+tries) * time.Millisecond) // the kernel takes namespaces down later than their last process
		}
		t.Fatal("no namespace took the number of the one before it")
	})
}

func TestTheDescriptorOfADeadProcessIsNotThatOfItsPidsNextOne(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		first := start(t, 0, "exec sleep 1000")
		pid := first.Process.Pid
		root, err := unix.Open("/proc", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(root)
		w, err := openWitness(root, pid)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(w.fd)
		if got, err := w.inode(); err != nil || got != first.inode(t) {
			t.Fatalf("while it lives: %d, %v", got, err)
		}

		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "a zombie has no network namespace", func() bool { _, err := w.inode(); return err != nil && IsHidden(err) })
		first.kill()

		second := first
		for tries := 0; second == first || second.Process.Pid != pid; tries++ {
			if tries == 100 {
				t.Fatalf("pid %d was not given out again", pid)
			}
			if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0o644); err != nil {
				t.Skipf("a pid cannot be chosen: %v", err)
			}
			second = start(t, 0, "exec sleep 1000") // unless a thread of ours has taken the number
		}
		second.inode(t)
		if got, err := w.inode(); err == nil || !IsHidden(err) {
			t.Errorf("through the descriptor of the process before it: %d, %v", got, err)
		} else {
			t.Logf("pid %d was given to another process: %v", pid, err)
		}
	})
}

func TestAProcessThatChangesItsNamespaceIsFollowed(t *testing.T) {
	for _, tool := range []string{"unshare", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s, of util-linux", tool)
		}
	}
	netnstest.RunAsHost(t, func(t *testing.T) {
		f := newFinder(t, "/proc")
		goal := sleeper(t)
		for range newRounds {
			membersOf(t, f)
		}
		// Processes that are seen first, and then go where they want to be.
		unsharer := start(t, 0, "read x; exec unshare --net sleep 1000")
		mover := start(t, unix.CLONE_NEWNET, fmt.Sprintf("read x; exec nsenter --net=/proc/%d/ns/net sleep 1000", goal.Process.Pid))
		before := findWitness(t, f, mover)
		home, target := unsharer.inode(t), goal.inode(t)
		unsharer.resume(t)
		mover.resume(t)
		waitFor(t, "both have moved", func() bool { return unsharer.inode(t) != home && mover.inode(t) == target })
		if o := findWitness(t, f, unsharer); o.Inode != unsharer.inode(t) {
			t.Errorf("the one that has made a namespace is in %+v", o)
		}
		if o := findWitness(t, f, mover); o != findWitness(t, f, goal) || o == before {
			t.Errorf("the one that has entered another namespace is in %+v", o)
		}
		if before.Alive() {
			t.Error("the namespace that nobody lives in is alive")
		}
	})
}

func TestNamespacesAreFoundInTheProcfsOfAnotherHost(t *testing.T) {
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("needs unshare, of util-linux")
	}
	netnstest.Run(t, func(t *testing.T) {
		procfs := t.TempDir()
		script := "mount -t proc proc " + procfs + "; while read x; do unshare --net sleep 1000 & done"
		host := start(t, unix.CLONE_NEWPID|unix.CLONE_NEWNET, script)
		defer func() { _ = unix.Unmount(procfs, unix.MNT_DETACH) }()
		waitFor(t, "its procfs is mounted", func() bool { _, err := inode(filepath.Join(procfs, "1")); return err == nil })
		f := newFinder(t, procfs)
		for found := range 5 {
			waitFor(t, "each namespace is found", func() bool { return len(membersOf(t, f)) == found })
			host.resume(t)
		}
		host.kill()
		if _, err := f.Find(); err == nil || !strings.Contains(err.Error(), filepath.Join(procfs, "1", tcpTable)) {
			t.Errorf("the host has gone, but: %v", err)
		}
	})
}

func TestTheAgeOfANamespaceIsThatOfItsOldestProcess(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		f := newFinder(t, "/proc")
		before := time.Now()
		first := sleeper(t)
		time.Sleep(50 * time.Millisecond)
		second := sleeper(t)
		o, next := findWitness(t, f, first), findWitness(t, f, second)
		if o.Started() >= next.Started() {
			t.Errorf("the first started at %d, the second at %d", o.Started(), next.Started())
		}
		age, most := o.Age(), time.Since(before)+2*time.Second/userHZ
		if age < 40*time.Millisecond || age > most {
			t.Errorf("it is %s old, want 50 ms to %s", age, most)
		}
		first.kill()
		if o.Alive() || o.Started() != 0 {
			t.Errorf("the dead one started at %d", o.Started())
		}
	})
}

func TestNamespacesThatComeAndGoAreNoError(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		f := newFinder(t, "/proc")
		steady := sleeper(t)
		o := findWitness(t, f, steady)
		var stop atomic.Bool
		var churn sync.WaitGroup
		made := 0
		churn.Go(func() {
			for ; !stop.Load(); made++ {
				process := exec.Command("sleep", "1000")
				process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
				if err := process.Start(); err != nil {
					t.Error(err)
					return
				}
				_ = process.Process.Kill()
				_ = process.Wait()
			}
		})
		lives := make(map[uint64]bool)
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
			found, err := f.Find()
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 || found[0] != o || !o.Alive() {
				t.Fatalf("the one that stays is not the first of %d", len(found))
			}
			for _, other := range found[1:] {
				lives[other.Serial] = true
			}
		}
		stop.Store(true)
		churn.Wait()
		if len(lives) == 0 || len(lives) > made {
			t.Errorf("%d lives of %d namespaces", len(lives), made)
		}
		waitFor(t, "one namespace is left", func() bool { return len(membersOf(t, f)) == 1 })
	})
}

func TestNobodyFindsEachNamespaceToo(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		fd, err := netnstest.Listen("tcp", "127.0.0.1:4711")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
	}, func(t *testing.T) {
		f := newFinder(t, "/proc")
		for range 3 {
			table, err := os.ReadFile(filepath.Join(ownNamespace(t, f).Dir(), tcpTable))
			if err != nil || !strings.Contains(string(table), "0100007F:1267 ") {
				t.Errorf("the listener was not found: %v in\n%s", err, table)
			}
		}
	})
}

func TestHiddenProcessesAreNotFound(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
			t.Skipf("procfs cannot be mounted with hidepid: %v", err)
		}
	}, func(t *testing.T) {
		f := newFinder(t, "/proc")
		_, err := f.Find()
		if root := os.Geteuid() == 0; root != (err == nil) {
			t.Errorf("got the error %v", err)
		}
		if err != nil && !strings.Contains(err.Error(), "/proc/1/net/tcp") {
			t.Errorf("the error does not name what is hidden: %v", err)
		}
	})
}
