//go:build linux

package netns

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestANamespaceHasTheNameThatIPNetnsShows(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		process := sleeper(t)
		nameless := sleeper(t)
		linked := sleeper(t)
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
		for _, name := range []string{"stale", "named", "named later", "own", "bad\xff"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o444); err != nil {
				t.Fatal(err)
			}
		}
		for name, source := range map[string]string{
			"named": process.dir() + "/ns/net", "named later": process.dir() + "/ns/net", "own": "/proc/self/ns/net",
		} {
			if err := unix.Mount(source, filepath.Join(dir, name), "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
		}
		for name, target := range map[string]string{
			"linked": linked.dir() + "/ns/net", "dead": "/proc/0/ns/net", "a mount": filepath.Join(dir, "own"), "nowhere": "nowhere",
		} {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}

		f := newFinder(t, "/proc")
		names := ReadRunNames("/proc", dir)
		got := make(map[string]string)
		for what, process := range map[string]*child{"mounted": process, "not named": nameless, "linked": linked} {
			o := findWitness(t, f, process)
			got[what] = names.Of(o)
			process.kill()
			if name := names.Of(o); name != "" {
				t.Errorf("a dead one is called %q", name)
			}
		}
		want := map[string]string{"mounted": "named", "not named": "", "linked": "linked"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestTheNamesOfAHostAreThoseOfItsFirstProcess(t *testing.T) {
	procfs := t.TempDir()
	if got := RunNamesDir(procfs); got != "/run/netns" {
		t.Errorf("got %s where PID 1 cannot be looked into", got)
	}
	want := filepath.Join(procfs, "1/root", "run/netns")
	if err := os.MkdirAll(want, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := RunNamesDir(procfs); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, dir := range []string{want, want + "/missing"} {
		if names := ReadRunNames(procfs, dir); len(names) != 0 {
			t.Errorf("%s: got %v", dir, names)
		}
	}
}
