//go:build linux

package state_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// mount mounts a file system on a new directory.
func mount(t *testing.T, kind, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount(kind, dir, kind, 0, options); err != nil {
		t.Skipf("needs to mount a file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestADiskThatFailsIsOneLineAndEnds: while it fails the old file stays, the gauge is 0 and one line says what to do; when it works again,
// the file is written without a change of the content.
func TestADiskThatFailsIsOneLineAndEnds(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		for _, test := range []struct {
			name       string
			fail, mend func(t *testing.T, dir string)
			want       []string // all in the line
		}{
			{
				name: "full disk", want: []string{"no space left on device", "want free space"},
				fail: func(_ *testing.T, dir string) {
					_ = os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600)
				},
				mend: func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "filler"))) },
			},
			{
				name: "read-only file system", want: []string{"read-only file system", "want a file system that is not"},
				fail: func(t *testing.T, dir string) { must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")) },
				mend: func(t *testing.T, dir string) { must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "")) },
			},
			{
				name: "directory that is gone", want: []string{"no such file or directory", "want that directory"},
				fail: func(t *testing.T, dir string) { must(t, os.Rename(dir+"/in", dir+"/away")) },
				mend: func(t *testing.T, dir string) { must(t, os.Rename(dir+"/away", dir+"/in")) },
			},
		} {
			t.Run(test.name, func(t *testing.T) {
				dir := mount(t, "tmpfs", "size=128k")
				path := filepath.Join(dir, "in", "state")
				must(t, os.Mkdir(filepath.Dir(path), 0o700))
				must(t, os.WriteFile(path, stateFile(t, here), 0o600))
				synctest.Test(t, func(t *testing.T) {
					f, _, lines := open(path, here)
					lines.take()
					content := &memory{map[string]int{strings.Repeat("x", 10_000): 1}} // more than what is left of a page
					ctx, cancel := context.WithCancel(t.Context())
					kept := make(chan struct{})
					go func() {
						defer close(kept)
						f.Keep(ctx, func() any { return content })
					}()
					test.fail(t, dir)
					time.Sleep(time.Minute)
					got := lines.take()
					if f.Written.Load() || len(got) != 1 || !strings.Contains(got[0], "level=warn") {
						t.Errorf("written: %t, logged %q, want one line", f.Written.Load(), got)
					}
					for _, want := range append(test.want, path) {
						if len(got) > 0 && !strings.Contains(got[0], want) {
							t.Errorf("%q does not say %q", got[0], want)
						}
					}
					if saved, err := read(path); err == nil && len(ports(saved)) != 1 {
						t.Error("the old file is damaged")
					}
					test.mend(t, dir)
					time.Sleep(6 * time.Second)
					if got := lines.take(); !f.Written.Load() || len(got) != 1 || !strings.Contains(got[0], "written again") {
						t.Errorf("written: %t, logged %q", f.Written.Load(), got)
					}
					if saved, err := read(path); err != nil || len(ports(saved)) != 1 {
						t.Errorf("the new file: %v", err)
					}
					cancel()
					<-kept
				})
			})
		}
	})
}

// TestAFileThatCanOnlyBeReadIsRead: what was remembered is of use, although it cannot be written.
func TestAFileThatCanOnlyBeReadIsRead(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		dir := mount(t, "tmpfs", "size=128k")
		path := filepath.Join(dir, "state")
		must(t, os.WriteFile(path, stateFile(t, here), 0o600))
		must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		f, saved, lines := open(path, here)
		writeOnce(t, f, &memory{})
		if got := lines.take(); saved == nil || f.Written.Load() || len(got) != 2 || !strings.Contains(got[1], "read-only") {
			t.Errorf("saved is %v, written %t, logged %q", saved, f.Written.Load(), got)
		}
	})
}

// TestNobodyWithoutRightsGoesOn: files of another user can be neither read nor replaced.
func TestNobodyWithoutRightsGoesOn(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		if os.Geteuid() == 0 {
			return
		}
		for name, path := range map[string]string{"no right to write the directory": "/usr/state", "no right to enter it": "/proc/1/cwd/state"} {
			f, saved, lines := open(path, here)
			writeOnce(t, f, &memory{})
			got := lines.take()
			if saved != nil || f.Written.Load() || len(got) != 1 || !strings.Contains(got[0], "permission denied: want a directory that uid 65534 may write") {
				t.Errorf("%s: saved is %v, written %t, logged %q", name, saved, f.Written.Load(), got)
			}
		}
	})
}

// hung mounts a file system that never answers until end is called. A network file system does so when its server is gone.
func hung(t *testing.T, dir string) (end func()) {
	t.Helper()
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	if err := unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse)); err != nil {
		t.Skipf("needs to mount a file system: %v", err)
	}
	return func() {
		_ = unix.Close(fuse)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
}

func TestAFileSystemThatHangsDelaysTheStartByTwoSecondsAtMost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s")
	}
	netnstest.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "state")
		save(t, path, here, map[string]int{"22": 1})
		end := hung(t, dir)
		f, saved, lines := open(path, here)
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			content := &memory{map[string]int{"80": 1}}
			f.Keep(ctx, func() any { return content })
		}()
		time.Sleep(12 * time.Second) // longer than a write may take
		got := lines.take()
		if saved != nil || f.Written.Load() || len(got) != 1 || !strings.Contains(got[0], "does not answer: want ") {
			t.Errorf("saved is %v, written %t, logged %q", saved, f.Written.Load(), got)
		}
		end()
		for deadline := time.Now().Add(time.Minute); !f.Written.Load() && time.Now().Before(deadline); {
			time.Sleep(100 * time.Millisecond)
		}
		cancel()
		<-kept
		if got := lines.take(); !f.Written.Load() || len(got) == 0 || !strings.Contains(got[len(got)-1], "written again") {
			t.Errorf("written: %t, logged %q", f.Written.Load(), got)
		}
		for name, want := range map[string]string{path: "80", path + ".old": "22"} { // which was never read
			if saved, err := read(name); err != nil || ports(saved)[want] != 1 {
				t.Errorf("%s: %+v, %v", name, saved, err)
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
