package netnstest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup is a cgroup of the test's own.
type Cgroup struct {
	// Dir is its directory, and ID that directory's inode number.
	Dir string
	ID  uint64

	mount string // of the hierarchy
}

// NewCgroup makes a cgroup in the cgroup2 hierarchy, which the test's end removes with those above it that it made. A path
// that begins with a slash is one from the root of the hierarchy. Any other one begins in a slice of its own, so that tests
// that run at the same time do not meet.
//
// Where there is no such hierarchy, or only a part of it is in view, the test is skipped.
func NewCgroup(tb testing.TB, path string) *Cgroup {
	tb.Helper()
	return newCgroup(tb, mountOf(tb, "cgroup2", ""), path)
}

// NewSystemdCgroup is [NewCgroup] in the hierarchy of version 1 in which systemd keeps its units where it does not use cgroup2
// for that.
func NewSystemdCgroup(tb testing.TB, path string) *Cgroup {
	tb.Helper()
	return newCgroup(tb, mountOf(tb, "cgroup", "name=systemd"), path)
}

func newCgroup(tb testing.TB, mount, path string) *Cgroup {
	tb.Helper()
	dir := filepath.Join(mount, path)
	if !strings.HasPrefix(path, "/") {
		slice, err := os.MkdirTemp(mount, "listen_exporter_test*.slice")
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { removeCgroup(tb, slice) })
		if err := os.Chmod(slice, 0o755); err != nil { // nobody shall see it too
			tb.Fatal(err)
		}
		dir = filepath.Join(slice, path)
	}
	// Another test may remove a slice that both have need of, between one step and the next.
	var err error
	for range 100 {
		if err = makeCgroup(tb, dir); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	c := &Cgroup{Dir: dir, mount: mount}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		tb.Fatal(err)
	}
	c.ID = stat.Ino
	return c
}

// makeCgroup makes a directory and those above it.
func makeCgroup(tb testing.TB, dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, os.ErrNotExist) {
		if err = makeCgroup(tb, filepath.Dir(dir)); err == nil {
			err = os.Mkdir(dir, 0o755)
		}
	}
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		tb.Cleanup(func() { removeCgroup(tb, dir) })
	}
	return err
}

// removeCgroup removes a cgroup, if it is there still. The kernel may need a moment to see that its processes have ended.
func removeCgroup(tb testing.TB, dir string) {
	tb.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Rmdir(dir)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return
		case errors.Is(err, unix.EBUSY) && hasBelow(dir): // another test's
			return
		case !errors.Is(err, unix.EBUSY) || time.Now().After(deadline):
			tb.Errorf("remove %s: %v", dir, err)
			return
		}
	}
}

// hasBelow tells whether a cgroup has others below it.
func hasBelow(dir string) bool {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			return true
		}
	}
	return false
}

// Beside makes another cgroup beside this one.
func (c *Cgroup) Beside(tb testing.TB, name string) *Cgroup {
	tb.Helper()
	return newCgroup(tb, c.mount, strings.TrimPrefix(filepath.Join(filepath.Dir(c.Dir), name), c.mount))
}

// Remove removes the cgroup, which must be empty, before the test ends.
func (c *Cgroup) Remove(tb testing.TB) {
	tb.Helper()
	removeCgroup(tb, c.Dir)
	if _, err := os.Stat(c.Dir); err == nil {
		tb.Fatalf("%s is there still", c.Dir)
	}
}

// Add moves a process into the cgroup.
func (c *Cgroup) Add(tb testing.TB, pid int) {
	tb.Helper()
	moveTo(tb, c.Dir, pid)
}

// Inside calls do while the test's own process is in the cgroup: a socket that do opens is made in it.
func (c *Cgroup) Inside(tb testing.TB, do func()) {
	tb.Helper()
	was := filepath.Join(c.mount, ownCgroup(tb))
	moveTo(tb, c.Dir, os.Getpid())
	defer moveTo(tb, was, os.Getpid())
	do()
}

// Listen is [Listen] inside of the cgroup. The caller closes the socket.
func (c *Cgroup) Listen(tb testing.TB, proto, address string, options ...Option) (fd int) {
	tb.Helper()
	var err error
	c.Inside(tb, func() { fd, err = Listen(proto, address, options...) })
	if err != nil {
		tb.Fatal(err)
	}
	return fd
}

func moveTo(tb testing.TB, dir string, pid int) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		tb.Fatal(err)
	}
}

// ownCgroup returns the path of the cgroup2 cgroup that the process is in.
func ownCgroup(tb testing.TB) string {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	tb.Fatalf("/proc/self/cgroup names no cgroup of the cgroup2 hierarchy:\n%s", text)
	return ""
}

// mountOf returns where a cgroup hierarchy is mounted as a whole. option is one that the filesystem is mounted with, or empty.
func mountOf(tb testing.TB, kind, option string) string {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root to make a cgroup")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		where, what, _ := strings.Cut(strings.TrimSpace(line), " - ")
		at, device := strings.Fields(where), strings.Fields(what)
		if len(at) < 5 || len(device) < 3 || device[0] != kind || at[3] != "/" {
			continue
		}
		if option != "" && !strings.Contains(","+device[2]+",", ","+option+",") {
			continue
		}
		info, err := os.Stat(at[4])
		if err != nil {
			tb.Fatal(err)
		}
		if stat := info.Sys().(*syscall.Stat_t); kind == "cgroup2" && stat.Ino != 1 {
			continue // in a cgroup namespace it is / too
		}
		return at[4]
	}
	tb.Skipf("needs a %s hierarchy %s, with its root in view", kind, option)
	return ""
}
