package netnstest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Cgroup is a cgroup of the test's own.
type Cgroup struct {
	// Dir is its directory, and ID that directory's inode number.
	Dir string
	ID  uint64

	mount string // of the hierarchy
}

// NewCgroup makes a cgroup in the cgroup2 hierarchy. The test's end removes it, with the cgroups above it that it made. A path that
// begins with a slash starts at the root of the hierarchy. Any other one starts in a slice of its own, so that tests that run at the
// same time do not meet.
//
// If there is no such hierarchy, or only a part of it is in view, the test is skipped.
func NewCgroup(tb testing.TB, path string) *Cgroup {
	tb.Helper()
	return newCgroup(tb, mountOf(tb, "cgroup2", ""), path)
}

// NewSystemdCgroup is [NewCgroup] in the version 1 hierarchy of systemd's units, on hosts where systemd does not use cgroup2.
func NewSystemdCgroup(tb testing.TB, path string) *Cgroup {
	tb.Helper()
	return newCgroup(tb, mountOf(tb, "cgroup", "systemd"), path)
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
		if err := os.Chmod(slice, 0o755); err != nil { // so that nobody sees it too
			tb.Fatal(err)
		}
		dir = filepath.Join(slice, path)
	}
	// Between two steps another test may remove a slice that both need.
	var err error
	for range 100 {
		if err = makeCgroup(tb, dir); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return &Cgroup{Dir: dir, ID: inode(tb, dir), mount: mount}
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

// removeCgroup removes a cgroup, if it is still there. The kernel may need a moment to see that its processes have ended.
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

// hasBelow reports whether a cgroup has others below it.
func hasBelow(dir string) bool {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			return true
		}
	}
	return false
}

// Beside makes another cgroup with the same parent.
func (c *Cgroup) Beside(tb testing.TB, name string) *Cgroup {
	tb.Helper()
	return newCgroup(tb, c.mount, strings.TrimPrefix(filepath.Join(filepath.Dir(c.Dir), name), c.mount))
}

// Remove removes the cgroup, which must be empty, before the test ends.
func (c *Cgroup) Remove(tb testing.TB) {
	tb.Helper()
	removeCgroup(tb, c.Dir)
	if _, err := os.Stat(c.Dir); err == nil {
		tb.Fatalf("%s is still there", c.Dir)
	}
}

// Add moves a process into the cgroup.
func (c *Cgroup) Add(tb testing.TB, pid int) {
	tb.Helper()
	moveTo(tb, c.Dir, pid)
}

// Inside calls do while the test's own process is in the cgroup. Sockets that do opens are made in it.
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

// mountOf returns where a whole cgroup hierarchy is mounted. name is that of a version 1 hierarchy without controllers.
func mountOf(tb testing.TB, kind, name string) string {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root to make a cgroup")
	}
	mounts, err := procfs.GetMounts()
	if err != nil {
		tb.Fatal(err)
	}
	for _, mount := range mounts {
		if mount.FSType != kind || mount.Root != "/" || mount.SuperOptions["name"] != name {
			continue
		}
		// In a cgroup namespace the root is / too.
		if kind != "cgroup2" || inode(tb, mount.MountPoint) == 1 {
			return mount.MountPoint
		}
	}
	tb.Skipf("needs a %s hierarchy %s, with its root in view", kind, name)
	return ""
}

func inode(tb testing.TB, path string) uint64 {
	tb.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		tb.Fatal(err)
	}
	return stat.Ino
}
