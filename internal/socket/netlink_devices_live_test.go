//go:build linux

package socket

import (
	"fmt"
	"maps"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// ip runs ip(8).
func ip(t *testing.T, arguments ...string) {
	t.Helper()
	if output, err := exec.Command("ip", arguments...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
}

// devicesByPort returns what a read gives of the interfaces that sockets are bound to: "test0", "lo loopback".
func devicesByPort(sockets []Socket) map[uint16]string {
	devices := make(map[uint16]string)
	for _, s := range sockets {
		devices[s.Addr.Port()] = s.Device
		if s.Loopback {
			devices[s.Addr.Port()] += " loopback"
		}
	}
	return devices
}

// An interface may have any name: the kernel's flag says which one is the loopback.
func TestOnlyALoopbackInterfaceOrOneThatIsGoneReachesNobodyElse(t *testing.T) {
	type link struct{ name, kind string }
	links := []link{{"left0", "veth"}, {"7", "bridge"}, {DeviceGone, "bridge"}, {`\x28gone)`, "bridge"}, {"lo0", "ifb"}, {"vrf0", "vrf table 10"}, {"dummy0", "dummy"}}
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		listenOn := func(device string, port int) {
			for _, proto := range []Protocol{TCP, UDP} {
				openedSocket{fmt.Sprintf("0.0.0.0:%d", port), []netnstest.Option{netnstest.ToDevice(device)}}.open(t, proto)
				openedSocket{fmt.Sprintf("[::]:%d", port+1), []netnstest.Option{netnstest.ToDevice(device)}}.open(t, proto)
			}
		}
		ip(t, "link", "set", "lo", "down")
		ip(t, "link", "set", "lo", "name", "loop")
		ip(t, "link", "set", "loop", "up")
		ip(t, "link", "add", "dead0", "type", "bridge")
		ip(t, "link", "add", "dead1", "type", "bridge")
		openedSocket{address: "0.0.0.0:8000"}.open(t, TCP)
		openedSocket{address: "127.0.0.1:8001"}.open(t, TCP) // its address says that it is local, not its interface
		openedSocket{address: "[fe80::1%" + netnstest.Device + "]:8002"}.open(t, UDP)
		listenOn("loop", 8010)
		listenOn("dead0", 8020)
		listenOn("dead1", 8030)
		ip(t, "link", "del", "dead0")
		ip(t, "link", "del", "dead1")
		for n, l := range links {
			if err := exec.Command("ip", append([]string{"link", "add", l.name, "type"}, strings.Fields(l.kind)...)...).Run(); err != nil {
				t.Logf("%s is left out: the kernel has no such interfaces", l.kind)
				continue
			}
			listenOn(l.name, 8100+10*n)
		}
	}, func(t *testing.T) {
		n := liveNetlink(t)
		tcp, udp := devicesByPort(readLive(t, n, TCP)), devicesByPort(readLive(t, n, UDP))
		want := map[uint16]string{
			8010: "loop loopback", 8011: "loop loopback",
			8020: "(gone) loopback", 8021: "(gone) loopback", 8030: "(gone) loopback", 8031: "(gone) loopback",
		}
		for n, l := range links {
			port := uint16(8100 + 10*n)
			if _, there := tcp[port]; there {
				want[port], want[port+1] = escaped(l.name), escaped(l.name)
			}
		}
		wantTCP, wantUDP := maps.Clone(want), want
		wantTCP[8000], wantTCP[8001], wantUDP[8002] = "", "", netnstest.Device
		if diff := cmp.Diff(wantTCP, tcp); diff != "" {
			t.Errorf("TCP (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(wantUDP, udp); diff != "" {
			t.Errorf("UDP (-want +got):\n%s", diff)
		}
	})
}

// The kernel does not tell a socket that its interface is gone, and may give the index to another.
func TestAReadIsNotTheSameWhenAnInterfaceGoesOrItsIndexIsReused(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		n := liveNetlink(t)
		add := func(name, kind string) { ip(t, "link", "add", name, "index", "4711", "type", kind) }
		add("wg0", "bridge")
		for _, proto := range []Protocol{TCP, UDP} {
			openedSocket{"0.0.0.0:9000", []netnstest.Option{netnstest.ToDevice("wg0")}}.open(t, proto)
		}
		for _, step := range []struct {
			name string
			do   func()
			want string
		}{
			{"at first", func() {}, "wg0"},
			{"it is gone", func() { ip(t, "link", "del", "wg0") }, "(gone) loopback"},
			{"a later interface has its index", func() { add("wg1", "ifb") }, "wg1"},
			{"that is renamed", func() { ip(t, "link", "set", "wg1", "name", DeviceGone) }, `\x28gone)`},
			{"that is gone too", func() { ip(t, "link", "del", DeviceGone) }, "(gone) loopback"},
		} {
			step.do()
			for _, proto := range []Protocol{TCP, UDP} {
				for again := range 2 {
					sockets, same, err := n.Read(proto)
					if err != nil || len(sockets) != 1 {
						t.Fatal(sockets, err)
					}
					if same != (again > 0) {
						t.Errorf("%s, %s, read %d: same = %t", step.name, proto, again, same)
					}
					if got := devicesByPort(sockets)[9000]; got != step.want {
						t.Errorf("%s, %s: device %q, want %q", step.name, proto, got, step.want)
					}
					if there := confirm(t, n, proto, sockets[0]); !cmp.Equal(devicesByPort(there), devicesByPort(sockets)) {
						t.Errorf("%s, %s: Confirm gives %+v, want %+v", step.name, proto, there, sockets)
					}
				}
			}
		}
	})
}
