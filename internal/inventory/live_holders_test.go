//go:build linux

package inventory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// holdings are ways in which programs hold a listener that was made in the cgroup group. want are the holders for a reader with
// rights, and byCgroup those for one without.
var holdings = []struct {
	name           string
	cgroup         string // demo.service unless it is given
	open           func(t *testing.T, group *netnstest.Cgroup, port uint16)
	want, byCgroup []inventory.Holder
	many           bool
}{
	{
		name: "one program", open: func(t *testing.T, group *netnstest.Cgroup, port uint16) { serve(t, "demo", group, port) },
		want: held("demo", "demo.service"), byCgroup: held("demo", "demo.service"),
	},
	{
		name: "one of two programs in the cgroup", open: func(t *testing.T, group *netnstest.Cgroup, port uint16) {
			serve(t, "server", group, port)
			netnstest.Start(t, netnstest.Program{Name: "other", Cgroup: group, UID: serviceUser})
		},
		want: held("server", "demo.service"), byCgroup: held("", "demo.service"),
	},
	{
		name: "a master and workers of one name", open: func(t *testing.T, group *netnstest.Cgroup, port uint16) { share(t, group, port, "web", "web", "web") },
		want: held("web", "demo.service"), byCgroup: held("web", "demo.service"),
	},
	{
		name: "the service of a socket unit", cgroup: "foo.socket", open: func(t *testing.T, group *netnstest.Cgroup, port uint16) {
			fd := group.Listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", port))
			netnstest.HandOver(t, netnstest.Program{Name: "foo", Cgroup: netnstest.NewCgroup(t, "foo.service"), UID: serviceUser, Sockets: []int{fd}})
		},
		want: held("foo", "foo.socket"), byCgroup: held("", "foo.socket"),
	},
	{
		// Each has the unit that it runs in, and not that of who made the socket.
		name: "a program and one of another cgroup", open: func(t *testing.T, group *netnstest.Cgroup, port uint16) {
			other := netnstest.NewCgroup(t, "other.service")
			serve(t, "first", group, port).PassOn(t, netnstest.Program{Name: "second", Cgroup: other, UID: serviceUser})
		},
		want: held("first", "demo.service", "second", "other.service"), byCgroup: held("first", "demo.service"),
	},
	{
		name: "five programs with a socket each", open: func(t *testing.T, group *netnstest.Cgroup, port uint16) {
			for _, program := range []string{"e", "d", "c", "b", "a"} {
				serve(t, program, group, port, netnstest.ReusePort())
			}
		},
		want: held("a", "demo.service", "b", "demo.service", "c", "demo.service", "d", "demo.service"), byCgroup: held("", "demo.service"), many: true,
	},
	{
		// The kernel lets only sockets of one user share a port, but later they may be given to another one.
		name: "sockets of two users", open: func(t *testing.T, group *netnstest.Cgroup, port uint16) {
			var sockets []int
			for range 2 {
				sockets = append(sockets, group.Listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", port), netnstest.ReusePort()))
			}
			if err := unix.Fchown(sockets[1], serviceUser, -1); err != nil {
				t.Fatal(err)
			}
			netnstest.HandOver(t, netnstest.Program{Name: "web", Cgroup: group, UID: serviceUser, Sockets: sockets})
		},
		want:     []inventory.Holder{{Process: "web", Unit: "demo.service"}, {Process: "web", Unit: "demo.service", UID: serviceUser}},
		byCgroup: []inventory.Holder{{Process: "web", Unit: "demo.service"}, {Process: "web", Unit: "demo.service", UID: serviceUser}},
	},
}

// share has programs of a cgroup share a socket.
func share(t *testing.T, group *netnstest.Cgroup, port uint16, names ...string) {
	t.Helper()
	fd := group.Listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", port))
	for _, name := range names {
		netnstest.Start(t, netnstest.Program{Name: name, Cgroup: group, UID: serviceUser, Sockets: []int{fd}})
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
}

func TestTheHoldersAreThoseThatTheReaderMaySee(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		const first = 8000
		for n, h := range holdings {
			cgroup := h.cgroup
			if cgroup == "" {
				cgroup = "demo.service"
			}
			h.open(t, netnstest.NewCgroup(t, cgroup), uint16(first+n))
		}
		eachWatcher(t, func(t *testing.T, rights netnstest.Rights) {
			w := watch(t, usualView, rights)
			s := w.snapshot(t)
			for n, h := range holdings {
				l := holdersOf(t, s, uint16(first+n))
				if diff := cmp.Diff(pick(w, h.want, h.byCgroup), l.Holders); diff != "" {
					t.Errorf("%s (-want +got):\n%s", h.name, diff)
				}
				if l.ManyHolders != (h.many && w.exact) {
					t.Errorf("%s: many holders: %t", h.name, l.ManyHolders)
				}
			}
			// Through procfs only the process names the unit.
			watch(t, view{"/proc", "/sys", "procfs"}, rights).want(t, first, pick(w, held("demo", "demo.service"), nil)...)
		})
	})
}

// changes are what may happen to the program "before", of demo.service, which holds port 8000. begin starts it, and returns what
// makes the change.
var changes = []struct {
	name           string
	begin          func(t *testing.T, group *netnstest.Cgroup) (change func())
	atOnce         bool
	want, byCgroup []inventory.Holder // afterwards
}{
	{
		name: "another unit starts in its place", begin: func(t *testing.T, group *netnstest.Cgroup) func() {
			before := serve(t, "before", group, 8000)
			return func() {
				before.End(t)
				serve(t, "after", netnstest.NewCgroup(t, "after.service"), 8000)
			}
		},
		atOnce: true, want: held("after", "after.service"), byCgroup: held("after", "after.service"),
	},
	{
		name: "it dies and another has the socket", begin: func(t *testing.T, group *netnstest.Cgroup) func() {
			before := serve(t, "before", group, 8000)
			return func() {
				before.PassOn(t, netnstest.Program{Name: "after", Cgroup: group, UID: serviceUser})
				before.End(t)
			}
		},
		want: held("after", "demo.service"), byCgroup: held("after", "demo.service"),
	},
	{
		// To nobody the one process of the cgroup is the holder: which sockets it has open only more rights would show.
		name: "it closes the socket and another has it", begin: func(t *testing.T, group *netnstest.Cgroup) func() {
			before := serve(t, "before", group, 8000)
			other := netnstest.NewCgroup(t, "other.service")
			return func() {
				before.PassOn(t, netnstest.Program{Name: "after", Cgroup: other, UID: serviceUser})
				before.CloseSocket(t, 0)
			}
		},
		want: held("after", "other.service"), byCgroup: held("before", "demo.service"),
	},
	{
		name: "it moves to another cgroup", begin: func(t *testing.T, group *netnstest.Cgroup) func() {
			other := netnstest.NewCgroup(t, "other.service")
			before := serve(t, "before", group, 8000)
			return func() { other.Add(t, before.PID) }
		},
		want: held("before", "other.service"), byCgroup: held("", "demo.service"),
	},
	{
		name: "it moves, and its cgroup is replaced by another", begin: func(t *testing.T, group *netnstest.Cgroup) func() {
			other := netnstest.NewCgroup(t, "other.service")
			before := serve(t, "before", group, 8000)
			return func() {
				other.Add(t, before.PID)
				group.Remove(t)
				group.Sibling(t, "demo.service") // with the same path
			}
		},
		want: held("before", "other.service"),
	},
}

func TestAChangeOfHoldersIsSeen(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		for _, c := range changes {
			t.Run(c.name, func(t *testing.T) {
				eachWatcher(t, func(t *testing.T, rights netnstest.Rights) {
					change := c.begin(t, netnstest.NewCgroup(t, "demo.service"))
					w := watch(t, usualView, rights)
					before := held("before", "demo.service")
					w.want(t, 8000, before...)
					change()
					want := pick(w, c.want, c.byCgroup)
					if c.atOnce {
						w.want(t, 8000, want...)
					} else {
						w.wantSoon(t, 8000, before[0], want...)
					}
					late := watch(t, usualView, rights)
					late.want(t, 8000, want...)
					if got := late.snapshot(t).Unattributed; (got == 1) != (len(want) == 0) {
						t.Errorf("%d listeners are unattributed", got)
					}
				})
			})
		}
	})
}

func TestWhoServesAHandedOverSocketIsItsHolderAndNotPID1(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		socket := netnstest.NewCgroup(t, "foo.socket")
		fd := socket.Listen(t, "tcp", "0.0.0.0:8000")
		t.Cleanup(func() { _ = unix.Close(fd) })
		// One that shows its descriptors: else there would be none to look into.
		netnstest.Start(t, netnstest.Program{Name: "bystander", UID: serviceUser})
		parent := held(netnstest.OwnName(t), "foo.socket")[0]
		server := held("foo", "foo.socket")[0]
		onlyUnit := held("", "foo.socket")[0]
		eachWatcher(t, func(t *testing.T, rights netnstest.Rights) {
			w := watch(t, usualView, rights)
			parent, server := pick(w, parent, onlyUnit), pick(w, server, onlyUnit)
			w.want(t, 8000, parent)
			service := socket.Sibling(t, "foo.service")
			process := netnstest.Start(t, netnstest.Program{Name: "foo", Cgroup: service, UID: serviceUser, Sockets: []int{fd}})
			watch(t, usualView, rights).want(t, 8000, server)
			w.wantSoon(t, 8000, parent, server)
			process.End(t)
			w.wantSoon(t, 8000, server, parent)
		})
	})
}

func TestAListenerThatGoesLeavesNoDescriptorAndNoHolder(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		w := watch(t, usualView, netnstest.AsRoot)
		before := 0
		for n := range 21 {
			process := serve(t, "demo", group, 8000)
			w.want(t, 8000, held("demo", "demo.service")...)
			process.End(t)
			if got := w.snapshot(t); len(got.Listeners) != 0 || got.Unattributed != 0 {
				t.Errorf("after the end of the only holder: %+v", got)
			}
			if n == 0 { // the first listener has opened the sysctls of the port ranges, which stay open
				before = w.reader.descriptors(t)
			}
		}
		if got := w.reader.descriptors(t); got != before {
			t.Errorf("%d descriptors of the reader are open, want %d", got, before)
		}
	})
}

// views are filesystems that show less than the usual ones. begin starts the program "demo" on port 8000 and mounts them; their
// errors of holder.New have the parts of wantErr.
var views = []struct {
	name           string
	begin          func(t *testing.T) view
	wantErr        []string
	want, byCgroup []inventory.Holder
}{
	{
		name: "hidden processes, which needs Linux 5.8", begin: func(t *testing.T) view {
			serve(t, "demo", netnstest.NewCgroup(t, "demo.service"), 8000)
			procfs := host.OpenDir(t)
			netnstest.MountProc(t, procfs, "hidepid=2")
			t.Cleanup(func() { unmount(t, procfs) })
			return view{procfs, "/sys", "netlink"}
		},
		want: held("demo", "demo.service"), byCgroup: held("", "demo.service"),
	},
	{
		name: "a part of the hierarchy", begin: func(t *testing.T) view {
			group := netnstest.NewCgroup(t, "demo.service")
			serve(t, "demo", group, 8000)
			sysfs := host.OpenDir(t)
			part := filepath.Join(sysfs, "unified")
			if err := os.Mkdir(part, 0o755); err != nil {
				t.Fatal(err)
			}
			mountPart(t, group, part)
			return view{"/proc", sysfs, "netlink"}
		},
		wantErr: []string{"/unified shows only a part of the cgroup2 hierarchy", "/sys/fs/cgroup", "--path.sysfs"}, want: held("demo", "demo.service"),
	},
}

func TestWhatIsNotInViewIsNotGuessed(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		for _, v := range views {
			t.Run(v.name, func(t *testing.T) {
				mounts := v.begin(t)
				_, err := holder.New(mounts.procfs, mounts.sysfs)
				for _, want := range v.wantErr {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("New: %v, want an error that says %q", err, want)
					}
				}
				eachWatcher(t, func(t *testing.T, rights netnstest.Rights) {
					w := watch(t, mounts, rights)
					want := pick(w, v.want, v.byCgroup)
					for range 8 {
						w.want(t, 8000, want...)
						if got := w.snapshot(t).Unattributed; (got == 1) != (len(want) == 0) {
							t.Errorf("%d listeners are unattributed", got)
						}
					}
				})
			})
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
