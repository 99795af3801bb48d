//go:build linux

package holder

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fifo puts a fifo that nobody writes to in the place of a file or directory of the procfs.
func (x *fixture) fifo(file string) {
	x.t.Helper()
	makeFifo(x.t, filepath.Join(x.procfs, file), x.remove)
}

func makeFifo(t *testing.T, path string, remove func(string)) {
	t.Helper()
	remove(path)
	if err := unix.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAFifoInPlaceOfAFileBlocksNoFind(t *testing.T) {
	unit := []Holder{{Unit: "a.service"}}
	for _, c := range []struct {
		name    string
		make    func(x *fixture)
		wantErr string
		want    []Holder
	}{
		{"a name", func(x *fixture) { x.fifo("100/comm") }, "100/comm is wrong: want a regular file", nil},
		{"the cgroup of a process", func(x *fixture) { x.fifo("100/cgroup") }, "", []Holder{{Process: "server", Unit: "a.service"}}},
		{"a directory of descriptors", func(x *fixture) { x.fifo("100/fd") }, "100/fd: not a directory", nil},
		{"the processes of a cgroup", func(x *fixture) {
			x.fifo("100/fd")
			x.remove(x.procfs + "/100/fd")
			makeFifo(x.t, x.groups+"/system.slice/a.service/cgroup.procs", x.remove)
		}, "", unit},
		{"a program", func(x *fixture) { x.fifo("100/exe") }, "", []Holder{{Process: "server", Unit: "a.service"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			x.process(100, "server", 1000)
			s := Socket{ID: 1, Inode: 1000, Cgroup: x.group("system.slice/a.service", 100)}
			c.make(x)
			f := x.finder()
			done := make(chan error, 1)
			go func() { _, err := f.Find([]Socket{s}, false); done <- err }()
			select {
			case err := <-done:
				if c.wantErr == "" && err != nil || c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
					t.Errorf("Find: %v, want %q", err, c.wantErr)
				}
				x.want(f, s, c.want...)
			case <-time.After(20 * time.Second):
				t.Fatal("Find waits")
			}
		})
	}
	t.Run("the mount table", func(t *testing.T) {
		x := newFixture(t)
		x.fifo("self/mountinfo")
		if _, err := New(x.procfs, "/sys"); err == nil || !strings.Contains(err.Error(), "mountinfo is wrong: want a regular file") {
			t.Errorf("New: %v", err)
		}
	})
}

func TestAFileWithoutEndIsAnError(t *testing.T) {
	x := newFixture(t)
	x.process(100, "server", 1000)
	x.write("100/comm", strings.Repeat("x", maxName+1))
	f := x.finder()
	if _, err := f.Find([]Socket{{ID: 1, Inode: 1000}}, false); err == nil || !strings.Contains(err.Error(), "want at most 4096 bytes") {
		t.Errorf("Find: %v", err)
	}
}
