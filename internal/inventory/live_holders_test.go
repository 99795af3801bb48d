package inventory_test

import (
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestTheCgroupOfASocketNamesItsUnitToNobody(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		serve(t, "demo", netnstest.NewCgroup(t, "demo.service"), 8000)
	}, func(t *testing.T) {
		i, err := openHolders(mounts{"/proc", "/sys"}, "netlink")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			snapshot, _ := read(t, i)
			want := []inventory.Holder{{Process: "demo", Unit: "demo.service"}}
			if diff := cmp.Diff(want, holdersOf(t, snapshot, 8000).Holders); diff != "" {
				t.Errorf("holders (-want +got):\n%s", diff)
			}
			if snapshot.Unattributed != 0 {
				t.Errorf("%d listeners are unattributed, want none", snapshot.Unattributed)
			}
		}
	})
}

func TestThroughProcfsAloneTheProcessNamesTheUnit(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		serve(t, "demo", netnstest.NewCgroup(t, "demo.service"), 8000)
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			w := start()
			var err error
			w.reader.Do(func() { w.inventory, err = openHolders(mounts{"/proc", "/sys"}, "procfs") })
			if err != nil {
				t.Fatal(err)
			}
			if !w.exact {
				w.want(t, 8000)
				return
			}
			w.want(t, 8000, inventory.Holder{Process: "demo", Unit: "demo.service"})
		})
	})
}

func TestOfTwoProgramsInACgroupNoneIsGuessed(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		serve(t, "server", group, 8000)
		netnstest.Start(t, netnstest.Program{Name: "other", Cgroup: group, UID: serviceUser})
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			w := start()
			w.want(t, 8000, w.pick(
				inventory.Holder{Process: "server", Unit: "demo.service"},
				inventory.Holder{Unit: "demo.service"},
			))
		})
	})
}

func TestAMasterAndItsWorkersOfOneNameAreOneHolder(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		fd := group.Listen(t, "tcp", "0.0.0.0:8000")
		for range 4 {
			netnstest.Start(t, netnstest.Program{Name: "web", Cgroup: group, UID: serviceUser, Sockets: []int{fd}})
		}
		if err := unix.Close(fd); err != nil {
			t.Fatal(err)
		}
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			start().want(t, 8000, inventory.Holder{Process: "web", Unit: "demo.service"})
		})
	})
}

func TestAFormerHoldersCgroupIsNotGuessedFrom(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		fd := group.Listen(t, "tcp", "0.0.0.0:8000")
		netnstest.HandOver(t, netnstest.Program{Name: "server", UID: serviceUser, Sockets: []int{fd}})
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			w := start()
			w.want(t, 8000, w.pick(
				inventory.Holder{Process: "server", Unit: "demo.service"},
				inventory.Holder{Unit: "demo.service"},
			))
		})
	})
}

func TestAUserCannotPoseAsASystemUnit(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		for n, c := range []struct{ name, path, unit string }{
			{
				name: "in the slice of a user", path: "/user.slice/user-4000001000.slice/ssh.service",
				unit: "user-4000001000.slice/ssh.service",
			},
			{
				name: "below the manager of a user", path: "/user.slice/user-4000001000.slice/user@4000001000.service/ssh.service",
				unit: "user@4000001000.service/ssh.service",
			},
			{
				name: "below a slice of the manager of a user",
				path: "/user.slice/user-4000001000.slice/user@4000001000.service/system.slice/ssh.service",
				unit: "user@4000001000.service/ssh.service",
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				port := uint16(8000 + n)
				serve(t, "sshd", netnstest.NewCgroup(t, c.path), port)
				eachWatcher(t, func(t *testing.T, start func() *watcher) {
					start().want(t, port, inventory.Holder{Process: "sshd", Unit: c.unit})
				})
			})
		}
	})
}

func TestASocketUnitIsNamedThoughAServiceServesIt(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		fd := netnstest.NewCgroup(t, "foo.socket").Listen(t, "tcp", "0.0.0.0:8000")
		service := netnstest.NewCgroup(t, "foo.service")
		netnstest.HandOver(t, netnstest.Program{Name: "foo", Cgroup: service, UID: serviceUser, Sockets: []int{fd}})
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			w := start()
			w.want(t, 8000, w.pick(
				inventory.Holder{Process: "foo", Unit: "foo.socket"},
				inventory.Holder{Unit: "foo.socket"},
			))
		})
	})
}

func TestWhoServesAHandedOverSocketIsItsHolderAndNotPID1(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		socket := netnstest.NewCgroup(t, "foo.socket")
		fd := socket.Listen(t, "tcp", "0.0.0.0:8000")
		t.Cleanup(func() { _ = unix.Close(fd) })
		// One that shows its descriptors: else there would be none to look into.
		netnstest.Start(t, netnstest.Program{Name: "bystander", UID: serviceUser})
		parent := inventory.Holder{Process: netnstest.OwnName(t), Unit: "foo.socket"}
		server := inventory.Holder{Process: "foo", Unit: "foo.socket"}
		// Nobody is not among those who watch: what they see here of PID 1 is more than another process would.
		for name, rights := range map[string]netnstest.Rights{"as root": netnstest.AsRoot, "with two capabilities": netnstest.WithTwo} {
			t.Run(name, func(t *testing.T) {
				w := watch(t, mounts{"/proc", "/sys"}, rights)
				w.want(t, 8000, parent)
				service := socket.Beside(t, "foo.service")
				process := netnstest.Start(t, netnstest.Program{Name: "foo", Cgroup: service, UID: serviceUser, Sockets: []int{fd}})
				watch(t, mounts{"/proc", "/sys"}, rights).want(t, 8000, server)
				w.wantSoon(t, 8000, parent, server)
				process.End(t)
				w.wantSoon(t, 8000, server, parent)
			})
		}
	})
}

func TestNamesOfAnyBytesBecomeValidUTF8(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		process := serve(t, "demo", group, 8000)
		for _, c := range []struct{ name, bytes, want string }{
			{"quotes", `a"b'c\d`, `a"b'c\d`},
			{"newlines", "a\nb\n", "a\nb\n"},
			{"a newline alone", "\n", "\n"},
			{"invalid UTF-8", "a\xff\xfeb", "a\uFFFDb"},
			{"a character cut off by the length of a name", "12345678901234\u00e9", "12345678901234\uFFFD"},
			{"a space in front", " demo", " demo"},
			{"braces and commas", `x="y",z{}`, `x="y",z{}`},
		} {
			t.Run(c.name, func(t *testing.T) {
				process.Rename(t, c.bytes)
				eachWatcher(t, func(t *testing.T, start func() *watcher) {
					w := start()
					w.want(t, 8000, inventory.Holder{Process: c.want, Unit: "demo.service"})
					for _, h := range holdersOf(t, w.snapshot(t), 8000).Holders {
						if !utf8.ValidString(h.Process) {
							t.Errorf("%q is not valid UTF-8", h.Process)
						}
					}
				})
			})
		}
	})
}

func TestMoreThanFourHoldersAreFourAndMany(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		for _, program := range []string{"e", "d", "c", "b", "a"} {
			serve(t, program, group, 8000, netnstest.ReusePort())
		}
		fd := group.Listen(t, "tcp", "0.0.0.0:8001") // one socket that five hold
		for _, program := range []string{"e", "d", "c", "b", "a"} {
			netnstest.Start(t, netnstest.Program{Name: program, Cgroup: group, UID: serviceUser, Sockets: []int{fd}})
		}
		if err := unix.Close(fd); err != nil {
			t.Fatal(err)
		}
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			w := start()
			want := []inventory.Holder{{Unit: "demo.service"}}
			if w.exact {
				want = nil
				for _, program := range []string{"a", "b", "c", "d"} {
					want = append(want, inventory.Holder{Process: program, Unit: "demo.service"})
				}
			}
			for port := uint16(8000); port <= 8001; port++ {
				w.want(t, port, want...)
				if got := holdersOf(t, w.snapshot(t), port).ManyHolders; got != w.exact {
					t.Errorf("port %d: ManyHolders = %v, want %v", port, got, w.exact)
				}
			}
		})
	})
}

func TestSocketsOfTwoUsersOnOnePortHaveTwoHolders(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		var sockets []int
		for range 2 {
			sockets = append(sockets, group.Listen(t, "tcp", "0.0.0.0:8000", netnstest.ReusePort()))
		}
		// The kernel lets only sockets of one user share a port, but they may be given to another one later.
		if err := unix.Fchown(sockets[1], serviceUser, -1); err != nil {
			t.Fatal(err)
		}
		netnstest.HandOver(t, netnstest.Program{Name: "web", Cgroup: group, UID: serviceUser, Sockets: sockets})
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			start().want(t, 8000,
				inventory.Holder{Process: "web", Unit: "demo.service"},
				inventory.Holder{Process: "web", Unit: "demo.service", UID: serviceUser})
		})
	})
}
