//go:build linux

package netns

import (
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestTheDescriptorOfADeadProcessIsNotThatOfItsPidsNextOne(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		first := start(t, 0, "exec sleep 1000")
		pid := first.Process.Pid
		root, err := unix.Open("/proc", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(root)
		w, err := openWitness(root, strconv.Itoa(pid), pid, pid)
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

func TestANamespaceIsAsOldAsItsOldestProcess(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		before := time.Now()
		process := sleeper(t)
		time.Sleep(50 * time.Millisecond)
		o := findWitness(t, newFinder(t, "/proc"), process)
		age, most := o.Age(), time.Since(before)+2*time.Second/userHZ
		if age < 40*time.Millisecond || age > most {
			t.Errorf("it is %s old, want 50 ms to %s", age, most)
		}
	})
}
