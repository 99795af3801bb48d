//go:build linux

package holder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fixture is a procfs and a cgroup hierarchy that the test writes.
type fixture struct {
	t              *testing.T
	procfs, groups string
	clock          time.Time
	tick           time.Duration // how far the clock goes on each time it is read
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	x := &fixture{t: t, procfs: t.TempDir(), groups: t.TempDir(), clock: time.Unix(1_700_000_000, 0)}
	x.write("self/mountinfo", "22 1 0:21 / /proc rw - proc proc rw\n")
	return x
}

// finder returns a Finder for the fixture, whose hierarchy is taken for a whole one.
func (x *fixture) finder() *Finder {
	x.t.Helper()
	f, err := New(x.procfs, "/nowhere")
	if err == nil || !strings.Contains(err.Error(), "no cgroup2 hierarchy is mounted below /nowhere") {
		x.t.Fatalf("New: %v", err)
	}
	f.cgroups, f.patrols = newTree(x.groups), nil
	f.now = func() time.Time {
		x.clock = x.clock.Add(x.tick)
		return x.clock
	}
	return f
}

func (x *fixture) write(file, text string) {
	x.t.Helper()
	file = filepath.Join(x.procfs, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		x.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		x.t.Fatal(err)
	}
}

// process writes a process that has sockets open, from descriptor 3.
func (x *fixture) process(pid int, name string, inodes ...uint64) {
	x.t.Helper()
	x.write(fmt.Sprintf("%d/comm", pid), name+"\n")
	if _, err := os.Stat(filepath.Join(x.procfs, strconv.Itoa(pid), "cgroup")); err != nil {
		x.write(fmt.Sprintf("%d/cgroup", pid), "0::/\n")
	}
	if err := os.MkdirAll(x.fdDir(pid), 0o755); err != nil {
		x.t.Fatal(err)
	}
	x.link(pid, 0, "/dev/null")
	x.link(pid, 1, "pipe:[1]")
	x.link(pid, 2, "anon_inode:[eventpoll]")
	for n, inode := range inodes {
		x.link(pid, 3+n, fmt.Sprintf("socket:[%d]", inode))
	}
}

func (x *fixture) fdDir(pid int) string { return filepath.Join(x.procfs, strconv.Itoa(pid), "fd") }

func (x *fixture) link(pid, fd int, target string) {
	x.t.Helper()
	if err := os.Symlink(target, filepath.Join(x.fdDir(pid), strconv.Itoa(fd))); err != nil {
		x.t.Fatal(err)
	}
}

// end removes a process.
func (x *fixture) end(pid int) {
	x.t.Helper()
	x.remove(filepath.Join(x.procfs, strconv.Itoa(pid)))
}

func (x *fixture) remove(path string) {
	x.t.Helper()
	if err := os.RemoveAll(path); err != nil {
		x.t.Fatal(err)
	}
}

func (x *fixture) rename(from, to string) {
	x.t.Helper()
	if err := os.Rename(from, to); err != nil {
		x.t.Fatal(err)
	}
}

// group writes a cgroup with processes and returns its ID.
func (x *fixture) group(path string, pids ...int) uint64 {
	x.t.Helper()
	dir := filepath.Join(x.groups, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		x.t.Fatal(err)
	}
	var text strings.Builder
	for _, pid := range pids {
		fmt.Fprintln(&text, pid)
		if pid != 0 {
			x.write(fmt.Sprintf("%d/cgroup", pid), "0::/"+path+"\n")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(text.String()), 0o644); err != nil {
		x.t.Fatal(err)
	}
	id, err := inode(dir)
	if err != nil {
		x.t.Fatal(err)
	}
	return id
}

// find runs a Find that must not fail, long enough after the last one for it to recheck holders.
func (x *fixture) find(f *Finder, sockets []Socket, same bool) (changed bool) {
	x.t.Helper()
	x.clock = x.clock.Add(recheckPause)
	changed, err := f.Find(sockets, same)
	if err != nil {
		x.t.Fatal(err)
	}
	return changed
}

// want fails the test unless a socket has these holders.
func (x *fixture) want(f *Finder, s Socket, want ...Holder) {
	x.t.Helper()
	if diff := cmp.Diff(want, f.Holders(s)); diff != "" {
		x.t.Errorf("holders of %+v (-want +got):\n%s", s, diff)
	}
}

// opened watches which directories are opened.
type opened struct {
	t    *testing.T
	fd   int
	dirs map[int32]string // by watch descriptor
}

func watchOpening(t *testing.T, dirs ...string) *opened {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	o := &opened{t: t, fd: fd, dirs: make(map[int32]string)}
	for _, dir := range dirs {
		wd, err := unix.InotifyAddWatch(fd, dir, unix.IN_OPEN|unix.IN_ONLYDIR)
		if err != nil {
			t.Fatal(err)
		}
		o.dirs[int32(wd)] = dir
	}
	return o
}

// since returns the directories that were opened since the last call, once for each time. The kernel reports two times as one if
// nothing is between them.
func (o *opened) since() (dirs []string) {
	o.t.Helper()
	buffer := make([]byte, 64*1024)
	for {
		length, err := unix.Read(o.fd, buffer)
		if errors.Is(err, unix.EAGAIN) {
			slices.Sort(dirs)
			return dirs
		}
		if err != nil {
			o.t.Fatal(err)
		}
		for at := 0; at < length; {
			name := int(binary.NativeEndian.Uint32(buffer[at+12:]))
			if name == 0 { // else it is a file in it
				dirs = append(dirs, o.dirs[int32(binary.NativeEndian.Uint32(buffer[at:]))])
			}
			at += unix.SizeofInotifyEvent + name
		}
	}
}

// want fails the test unless exactly these directories were opened since the last call.
func (o *opened) want(dirs ...string) {
	o.t.Helper()
	slices.Sort(dirs)
	if diff := cmp.Diff(dirs, o.since()); diff != "" {
		o.t.Errorf("opened directories (-want +got):\n%s", diff)
	}
}
