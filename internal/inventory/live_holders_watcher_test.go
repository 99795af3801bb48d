package inventory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// serviceUser runs the programs of these tests: neither root nor nobody, who read.
const serviceUser = 4242

// recheckRounds is within how many snapshots each holder is looked at again though its socket is the same, however soon they
// follow each other: two at each snapshot, and the tests that wait for it have sixteen at most.
const recheckRounds = 8

// watcher looks at the holders of the test's own network namespace with the rights that somebody has.
type watcher struct {
	exact     bool // it may look into the descriptors of every process
	reader    *netnstest.Reader
	inventory *inventory.Inventory
}

// mounts say where a watcher finds the kernel's filesystems.
type mounts struct{ procfs, sysfs string }

// eachWatcher runs a test once for each kind of rights.
func eachWatcher(t *testing.T, body func(t *testing.T, start func() *watcher)) {
	t.Helper()
	eachWatcherOf(t, mounts{"/proc", "/sys"}, body)
}

func eachWatcherOf(t *testing.T, m mounts, body func(t *testing.T, start func() *watcher)) {
	t.Helper()
	for _, who := range []struct {
		name   string
		rights netnstest.Rights
	}{
		{"as root", netnstest.AsRoot},
		{"with two capabilities", netnstest.WithTwo},
		{"as nobody", netnstest.AsNobody},
	} {
		t.Run(who.name, func(t *testing.T) {
			body(t, func() *watcher { return watch(t, m, who.rights) })
		})
	}
}

func watch(t *testing.T, m mounts, rights netnstest.Rights) *watcher {
	t.Helper()
	w := &watcher{exact: rights != netnstest.AsNobody, reader: netnstest.NewReader(t, rights)}
	var err error
	w.reader.Do(func() { w.inventory, err = openHolders(m, "netlink") })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func openHolders(m mounts, source string) (*inventory.Inventory, error) {
	return inventory.Open(inventory.Options{
		Procfs: m.procfs, Sysfs: m.sysfs, Netns: "self", Source: source, TCP: true, UDP: true, Holders: true,
		EphemeralMinAge: time.Hour, MaxPorts: 20_000,
	}, log.NewNopLogger())
}

// snapshot returns the watcher's next snapshot, of which no read failed.
func (w *watcher) snapshot(t *testing.T) *inventory.Snapshot {
	t.Helper()
	var s *inventory.Snapshot
	w.reader.Do(func() { s = w.inventory.Snapshot() })
	for _, r := range s.Reads {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return s
}

// want fails the test unless the next snapshot has these holders of a port.
func (w *watcher) want(t *testing.T, port uint16, want ...inventory.Holder) {
	t.Helper()
	if diff := cmp.Diff(want, holdersOf(t, w.snapshot(t), port).Holders); diff != "" {
		t.Errorf("holders of port %d (-want +got):\n%s", port, diff)
	}
}

// wantSoon fails the test unless one of the next snapshots has another holder of a port than before, and those until then have
// that one.
func (w *watcher) wantSoon(t *testing.T, port uint16, before, want inventory.Holder) {
	t.Helper()
	w.wantAllSoon(t, port, before, want)
}

// wantNoneSoon is wantSoon where there is no holder any more.
func (w *watcher) wantNoneSoon(t *testing.T, port uint16, before inventory.Holder) {
	t.Helper()
	w.wantAllSoon(t, port, before)
}

func (w *watcher) wantAllSoon(t *testing.T, port uint16, before inventory.Holder, want ...inventory.Holder) {
	t.Helper()
	var got []inventory.Holder
	for range recheckRounds {
		got = holdersOf(t, w.snapshot(t), port).Holders
		if !cmp.Equal([]inventory.Holder{before}, got) {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("holders of port %d within %d snapshots (-want +got):\n%s", port, recheckRounds, diff)
	}
}

// pick returns what is wanted where the processes show their descriptors, or else what the cgroup alone tells.
func (w *watcher) pick(exact, byCgroup inventory.Holder) inventory.Holder {
	if w.exact {
		return exact
	}
	return byCgroup
}

func holdersOf(t *testing.T, s *inventory.Snapshot, port uint16) inventory.Listener {
	t.Helper()
	for _, l := range s.Listeners {
		if l.Addr.Port() == port {
			return l
		}
	}
	t.Fatalf("port %d is not in the snapshot", port)
	return inventory.Listener{}
}

// serve starts a program in a cgroup, which alone holds a listener that was made in that cgroup.
func serve(t *testing.T, name string, in *netnstest.Cgroup, port uint16, options ...netnstest.Option) *netnstest.Process {
	t.Helper()
	fd := in.Listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", port), options...)
	return netnstest.HandOver(t, netnstest.Program{Name: name, Cgroup: in, UID: serviceUser, Sockets: []int{fd}})
}
