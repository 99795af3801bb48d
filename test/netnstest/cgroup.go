//go:build linux

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

	"github.com/listen-exporter/listen_exporter/test/host"
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
	mount := host.CgroupRoot(tb)
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
		below, _ := filepath.Glob(filepath.Join(dir, "*/cgroup.procs"))
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return
		case errors.Is(err, unix.EBUSY) && len(below) > 0: // another test's
			return
		case !errors.Is(err, unix.EBUSY) || time.Now().After(deadline):
			tb.Errorf("remove %s: %v", dir, err)
			return
		}
	}
}

// Sibling makes another cgroup with the same parent.
func (c *Cgroup) Sibling(tb testing.TB, name string) *Cgroup {
	tb.Helper()
	return NewCgroup(tb, strings.TrimPrefix(filepath.Join(filepath.Dir(c.Dir), name), c.mount))
}

// Remove removes the cgroup, which must be empty, before the test ends.
func (c *Cgroup) Remove(tb testing.TB) {
	tb.Helper()
	removeCgroup(tb, c.Dir)
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
	self, err := procfs.Self()
	if err != nil {
		tb.Fatal(err)
	}
	groups, err := self.Cgroups()
	if err != nil {
		tb.Fatal(err)
	}
	for _, group := range groups {
		if group.HierarchyID == 0 {
			return group.Path
		}
	}
	tb.Fatalf("/proc/self/cgroup names no cgroup of the cgroup2 hierarchy: %+v", groups)
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
