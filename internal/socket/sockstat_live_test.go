//go:build linux

package socket

import (
	"fmt"
	"net"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// A table that is passed over must have no listener, whatever the sockets of the namespace are.
func TestANamespacesTablesAreReadUnlessTheyHaveNoSocket(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		pod := settle(t, 80, "", func() error { netnstest.Configure(t); return nil })
		n, _ := openNamespaces(t, "procfs")
		number := pod.inode(t)
		signs := find(t, n)[number].Signs
		inside := func(network, address string) (closeIt func()) {
			var c interface{ Close() error }
			if err := netnstest.Elsewhere(fmt.Sprintf("/proc/%d/ns/net", pod.Process.Pid), func() (err error) {
				if network == "udp4" || network == "udp6" {
					c, err = net.ListenPacket(network, address)
				} else {
					c, err = net.Listen(network, address)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return func() { _ = c.Close() }
		}
		for _, test := range []struct {
			network, address string
			proto            Protocol
		}{
			{"tcp4", "0.0.0.0:81", TCP},
			{"tcp6", "[::]:82", TCP},
			{"tcp6", "[::1]:83", TCP},
			{"tcp", ":84", TCP},
			{"udp4", "0.0.0.0:85", UDP},
			{"udp6", "[::]:86", UDP},
			{"udp6", "[::1]:87", UDP},
		} {
			closeIt := inside(test.network, test.address)
			namespace := find(t, n)[number]
			if namespace.Signs == signs {
				t.Errorf("no sign of a listener on %s %s", test.network, test.address)
			}
			got := 0
			for _, proto := range []Protocol{TCP, UDP} {
				got += len(readLive(t, namespace.Source, proto))
			}
			if sockets := readLive(t, namespace.Source, test.proto); got != 2 || len(sockets) == 0 {
				t.Errorf("%s %s: %d listeners, want 2: %v", test.network, test.address, got, sockets)
			}
			closeIt()
			signs = find(t, n)[number].Signs
		}
	})
}

func TestWhatSockstatDoesNotSayIsUnknown(t *testing.T) {
	const sockstat = "sockets: used 290\nTCP: inuse 12 orphan 0 tw 3 alloc 15 mem 2\nUDP: inuse 0 mem 1\nUDPLITE: inuse 7\nRAW: inuse 0\n"
	for name, test := range map[string]struct {
		text, file string
		used       uint64
		known      bool
	}{
		"tcp":         {sockstat, "tcp", 12, true},
		"none":        {sockstat, "udp", 0, true},
		"tcp6":        {"TCP6: inuse 3\nUDP6: inuse 4\nUDPLITE6: inuse 0\n", "tcp6", 3, true},
		"udp6":        {"TCP6: inuse 3\nUDP6: inuse 4\nUDPLITE6: inuse 0\n", "udp6", 4, true},
		"other_table": {sockstat, "tcp6", 0, false},
		"no_number":   {"TCP: inuse \n", "tcp", 0, false},
		"cut_short":   {"TCP: inu", "tcp", 0, false},
		"negative":    {"TCP: inuse -1\n", "tcp", 0, false},
		"empty":       {"", "tcp", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if used, known := inUse([]byte(test.text), test.file); used != test.used || known != test.known {
				t.Errorf("got %d, %t, want %d, %t", used, known, test.used, test.known)
			}
		})
	}
}
