//go:build linux

package netnstest

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// RunAsHost is [Run] on a host of the test's own: body runs as PID 1 of a PID namespace, and /proc shows only processes that the
// test starts. The test's network namespace is the main one there. All processes end with the test.
func RunAsHost(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	asHost(t, func() { Run(t, body) })
}

// RunAsHostAndNobody is [RunAsRootAndNobody] on a host of the test's own, like [RunAsHost]. Nobody is not PID 1 there.
func RunAsHostAndNobody(t *testing.T, hold, read func(t *testing.T)) {
	t.Helper()
	asHost(t, func() { RunAsRootAndNobody(t, hold, read) })
}

func asHost(t *testing.T, run func()) {
	t.Helper()
	if os.Getenv(roleVariable) == "" {
		needRoot(t)
		cmd := again(t, roleInside)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:   syscall.CLONE_NEWPID,
			Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		}
		finish(t, t.Name(), cmd)
		return
	}
	if os.Getpid() == 1 {
		MountProc(t, "/proc", "")
	}
	run()
}

// MountProc mounts a procfs of the test's PID namespace at a directory, with options. It is for tests in a mount namespace of
// their own.
func MountProc(t *testing.T, dir, options string) {
	t.Helper()
	if err := unix.Mount("proc", dir, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		t.Fatalf("mount a procfs at %s: %v", dir, err)
	}
}

// Elsewhere calls do in another network namespace, on a thread of its own, and returns do's error when that thread has ended. A process that do
// starts lives there. path names the namespace, such as /run/netns/blue. Without it the namespace is a new one, whose loopback
// interface is up.
func Elsewhere(path string, do func() error) error {
	if os.Getenv(roleVariable) == roleHolder { // it was started there
		return do()
	}
	result := make(chan error)
	var thread int
	OnOwnThread(func() {
		thread = unix.Gettid()
		err := enter(path)
		if err == nil {
			err = do()
		}
		result <- err
	})
	err := <-result
	for unix.Tgkill(unix.Getpid(), thread, 0) == nil { // it is still found in the namespace
		time.Sleep(100 * time.Microsecond)
	}
	return err
}

// OnOwnThread calls do in another goroutine, on a thread that ends when do returns, so do may change the thread's namespaces. It is
// never the first thread of the process, which the Go runtime does not end, and whose namespaces /proc/<pid> shows.
func OnOwnThread(do func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			do()
			return // locked: the thread ends
		}
		defer runtime.UnlockOSThread()
		started := make(chan struct{})
		OnOwnThread(func() { close(started); do() }) // on another thread, as this goroutine holds the first
		<-started
	}()
}

// enter takes the calling thread to a network namespace.
func enter(path string) error {
	if path != "" {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}
