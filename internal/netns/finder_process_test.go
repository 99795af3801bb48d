package netns

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// onOwnHost runs body as PID 1, where /proc shows no other processes than those that it starts.
func onOwnHost(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	netnstest.Run(t, func(t *testing.T) {
		if os.Getpid() == 1 {
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
				t.Fatal(err)
			}
			body(t)
			return
		}
		binary, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(binary, "-test.v", "-test.count=1", "-test.run=^"+t.Name()+"$")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL,
		}
		output, err := cmd.CombinedOutput()
		t.Logf("as PID 1:\n| %s", strings.ReplaceAll(strings.TrimSpace(string(output)), "\n", "\n| "))
		if err != nil {
			t.Fatal(err)
		}
	})
}

// child is a process that the test started.
type child struct {
	*exec.Cmd
	input io.WriteCloser
}

// start runs a shell command, by default in new namespaces as the flags say. It ends with the test.
func start(tb testing.TB, flags uintptr, command string) *child {
	tb.Helper()
	c := &child{Cmd: exec.Command("sh", "-c", command)}
	// A group of its own, so that all that it starts can be ended.
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Setpgid: true}
	var err error
	if c.input, err = c.StdinPipe(); err != nil {
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

// tell lets a command go on that waits for input.
func (c *child) tell(tb testing.TB) {
	tb.Helper()
	if _, err := io.WriteString(c.input, "\n"); err != nil {
		tb.Fatal(err)
	}
}

// kill returns when the process is gone, a second time too.
func (c *child) kill() {
	if c.ProcessState == nil {
		_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
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

// other returns the namespace of which a process is a witness.
func other(tb testing.TB, f *Finder, pid int) *Namespace {
	tb.Helper()
	others, err := f.Find()
	if err != nil {
		tb.Fatal(err)
	}
	for _, o := range others {
		if o.has(pid) {
			return o
		}
	}
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
