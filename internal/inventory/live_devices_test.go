package inventory_test

import (
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
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
			i := open(t, source, time.Hour)
			for range 3 {
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
		i := open(t, "netlink", time.Hour)
		want := func(device string) {
			t.Helper()
			for range 3 {
				for _, proto := range []string{"tcp", "udp"} {
					if diff := cmp.Diff(map[string]int{"": 1, device: 1}, devices(t, i, proto, 9000)); diff != "" {
						t.Errorf("%s: sockets by device (-want +reported):\n%s", proto, diff)
					}
				}
			}
		}
		ip := func(arguments ...string) {
			t.Helper()
			if output, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
				t.Fatalf("ip %q: %v: %s", arguments, err, output)
			}
		}
		want(netnstest.Device)
		ip("link", "set", netnstest.Device, "down") // as long as it is up it keeps its name
		want(netnstest.Device)
		ip("link", "set", netnstest.Device, "name", "other0")
		want("other0")
		ip("link", "set", "other0", "up")
		want("other0")
		ip("link", "set", "other0", "down")
		ip("link", "set", "other0", "name", netnstest.Device)
		want(netnstest.Device)

		// The sockets stay behind an interface that goes, and have only its number.
		device, err := net.InterfaceByName(netnstest.Device)
		if err != nil {
			t.Fatal(err)
		}
		ip("link", "del", netnstest.Device)
		want(strconv.Itoa(device.Index))
	})
}

func TestEachIPv6ListenerSaysWhetherItIsIPv6Only(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		want := map[string]bool{
			"[::]:9000": false, "[::]:9001": true, "[::1]:9002": true, "[::ffff:127.0.0.1]:9003": false, "0.0.0.0:9001": false, "0.0.0.0:9004": false,
			"[::]:9005": false, "[::]:9006": true,
		}
		for _, proto := range []string{"tcp", "udp"} {
			for address := range want {
				switch {
				case strings.HasPrefix(address, "[::]") && want[address]:
					listen(t, proto, address, netnstest.IPv6Only(), netnstest.ReusePort())
					listen(t, proto, address, netnstest.IPv6Only(), netnstest.ReusePort())
				case address == "[::]:9005": // one of the two takes IPv4
					listen(t, proto, address, netnstest.IPv6Only(), netnstest.ReusePort())
					listen(t, proto, address, netnstest.ReusePort())
				default:
					listen(t, proto, address)
				}
			}
		}
		i := open(t, "netlink", time.Hour)
		snapshot, _ := read(t, i)
		for _, proto := range []string{"tcp", "udp"} {
			got := make(map[string]bool)
			for _, l := range snapshot.Listeners {
				if l.Proto == proto {
					got[l.Addr.String()] = l.IPv6Only
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: IPv6 only (-want +reported):\n%s", proto, diff)
			}
		}
	})
}
