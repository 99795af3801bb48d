//go:build linux

package event

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/socket"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// connect opens connections to an address, accepts none and closes them.
func connect(t *testing.T, address string, times int) {
	t.Helper()
	family := unix.AF_INET
	if strings.HasPrefix(address, "[") {
		family = unix.AF_INET6
	}
	for range times {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := netnstest.Connect(fd, address); err != nil {
			t.Fatal(err)
		}
		closeFD(t, fd)
	}
}

// wantCounts waits until these are the connections of a namespace: the last acknowledgement of a handshake may still be on its way.
func wantCounts(t *testing.T, what string, source *Source, want map[string]uint64) {
	t.Helper()
	netns := ownNetns(t)
	diff := ""
	if host.Await(time.Minute, func() error {
		if diff = cmp.Diff(want, counts(t, source, netns)); diff != "" {
			return errors.New(diff)
		}
		return nil
	}) != nil {
		t.Errorf("%s: -want +got:\n%s", what, diff)
	}
}

// counts returns the connections of a namespace.
func counts(t *testing.T, source *Source, netns uint32) map[string]uint64 {
	t.Helper()
	found := make(map[string]uint64)
	if err := source.Connections(func(p Place, c Connections) {
		if p.Netns != netns {
			return
		}
		if p.Proto != socket.TCP || (c.Count == 0) != (c.Last == 0) || c.Last > sinceBoot(t) {
			t.Errorf("%+v: %+v", p, c)
		}
		name := p.Addr.String()
		if p.Interface != 0 {
			name += " bound"
		}
		found[name] = c.Count
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestConnectionsAreCountedAtTheirListener(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		only, lo := netnstest.IPv6Only(), netnstest.ToDevice("lo")
		for _, l := range []struct {
			address string
			options []netnstest.Option
		}{
			{address: "0.0.0.0:1"},
			{address: "[::]:2"},
			{address: "127.0.0.1:3"},
			{address: "[::1]:4"},
			{address: "[::ffff:127.0.0.1]:5"},
			{address: "[::ffff:0.0.0.0]:6"},
			// One port, four listeners.
			{address: "0.0.0.0:7", options: []netnstest.Option{netnstest.ReusePort()}},
			{address: "127.0.0.1:7", options: []netnstest.Option{netnstest.ReusePort()}},
			{address: "[::]:7", options: []netnstest.Option{netnstest.ReusePort(), only}},
			{address: "[::1]:7", options: []netnstest.Option{netnstest.ReusePort()}},
			{address: "0.0.0.0:8", options: []netnstest.Option{lo}},
			{address: "[::]:9", options: []netnstest.Option{lo}},
			{address: "127.0.0.1:10", options: []netnstest.Option{lo}},
			{address: "[fe80::1%" + netnstest.Device + "]:11"},
			{address: "[::]:12"},
			// Two sockets share a port.
			{address: "127.0.0.1:13", options: []netnstest.Option{netnstest.ReusePort()}},
			{address: "127.0.0.1:13", options: []netnstest.Option{netnstest.ReusePort()}},
			{address: "127.0.0.1:14"},
		} {
			listen(t, "tcp", l.address, l.options...)
		}
		for address, times := range map[string]int{
			"127.0.0.1:1": 2, "10.0.0.1:1": 3,
			"127.0.0.1:2": 2, "[::1]:2": 3, "10.0.0.1:2": 1,
			"127.0.0.1:3": 4, "[::1]:4": 5, "127.0.0.1:5": 6, "127.0.0.1:6": 7, "10.0.0.1:6": 1,
			"10.0.0.1:7": 1, "127.0.0.1:7": 2, "[fd00::1]:7": 3, "[::1]:7": 4,
			"127.0.0.1:8": 2, "127.0.0.1:9": 3, "[::1]:9": 2, "127.0.0.1:10": 3,
			"[fe80::1%" + netnstest.Device + "]:11": 2, "[fe80::1%" + netnstest.Device + "]:12": 3,
			"127.0.0.1:13": 9,
		} {
			connect(t, address, times)
		}
		want := map[string]uint64{
			"0.0.0.0:1": 5, "[::]:2": 6, "127.0.0.1:3": 4, "[::1]:4": 5, "[::ffff:127.0.0.1]:5": 6, "[::ffff:0.0.0.0]:6": 8,
			"0.0.0.0:7": 1, "127.0.0.1:7": 2, "[::]:7": 3, "[::1]:7": 4,
			"0.0.0.0:8 bound": 2, "[::]:9 bound": 5, "127.0.0.1:10 bound": 3,
			"[fe80::1]:11 bound": 2, "[::]:12": 3, "127.0.0.1:13": 9, "127.0.0.1:14": 0,
		}
		wantCounts(t, "connections", source, want)
	})
}

func TestAListenerThatWasThereBeforeIsWatched(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		listen(t, "tcp", "127.0.0.1:1")
		source := open(t)
		netns := ownNetns(t)
		place := Place{Proto: socket.TCP, Netns: netns, Addr: netip.MustParseAddrPort("127.0.0.1:1")}
		step := func(what string, err error, want map[string]uint64) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			wantCounts(t, what, source, want)
		}
		connect(t, "127.0.0.1:1", 3)
		step("before", nil, map[string]uint64{})
		step("watched", source.Watch(place, 1), map[string]uint64{"127.0.0.1:1": 0})
		connect(t, "127.0.0.1:1", 2)
		step("connected", nil, map[string]uint64{"127.0.0.1:1": 2})
		step("watched again", source.Watch(place, 1), map[string]uint64{"127.0.0.1:1": 2})
		step("forgotten", source.Forget(place), map[string]uint64{})
		step("forgotten again", source.Forget(place), map[string]uint64{})
		connect(t, "127.0.0.1:1", 1)
		step("not watched", nil, map[string]uint64{})
	})
}

// TestASYNCookieOpensAConnection makes the kernel answer each client with a cookie.
func TestASYNCookieOpensAConnection(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		if err := os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0); err != nil {
			t.Skipf("the kernel has no SYN cookies: %v", err)
		}
		listen(t, "tcp", "[::]:1")
		connect(t, "127.0.0.1:1", 3)
		connect(t, "[::1]:1", 2)
		wantCounts(t, "with cookies", source, map[string]uint64{"[::]:1": 5})
	})
}

func TestManyPlacesAreRead(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		source := open(t)
		const many = 5000
		netns := ownNetns(t)
		for port := range many {
			addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port+1))
			if err := source.Watch(Place{Proto: socket.TCP, Netns: netns, Addr: addr}, 1); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		if got := len(counts(t, source, netns)); got != many {
			t.Errorf("%d places are read, want %d", got, many)
		}
		t.Logf("%d places read in %v", many, time.Since(start))
	})
}

func TestSocketsAtAPlaceAreOneListener(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		w := watch(t, open(t), ownNetns(t))
		var fds []int
		for range 3 {
			fds = append(fds, listen(t, "tcp", "127.0.0.1:1", netnstest.ReusePort()))
		}
		other := listen(t, "tcp", "127.0.0.2:1")
		for _, fd := range append(fds, other) {
			closeFD(t, fd)
		}
		closeFD(t, listen(t, "tcp", "127.0.0.1:1"))
		var got []string
		for _, e := range w.take() {
			got = append(got, fmt.Sprintf("%s %v %t", e.Addr.Addr(), e.Kind, e.Others))
		}
		want := []string{
			"127.0.0.1 opened false", "127.0.0.1 opened true", "127.0.0.1 opened true", "127.0.0.2 opened false",
			"127.0.0.1 closed true", "127.0.0.1 closed true", "127.0.0.1 closed false", "127.0.0.2 closed false",
			"127.0.0.1 opened false", "127.0.0.1 closed false",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
