package netnstest

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// RunInPIDNamespace runs the test once more in a PID namespace of its own, whose procfs is at /proc, and has it call body
// there. What stands before it is run in both processes. environment is what the second process is told besides.
func RunInPIDNamespace(t *testing.T, environment []string, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(roleVariable) == roleInside {
		MountProc(t, "/proc", "")
		body(t)
		return
	}
	cmd := again(t, roleInside)
	cmd.Env = append(cmd.Env, environment...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	finish(t, t.Name(), cmd)
}

// MountProc mounts a procfs of the test's PID namespace at a directory, with options. It is for tests in a mount namespace of
// their own.
func MountProc(t *testing.T, dir, options string) {
	t.Helper()
	if err := unix.Mount("proc", dir, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		t.Fatalf("mount a procfs at %s: %v", dir, err)
	}
}
