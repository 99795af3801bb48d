//go:build linux

package inventory_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// eachSource runs a test once for each way of asking the kernel.
func eachSource(t *testing.T, body func(t *testing.T, source string)) {
	t.Helper()
	for _, source := range []string{"procfs", "netlink"} {
		t.Run("by_"+source, func(t *testing.T) { body(t, source) })
	}
}

// optionsOf returns options for the test's own network namespace, unless edit makes it another one.
func optionsOf(source string, edit ...func(*inventory.Options)) inventory.Options {
	o := inventory.Options{
		Procfs: "/proc", Sysfs: "/sys", Netns: "self", Source: source, TCP: true, UDP: true,
		EphemeralMinAge: time.Hour, MaxPorts: 100_000,
	}
	for _, f := range edit {
		f(&o)
	}
	return o
}

func open(t *testing.T, source string, edit ...func(*inventory.Options)) *inventory.Inventory {
	t.Helper()
	i, err := inventory.Open(optionsOf(source, edit...), log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// read returns a snapshot of which no read failed and in which no listener is twice, and its listeners by key.
func read(t *testing.T, i *inventory.Inventory) (*inventory.Snapshot, map[inventory.Key]inventory.Listener) {
	t.Helper()
	snapshot := i.Snapshot(t.Context())
	for _, r := range snapshot.Reads {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	listeners := make(map[inventory.Key]inventory.Listener, len(snapshot.Listeners))
	for _, l := range snapshot.Listeners {
		if _, twice := listeners[l.Key]; twice {
			t.Fatalf("%v is in the snapshot twice", l.Key)
		}
		listeners[l.Key] = l
	}
	return snapshot, listeners
}

// listen opens a socket that the test's end closes. Like all sockets of these tests it is a bare descriptor, which no garbage
// collector closes before.
func listen(t *testing.T, proto, address string, options ...netnstest.Option) (fd int) {
	t.Helper()
	fd, err := netnstest.Listen(proto, address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// bind opens a socket that the test's end closes, and leaves it at that.
func bind(t *testing.T, proto, address string) (fd int) {
	t.Helper()
	fd, err := netnstest.Bind(proto, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// connect opens a socket that is bound to one address and connected to another, and that the test's end closes.
func connect(t *testing.T, proto, from, to string) (fd int) {
	t.Helper()
	fd = bind(t, proto, from)
	if err := netnstest.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	return fd
}

// disconnect undoes the connect of a UDP socket.
func disconnect(t *testing.T, fd int) {
	t.Helper()
	if err := netnstest.Disconnect(fd); err != nil {
		t.Fatal(err)
	}
}

// accept takes a connection from a listener.
func accept(t *testing.T, listener int) {
	t.Helper()
	fd, _, err := unix.Accept(listener)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
}

// count is how many sockets each listener has.
type count map[inventory.Key]int

func key(proto, address string, scope inventory.Scope, portRange inventory.Range) inventory.Key {
	end := netip.MustParseAddrPort(address)
	return inventory.Key{
		Proto: proto, Addr: netip.AddrPortFrom(end.Addr().WithZone(""), end.Port()), Scope: scope, Range: portRange,
	}
}

// counted leaves the device out, which procfs does not know.
func counted(listeners map[inventory.Key]inventory.Listener) count {
	counts := make(count)
	for key, l := range listeners {
		key = withoutDevice(key)
		counts[key] += l.Sockets
	}
	return counts
}

// withoutDevice returns the key as procfs gives it: without a device, whose scope does not count then.
func withoutDevice(k inventory.Key) inventory.Key {
	if k.Device != "" && k.Addr.Addr().IsUnspecified() {
		k.Scope = inventory.ScopeAny
	}
	k.Device = ""
	return k
}

// Sockets of every kind that listens.
var listening = []struct {
	name    string
	proto   string
	address string
	sockets int // 0 for one
	options []netnstest.Option
	scope   inventory.Scope
	ranged  inventory.Range
}{
	{name: "wildcard", proto: "tcp", address: "0.0.0.0:22", scope: "any", ranged: "privileged"},
	{name: "public_address", proto: "tcp", address: "203.0.113.1:8080", scope: "public", ranged: "user"},
	{name: "loopback", proto: "tcp", address: "127.0.0.1:9000", scope: "loopback", ranged: "user"},
	{name: "byte_order_of_the_address", proto: "tcp", address: "127.1.2.3:9000", scope: "loopback", ranged: "user"},
	{name: "ephemeral_tcp_is_no_noise", proto: "tcp", address: "127.0.0.1:40000", scope: "loopback", ranged: "ephemeral"},
	{name: "dual_stack", proto: "tcp", address: "[::]:80", scope: "any", ranged: "privileged"},
	{
		name: "ipv6_only", proto: "tcp", address: "[::]:443", scope: "any", ranged: "privileged",
		options: []netnstest.Option{netnstest.IPv6Only()},
	},
	{name: "ipv4_beside_ipv6_only", proto: "tcp", address: "0.0.0.0:443", scope: "any", ranged: "privileged"},
	{name: "ipv6_loopback", proto: "tcp", address: "[::1]:9001", scope: "loopback", ranged: "user"},
	{name: "ipv6_link_local", proto: "tcp", address: "[fe80::1%test0]:9002", scope: "link-local", ranged: "user"},
	{name: "ipv4_mapped_loopback", proto: "tcp", address: "[::ffff:127.0.0.1]:9003", scope: "loopback", ranged: "user"},
	{
		name: "shared_by_four", proto: "tcp", address: "0.0.0.0:9006", sockets: 4, scope: "any", ranged: "user",
		options: []netnstest.Option{netnstest.ReusePort()},
	},
	{name: "tcp_and_udp", proto: "tcp", address: "0.0.0.0:53", scope: "any", ranged: "privileged"},
	{name: "udp_and_tcp", proto: "udp", address: "0.0.0.0:53", scope: "any", ranged: "privileged"},
	{
		name: "udp_ipv6_only", proto: "udp", address: "[::]:53", scope: "any", ranged: "privileged",
		options: []netnstest.Option{netnstest.IPv6Only()},
	},
	{name: "udp_loopback", proto: "udp", address: "127.0.0.1:8125", scope: "loopback", ranged: "user"},
	{name: "udp_link_local", proto: "udp", address: "[fe80::1%test0]:546", scope: "link-local", ranged: "privileged"},
	{name: "multicast", proto: "udp", address: "224.0.0.251:5353", scope: "multicast", ranged: "user"},
	{name: "broadcast", proto: "udp", address: "255.255.255.255:68", scope: "link-local", ranged: "privileged"},
	{name: "broadcast_of_a_network", proto: "udp", address: "10.0.0.255:138", scope: "private", ranged: "privileged"},
	{
		name: "udp_shared_by_four", proto: "udp", address: "0.0.0.0:8127", sockets: 4, scope: "any", ranged: "user",
		options: []netnstest.Option{netnstest.ReusePort()},
	},
}

// openWorld opens sockets of every kind, those that listen and those that do not.
func openWorld(t *testing.T) {
	for _, l := range listening {
		for range max(l.sockets, 1) {
			listen(t, l.proto, l.address, l.options...)
		}
	}
	// A connection has two sockets besides its listener, and they share its port.
	listener := listen(t, "tcp", "127.0.0.1:9300")
	connect(t, "tcp", "127.0.0.1:9301", "127.0.0.1:9300")
	accept(t, listener)
	bind(t, "tcp", "127.0.0.1:9302") // it never listens
	connect(t, "udp", "127.0.0.1:9400", "127.0.0.1:8125")
	connect(t, "udp", "[::1]:9400", "[::1]:9401")
	disconnect(t, connect(t, "udp", "127.0.0.1:9402", "127.0.0.1:8125"))
	disconnect(t, connect(t, "udp", "[::1]:9402", "[::1]:9401")) // the kernel leaves the remote address in place
	// Most often a client: it is not reported before it has an age.
	listen(t, "udp", "0.0.0.0:51820")
}

// expected is what of openWorld's sockets is a listener.
func expected() count {
	want := count{
		key("tcp", "127.0.0.1:9300", "loopback", "user"): 1,
		key("udp", "127.0.0.1:9402", "loopback", "user"): 1,
		key("udp", "[::1]:9402", "loopback", "user"):     1,
	}
	for _, l := range listening {
		want[key(l.proto, l.address, l.scope, l.ranged)] = max(l.sockets, 1)
	}
	return want
}

func TestASnapshotHasTheListenersThatTheKernelHas(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, openWorld, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			i := open(t, source)
			for range 3 {
				_, listeners := read(t, i)
				if diff := cmp.Diff(expected(), counted(listeners), cmp.Comparer(sameAddress)); diff != "" {
					t.Errorf("listeners (-opened +reported):\n%s", diff)
				}
			}
		})
	})
}

func sameAddress(a, b netip.AddrPort) bool { return a == b }
