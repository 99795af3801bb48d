//go:build linux

package inventory_test

import (
	"fmt"
	"maps"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// connectionsVariable says "full" for 200 000 connected sockets besides the listeners, which take some 3 GB of memory and half
// a minute. Without it there are 20 000.
const connectionsVariable = "LISTEN_EXPORTER_CONNECTIONS"

// connectionsEach is how many connections a process holds: each is two descriptors, of at most 20 000.
const connectionsEach = 9_900

// common is what both sources know of a listener.
type common struct {
	Sockets                              int
	AcceptQueueLength, ReceiveQueueBytes uint64
	UDPDrops                             uint64
}

// known leaves out what procfs does not know: the device, above all.
func known(listeners map[inventory.Key]inventory.Listener) map[inventory.Key]common {
	all := make(map[inventory.Key]common)
	for key, l := range listeners {
		key = withoutDevice(key)
		c := all[key]
		c.Sockets += l.Sockets
		c.AcceptQueueLength = max(c.AcceptQueueLength, l.AcceptQueueLength)
		c.ReceiveQueueBytes += l.ReceiveQueueBytes
		if key.Proto == inventory.UDP {
			c.UDPDrops += l.Drops
		}
		all[key] = c
	}
	return all
}

// wantTheSame compares both sources, each read several times.
func wantTheSame(t *testing.T, listeners int) {
	t.Helper()
	netlink, procfs := open(t, "netlink"), open(t, "procfs")
	for n := range 5 {
		_, byNetlink := read(t, netlink)
		_, byProcfs := read(t, procfs)
		a, b := known(byNetlink), known(byProcfs)
		if len(b) != listeners {
			t.Errorf("%d listeners by procfs, want %d", len(b), listeners)
		}
		if !maps.Equal(a, b) {
			t.Errorf("read %d (-netlink +procfs):\n%s", n, cmp.Diff(a, b, cmp.Comparer(sameAddress)))
		}
	}
}

// openQueues opens six ports whose queues are not empty.
func openQueues(t *testing.T) {
	t.Helper()
	const tcp = "127.0.0.1:9500"
	listen(t, "tcp", tcp)
	for range 7 {
		connect(t, "tcp", "127.0.0.1:0", tcp)
	}
	listen(t, "tcp", "[::1]:9501")
	for range 3 {
		connect(t, "tcp", "[::1]:0", "[::1]:9501")
	}
	sender := bind(t, "udp", "127.0.0.1:9502")
	for port := 9503; port < 9506; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		fd := worker(t, address)
		t.Cleanup(func() { _ = unix.Close(fd) })
		flood(t, sender, address)
		kernelDrops(t, "udp", port) // waits until the packets have arrived
	}
}

func TestBothSourcesGiveTheSame(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		openWorld(t)
		listen(t, "tcp", "0.0.0.0:9600", netnstest.ToDevice(netnstest.Device))
		listen(t, "tcp", "0.0.0.0:9600", netnstest.ToDevice("lo"))
		openQueues(t)
	}, func(t *testing.T) {
		wantTheSame(t, len(expected())+1+6)
	})
}

func connectingProcesses() int {
	if os.Getenv(connectionsVariable) == "full" {
		return 10
	}
	return 1
}

func TestBothSourcesGiveTheSameOfTenThousandListenersAmongManySockets(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some 15 s. The same on a small host is the test above")
	}
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		netnstest.HoldInside(t, connectingProcesses(), func(number int) {
			if err := netnstest.ConnectMany(fmt.Sprintf("127.0.%d.1", 1+number), connectionsEach); err != nil {
				t.Fatal(err)
			}
		})
		for n := range 10_000 {
			proto := []string{"tcp", "udp"}[n%5/4]
			address := []string{"127.0.0.1", "[::1]", "0.0.0.0", "127.0.0.2"}[n%4]
			listen(t, proto, fmt.Sprintf("%s:%d", address, 10_000+n))
		}
		openQueues(t)
	}, func(t *testing.T) {
		// Each holder has a listener too, on an ephemeral port.
		wantTheSame(t, 10_000+6+connectingProcesses())
	})
}
