package inventory_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestHiddenProcessesAreNotGuessed(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		serve(t, "demo", netnstest.NewCgroup(t, "demo.service"), 8000)
		procfs := netnstest.OpenDir(t)
		netnstest.MountProc(t, procfs, "hidepid=2")
		t.Cleanup(func() { unmount(t, procfs) })
		if !hidesPIDs(t, procfs) {
			t.Skip("needs Linux 5.8, where each mount of a procfs has options of its own")
		}
		eachWatcherOf(t, mounts{procfs, "/sys"}, func(t *testing.T, start func() *watcher) {
			w := start()
			for range recheckRounds {
				w.want(t, 8000, w.pick(
					inventory.Holder{Process: "demo", Unit: "demo.service"},
					inventory.Holder{Unit: "demo.service"},
				))
			}
		})
	})
}

// hidesPIDs tells whether the kernel took the option hidepid=2 for a mount.
func hidesPIDs(t *testing.T, dir string) bool {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " "+dir+" ") {
			return strings.Contains(line, "hidepid=2") || strings.Contains(line, "hidepid=invisible")
		}
	}
	return false
}

func TestWithoutACgroup2HierarchyTheProcessNamesTheUnit(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		process := serve(t, "demo", netnstest.NewCgroup(t, "made.service"), 8000)
		netnstest.NewCgroup(t, "demo.service").Add(t, process.PID)
		t.Cleanup(func() { process.End(t) }) // before its cgroup is removed
		sysfs := netnstest.OpenDir(t)
		if _, err := holder.New("/proc", sysfs); err == nil || !strings.Contains(err.Error(), "no cgroup2 hierarchy is mounted below "+sysfs) {
			t.Errorf("New: %v, want an error that says what is missing where", err)
		}
		wantOnlyExact(t, mounts{"/proc", sysfs}, inventory.Holder{Process: "demo", Unit: "demo.service"})
	})
}

func TestWithVersion1OfCgroupsAloneSystemdsHierarchyNamesTheUnit(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		fd, err := netnstest.Listen("tcp", "0.0.0.0:8000")
		if err != nil {
			t.Fatal(err)
		}
		process := netnstest.HandOver(t, netnstest.Program{Name: "demo", UID: serviceUser, Sockets: []int{fd}})
		group := netnstest.NewSystemdCgroup(t, "demo.service")
		group.Add(t, process.PID)
		t.Cleanup(func() { process.End(t) }) // before its cgroup is removed
		wantOnlyExact(t, mounts{"/proc", netnstest.OpenDir(t)}, inventory.Holder{Process: "demo", Unit: "demo.service"})
	})
}

func TestAPartOfTheHierarchyNamesNoUnit(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		serve(t, "demo", group, 8000)
		sysfs := netnstest.OpenDir(t)
		part := filepath.Join(sysfs, "unified")
		if err := os.Mkdir(part, 0o755); err != nil {
			t.Fatal(err)
		}
		mountPart(t, group, part)
		_, err := holder.New("/proc", sysfs)
		if err == nil {
			t.Fatal("New: no error, though there is a part of the hierarchy alone")
		}
		for _, want := range []string{part + " shows only a part of the cgroup2 hierarchy", "/sys/fs/cgroup", "--path.sysfs"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("New: %v, want an error that says %q", err, want)
			}
		}
		wantOnlyExact(t, mounts{"/proc", sysfs}, inventory.Holder{Process: "demo", Unit: "demo.service"})
	})
}

// wantOnlyExact fails the test unless port 8000 has a holder for whoever may look into its descriptors, and for nobody else.
func wantOnlyExact(t *testing.T, m mounts, want inventory.Holder) {
	t.Helper()
	eachWatcherOf(t, m, func(t *testing.T, start func() *watcher) {
		w := start()
		for range recheckRounds {
			if w.exact {
				w.want(t, 8000, want)
				continue
			}
			w.want(t, 8000)
			if got := w.snapshot(t).Unattributed; got != 1 {
				t.Errorf("%d listeners are unattributed, want 1", got)
			}
		}
	})
}

// mountPart mounts what a process in a cgroup namespace sees of the hierarchy: a cgroup and those below it.
func mountPart(t *testing.T, group *netnstest.Cgroup, dir string) {
	t.Helper()
	failed := make(chan error)
	group.Inside(t, func() {
		netnstest.OnOwnThread(func() {
			err := unix.Unshare(unix.CLONE_NEWCGROUP)
			if err == nil {
				err = unix.Mount("cgroup2", dir, "cgroup2", 0, "")
			}
			failed <- err
		})
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { unmount(t, dir) })
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Errorf("unmount %s: %v", dir, err)
	}
}
