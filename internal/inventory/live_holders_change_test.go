package inventory_test

import (
	"os"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestARestartedHolderIsTheNewOneAtOnce(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			w := start()
			old := netnstest.NewCgroup(t, "old.service")
			process := serve(t, "old", old, 8000)
			w.want(t, 8000, inventory.Holder{Process: "old", Unit: "old.service"})
			process.End(t)
			serve(t, "new", netnstest.NewCgroup(t, "new.service"), 8000)
			w.want(t, 8000, inventory.Holder{Process: "new", Unit: "new.service"})
		})
	})
}

func TestARestartInTheSameCgroupIsTheNewHolderAtOnce(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			w := start()
			group := netnstest.NewCgroup(t, "demo.service")
			process := serve(t, "old", group, 8000)
			w.want(t, 8000, inventory.Holder{Process: "old", Unit: "demo.service"})
			process.End(t)
			serve(t, "new", group, 8000)
			w.want(t, 8000, inventory.Holder{Process: "new", Unit: "demo.service"})
		})
	})
}

func TestANewListenerBesideOthersHasItsHolderAtOnce(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		for port := uint16(8001); port <= 8020; port++ {
			serve(t, "demo", group, port)
		}
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			w := start()
			w.snapshot(t)
			added := netnstest.NewCgroup(t, "added.service")
			process := serve(t, "added", added, 8000)
			w.want(t, 8000, inventory.Holder{Process: "added", Unit: "added.service"})
			process.End(t)
		})
	})
}

func TestANewNameOfAHolderIsSeen(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			process := serve(t, "before", netnstest.NewCgroup(t, "demo.service"), 8000)
			w := start()
			before := inventory.Holder{Process: "before", Unit: "demo.service"}
			w.want(t, 8000, before)
			process.Rename(t, "after")
			w.wantSoon(t, 8000, before, inventory.Holder{Process: "after", Unit: "demo.service"})
			process.End(t)
		})
	})
}

func TestAHolderThatDiesLeavesTheSocketToAnother(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			group := netnstest.NewCgroup(t, "demo.service")
			fd := group.Listen(t, "tcp", "0.0.0.0:8000")
			first := netnstest.HandOver(t, netnstest.Program{Name: "first", Cgroup: group, UID: serviceUser, Sockets: []int{fd}})
			w := start()
			before := inventory.Holder{Process: "first", Unit: "demo.service"}
			w.want(t, 8000, before)
			second := first.PassOn(t, netnstest.Program{Name: "second", Cgroup: group, UID: serviceUser})
			first.End(t)
			w.wantSoon(t, 8000, before, inventory.Holder{Process: "second", Unit: "demo.service"})
			second.End(t)
		})
	})
}

func TestAHolderThatClosesTheSocketLeavesItToAnother(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			group := netnstest.NewCgroup(t, "demo.service")
			first := serve(t, "first", group, 8000)
			w := start()
			w.want(t, 8000, inventory.Holder{Process: "first", Unit: "demo.service"})
			second := first.PassOn(t, netnstest.Program{Name: "second", UID: serviceUser})
			first.CloseSocket(t, 0)
			// To nobody the one process of the cgroup is the holder: which sockets it has open only more rights would show.
			before := inventory.Holder{Process: "first", Unit: "demo.service"}
			w.wantSoon(t, 8000, before, w.pick(inventory.Holder{Process: "second", Unit: "demo.service"}, before))
			first.End(t)
			second.End(t)
		})
	})
}

func TestAHolderThatMovesKeepsTheUnitOfItsSocket(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			process := serve(t, "demo", netnstest.NewCgroup(t, "demo.service"), 8000)
			w := start()
			there := inventory.Holder{Process: "demo", Unit: "demo.service"}
			w.want(t, 8000, there)
			netnstest.NewCgroup(t, "elsewhere.service").Add(t, process.PID)
			if w.exact {
				for range 2 * recheckRounds {
					w.want(t, 8000, there)
				}
			} else { // nobody is left in the cgroup
				w.wantSoon(t, 8000, there, inventory.Holder{Unit: "demo.service"})
			}
			process.End(t)
		})
	})
}

func TestARemovedCgroupNamesNothing(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			group := netnstest.NewCgroup(t, "demo.service")
			process := serve(t, "demo", group, 8000)
			w := start()
			there := inventory.Holder{Process: "demo", Unit: "demo.service"}
			w.want(t, 8000, there)
			now := netnstest.NewCgroup(t, "other.service")
			now.Add(t, process.PID)
			group.Remove(t)
			group.Beside(t, "demo.service") // another one of the same path
			fresh := start()
			if w.exact {
				// The process itself says where it is now.
				here := inventory.Holder{Process: "demo", Unit: "other.service"}
				w.wantSoon(t, 8000, there, here)
				fresh.want(t, 8000, here)
			} else {
				w.wantNoneSoon(t, 8000, there)
				fresh.want(t, 8000)
				if got := fresh.snapshot(t).Unattributed; got != 1 {
					t.Errorf("%d listeners are unattributed, want 1", got)
				}
			}
			process.End(t)
		})
	})
}

func TestAListenerThatGoesLeavesNoDescriptorAndNoHolder(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		w := watch(t, mounts{"/proc", "/sys"}, netnstest.AsRoot)
		w.snapshot(t)
		before := openDescriptors(t)
		for range 20 {
			process := serve(t, "demo", group, 8000)
			w.want(t, 8000, inventory.Holder{Process: "demo", Unit: "demo.service"})
			process.End(t)
			if got := w.snapshot(t); len(got.Listeners) != 0 || got.Unattributed != 0 {
				t.Errorf("after the end of the only holder: %+v", got)
			}
		}
		if got := openDescriptors(t); got != before {
			t.Errorf("%d descriptors are open, want %d", got, before)
		}
	})
}

func TestADescriptorPassedToAnotherCgroupLeavesTheHolder(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		group := netnstest.NewCgroup(t, "demo.service")
		first := serve(t, "first", group, 8000)
		first.PassOn(t, netnstest.Program{Name: "second", UID: serviceUser})
		eachWatcher(t, func(t *testing.T, start func() *watcher) {
			// Those of the socket's own cgroup come first: where they hold it nobody else is looked for.
			start().want(t, 8000, inventory.Holder{Process: "first", Unit: "demo.service"})
		})
	})
}

// openDescriptors returns how many descriptors the test's process has open.
func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
