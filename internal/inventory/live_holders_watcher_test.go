//go:build linux

package inventory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// serviceUser runs the programs of these tests: neither root nor nobody, who read.
const serviceUser = 4242

// watcher reads the holders of the test's own network namespace with the rights that somebody has.
type watcher struct {
	exact  bool // it may read the descriptors of every process
	reader *reader
}

// view is where a watcher finds the kernel's filesystems, and how it asks the kernel.
type view struct{ procfs, sysfs, source string }

var usualView = view{"/proc", "/sys", "netlink"}

// eachWatcher runs a test once for each kind of rights.
func eachWatcher(t *testing.T, body func(t *testing.T, rights netnstest.Rights)) {
	t.Helper()
	for _, who := range []struct {
		name   string
		rights netnstest.Rights
	}{
		{"as root", netnstest.AsRoot},
		{"with two capabilities", netnstest.WithTwo},
		{"as nobody", netnstest.AsNobody},
	} {
		t.Run(who.name, func(t *testing.T) { body(t, who.rights) })
	}
}

func watch(t *testing.T, v view, rights netnstest.Rights) *watcher {
	t.Helper()
	options := optionsOf(v.source, func(o *inventory.Options) { o.Procfs, o.Sysfs, o.Holders = v.procfs, v.sysfs, true })
	return &watcher{exact: rights != netnstest.AsNobody, reader: startReader(t, rights, task{Options: options})}
}

// snapshot returns the watcher's next snapshot, of which no read failed.
func (w *watcher) snapshot(t *testing.T) *inventory.Snapshot {
	t.Helper()
	s := w.reader.snapshot(t)
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

// wantSoon fails the test unless one of the next snapshots has these holders of a port, and those until then have the holder of
// before. If nothing is to change it looks a few times.
func (w *watcher) wantSoon(t *testing.T, port uint16, before inventory.Holder, want ...inventory.Holder) {
	t.Helper()
	if cmp.Equal([]inventory.Holder{before}, want) {
		for range 8 {
			w.want(t, port, before)
		}
		return
	}
	var got []inventory.Holder
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got = holdersOf(t, w.snapshot(t), port).Holders
		if !cmp.Equal([]inventory.Holder{before}, got) {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("holders of port %d soon (-want +got):\n%s", port, diff)
	}
}

// pick returns what is wanted if the processes show their descriptors, or else what only the cgroup says.
func pick[T any](w *watcher, exact, byCgroup T) T {
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

// held are holders, each written as its process and its unit.
func held(processAndUnit ...string) []inventory.Holder {
	var holders []inventory.Holder
	for n := 0; n < len(processAndUnit); n += 2 {
		holders = append(holders, inventory.Holder{Process: processAndUnit[n], Unit: processAndUnit[n+1]})
	}
	return holders
}

// serve starts a program in a cgroup. It is the only holder of a listener that was made in that cgroup.
func serve(t *testing.T, name string, in *netnstest.Cgroup, port uint16, options ...netnstest.Option) *netnstest.Process {
	t.Helper()
	fd := in.Listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", port), options...)
	return netnstest.HandOver(t, netnstest.Program{Name: name, Cgroup: in, UID: serviceUser, Sockets: []int{fd}})
}
