//go:build linux

package inventory_test

import (
	"os"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// setSysctl sets a sysctl of the test's own network namespace.
func setSysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// wantRanges checks in which range each UDP port lies, and that exactly those in the ephemeral range are clients.
func wantRanges(t *testing.T, i *inventory.Inventory, want map[uint16]inventory.Range) {
	t.Helper()
	_, listeners := read(t, i)
	if len(listeners) != len(want) {
		t.Errorf("%d listeners, want %d", len(listeners), len(want))
	}
	for key, l := range listeners {
		port := key.Addr.Port()
		if key.Range != want[port] || l.Client != (want[port] == inventory.RangeEphemeral) {
			t.Errorf("port %d: range %s, client %t, want %s", port, key.Range, l.Client, want[port])
		}
	}
}

func TestAPortThatIsNeverGivenToClientsIsAServices(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		setSysctl(t, "ip_local_port_range", "1024 65535")
		setSysctl(t, "ip_local_reserved_ports", "8125,9000-9010")
		for _, port := range []string{"8125", "9005", "9011"} {
			listen(t, "udp", "0.0.0.0:"+port)
		}
	}, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			wantRanges(t, open(t, source, withClients), map[uint16]inventory.Range{
				8125: inventory.RangeUser, 9005: inventory.RangeUser, 9011: inventory.RangeEphemeral,
			})
		})
	})
}

func TestAnEditedSysctlMakesNoServiceAClient(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			setSysctl(t, "ip_local_port_range", "32768 60999")
			setSysctl(t, "ip_local_reserved_ports", "40000")
			listen(t, "udp", "0.0.0.0:8125")
			listen(t, "udp", "0.0.0.0:40000")
			i := open(t, source, withClients)
			before := map[uint16]inventory.Range{8125: inventory.RangeUser, 40000: inventory.RangeUser}
			wantRanges(t, i, before)
			setSysctl(t, "ip_local_port_range", "1024 65535")
			setSysctl(t, "ip_local_reserved_ports", "\n")
			wantRanges(t, i, before)
			listen(t, "udp", "0.0.0.0:8126")
			wantRanges(t, i, map[uint16]inventory.Range{
				8125: inventory.RangeUser, 40000: inventory.RangeUser, 8126: inventory.RangeEphemeral,
			})
		})
	})
}

// withClients has clients reported at once.
func withClients(o *inventory.Options) { o.EphemeralMinAge = 0 }
