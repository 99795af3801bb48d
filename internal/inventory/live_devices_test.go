//go:build linux

package inventory_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/socket"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// devices returns the device of each listener on a port, and how many sockets it has.
func devices(t *testing.T, i *inventory.Inventory, proto string, port uint16) map[string]int {
	t.Helper()
	_, listeners := read(t, i)
	found := make(map[string]int)
	for key, l := range listeners {
		if key.Proto == proto && key.Addr.Port() == port {
			found[key.Device] = l.Sockets
		}
	}
	return found
}

func TestASocketThatIsBoundToAnInterfaceHasItsName(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			for _, proto := range []string{"tcp", "udp"} {
				for _, address := range []string{"0.0.0.0:9000", "[::]:9001"} {
					listen(t, proto, address, netnstest.ToDevice(netnstest.Device))
					listen(t, proto, address, netnstest.ToDevice("test1"))
					listen(t, proto, address, netnstest.ToDevice("lo"))
				}
				listen(t, proto, "[fe80::1%test0]:9002") // the zone is an interface
				listen(t, proto, "127.0.0.1:9003")
			}
			i := open(t, source)
			for _, proto := range []string{"tcp", "udp"} {
				want := map[uint16]map[string]int{
					9000: {netnstest.Device: 1, "test1": 1, "lo": 1}, 9001: {netnstest.Device: 1, "test1": 1, "lo": 1},
					9002: {netnstest.Device: 1}, 9003: {"": 1},
				}
				if source == "procfs" {
					want = map[uint16]map[string]int{9000: {"": 3}, 9001: {"": 3}, 9002: {"": 1}, 9003: {"": 1}}
				}
				for port, want := range want {
					if diff := cmp.Diff(want, devices(t, i, proto, port)); diff != "" {
						t.Errorf("%s port %d: sockets by device (-want +reported):\n%s", proto, port, diff)
					}
				}
			}
		})
	})
}

func TestARenamedInterfaceChangesTheDeviceAtTheNextSnapshot(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		for _, proto := range []string{"tcp", "udp"} {
			listen(t, proto, "0.0.0.0:9000", netnstest.ToDevice(netnstest.Device), netnstest.ReusePort())
			listen(t, proto, "127.0.0.1:9000", netnstest.ReusePort())
		}
		i := open(t, "netlink")
		want := func(device string, scope inventory.Scope) {
			t.Helper()
			for _, proto := range []string{"tcp", "udp"} {
				if diff := cmp.Diff(map[string]int{"": 1, device: 1}, devices(t, i, proto, 9000)); diff != "" {
					t.Errorf("%s: sockets by device (-want +reported):\n%s", proto, diff)
				}
			}
			_, listeners := read(t, i)
			for key := range listeners {
				if key.Device != "" && key.Scope != scope {
					t.Errorf("%s %s on %s: scope %s, want %s", key.Proto, key.Addr, key.Device, key.Scope, scope)
				}
			}
		}
		want(netnstest.Device, inventory.ScopeAny)
		ip(t, "link", "set", netnstest.Device, "down") // as long as it is up it keeps its name
		ip(t, "link", "set", netnstest.Device, "name", "other0")
		want("other0", inventory.ScopeAny)

		// A socket stays bound to an interface that is gone, and must not look like one on all interfaces: nothing reaches it.
		ip(t, "link", "del", "other0")
		want(socket.DeviceGone, inventory.ScopeLoopback)
	})
}

func TestASocketOnTheLoopbackInterfaceReachesNobodyElseWhateverItIsCalled(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		ip(t, "link", "set", "lo", "down")
		ip(t, "link", "set", "lo", "name", "eth7")
		ip(t, "link", "set", "eth7", "up")
		listen(t, "tcp", "0.0.0.0:9000", netnstest.ToDevice("eth7"))
		listen(t, "udp", "[::]:9000", netnstest.ToDevice("eth7"))
	}, func(t *testing.T) {
		_, listeners := read(t, open(t, "netlink"))
		for key := range listeners {
			if key.Device != "eth7" || key.Scope != inventory.ScopeLoopback {
				t.Errorf("%s %s on %s: scope %s, want loopback on eth7", key.Proto, key.Addr, key.Device, key.Scope)
			}
		}
		if len(listeners) != 2 {
			t.Errorf("%d listeners, want 2", len(listeners))
		}
	})
}
