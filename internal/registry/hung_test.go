//go:build linux

package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// hungDir mounts a file system that never answers until end is called. A network file system does so when its server is gone.
func hungDir(t *testing.T) (dir string, end func()) {
	t.Helper()
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	dir = t.TempDir()
	if err := unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse)); err != nil {
		t.Skipf("needs to mount a file system: %v", err)
	}
	open := true
	end = func() {
		if open {
			open = false
			_ = unix.Close(fuse)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	}
	t.Cleanup(end)
	return dir, end
}

func TestAFileSystemThatHangsFailsAReload(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		hung, end := hungDir(t)
		dir := t.TempDir()
		good, path := filepath.Join(dir, "good.yml"), filepath.Join(dir, "ports.yml")
		write(t, good, one("a"))
		point := func(to string) {
			t.Helper()
			_ = os.Remove(path)
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
		}
		point(good)
		w := watch(t, path)
		point(filepath.Join(hung, "ports.yml"))
		w.reloadTime = 50 * time.Millisecond
		want := "read the registry: " + path + ": no answer within 50ms: want a file system that answers"
		for _, which := range []string{"a reload that hangs", "a reload behind it"} {
			if err := w.Reload(); err == nil || err.Error() != want {
				t.Errorf("%s: got %v, want %s", which, err, want)
			}
			if ok, _ := w.LastReload(); ok || w.Unanswered() == nil || current(w) != "a" {
				t.Errorf("%s: success %t and service %s, want the last good registry", which, ok, current(w))
			}
		}
		write(t, good, one("b"))
		point(good)
		end()
		w.reloadTime = reloadTime
		check(t, w, true, "b") // waits for the reload that hung
	})
}
