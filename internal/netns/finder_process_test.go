//go:build linux

package netns

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process that the test started.
type child struct{ *exec.Cmd }

// start runs a shell command, by default in new namespaces as the flags say. It ends with the test.
func start(tb testing.TB, flags uintptr, command string) *child {
	tb.Helper()
	c := &child{exec.Command("sh", "-c", command)}
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if _, err := c.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		if errors.Is(err, unix.EPERM) {
			tb.Skipf("the kernel refuses to make a namespace: %v", err)
		}
		tb.Fatal(err)
	}
	tb.Cleanup(c.kill)
	return c
}

// sleeper is a process in a network namespace of its own.
func sleeper(tb testing.TB) *child {
	tb.Helper()
	return start(tb, unix.CLONE_NEWNET, "read x") // it ends with the test, even if that crashes
}

// kill returns when the process is gone, a second time too.
func (c *child) kill() {
	if c.ProcessState == nil {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// dir is the directory of the process.
func (c *child) dir() string { return filepath.Join("/proc", strconv.Itoa(c.Process.Pid)) }

// inode fails the test if there is no such process.
func (c *child) inode(tb testing.TB) uint64 {
	tb.Helper()
	number, err := inode(c.dir())
	if err != nil {
		tb.Fatal(err)
	}
	return number
}

// findWitness calls Find, and returns the namespace whose witness a process is.
func findWitness(tb testing.TB, f *Finder, process *child) *Namespace {
	tb.Helper()
	namespaces, err := f.Find()
	if err != nil {
		tb.Fatal(err)
	}
	for _, o := range namespaces {
		if slices.Contains(o.Members(), process.Process.Pid) {
			return o
		}
	}
	tb.Fatalf("the namespace of process %d was not found", process.Process.Pid)
	return nil
}

// waitFor fails the test if something does not come true.
func waitFor(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not so after 20 seconds: %s", what)
		}
	}
}
