package inventory_test

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/socket"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// The kernel prints its tables bucket by bucket of a hash table, a page at a time, and goes on after a page by counting from
// the start of the bucket: what closes meanwhile hides a neighbour. So the sockets that come and go here share buckets with
// those that stay.
const (
	// tcpBuckets is a multiple of how many buckets of listeners the kernel has, on most machines: on an address, ports that lie
	// so far apart share a bucket (inet_lhash2_bucket in include/net/inet_hashtables.h).
	tcpBuckets = 16384
	// udpPort is the port of all UDP sockets here: the table goes by ports, whatever the address.
	udpPort = 9000
)

// churnVariable says how many snapshots there are. LISTEN_EXPORTER_CHURN=full is as many as the product promises, 10 000 by
// netlink and 1 000 by procfs, twice: give `go test` a -timeout of hours. Without it there are as many as some seconds allow.
const churnVariable = "LISTEN_EXPORTER_CHURN"

// stableListeners returns the listeners that stay, 3 000 TCP sockets and 600 UDP sockets and some of IPv6, and how many sockets
// each has. A few have many, in the buckets in which others come and go.
func stableListeners() map[inventory.Key]int {
	stable := make(map[inventory.Key]int)
	add := func(proto, addr string, port, sockets int) {
		address := fmt.Sprintf("%s:%d", addr, port)
		ranged := inventory.Range("user")
		if port >= 32768 {
			ranged = "ephemeral"
		}
		stable[key(proto, address, "loopback", ranged)] = sockets
	}
	for n := range 2800 {
		add("tcp", "127.0.0.1", 1024+tcpBuckets*(1+n%3)+n/3, 1)
	}
	for n := range 2 {
		add("tcp", "127.0.0.1", 1024+tcpBuckets+n, 101)
	}
	for n := range 100 {
		add("tcp", "[::1]", 1024+tcpBuckets*(1+n%3)+n/3, 1)
	}
	add("tcp", "[::1]", 1024+tcpBuckets+1, 101)
	add("udp", "[::1]", udpPort, 1)
	add("udp", "127.0.0.1", udpPort, 101)
	for n := range 500 {
		add("udp", fmt.Sprintf("127.0.%d.%d", 3+n/250, 1+n%250), udpPort, 1)
	}
	return stable
}

func TestNoListenerThatStaysIsMissingWhileOthersComeAndGo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some 30 s. inventory_test.go holds the same with scripted tables that lack rows")
	}
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		for key, sockets := range stableListeners() {
			for range sockets {
				listen(t, key.Proto, key.Addr.String(), netnstest.ReusePort())
			}
		}
		var opened atomic.Int64
		stop := make(chan struct{})
		var churning sync.WaitGroup
		churn := func(proto string, address func(n int) string) {
			churning.Go(func() { comeAndGo(t, stop, &opened, proto, address) })
		}
		churn("tcp", func(n int) string {
			return fmt.Sprintf("%s:%d", []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "[::1]"}[n/2%4], 1024+n%2)
		})
		churn("udp", func(n int) string { return fmt.Sprintf("127.0.2.%d:%d", 1+n%200, udpPort) })
		t.Cleanup(func() {
			close(stop)
			churning.Wait()
			t.Logf("%d sockets came and went", opened.Load())
		})
	}, func(t *testing.T) {
		eachSource(t, testNoneIsMissing)
	})
}

func testNoneIsMissing(t *testing.T, source string) {
	raw, full := rawSource(t, source), os.Getenv(churnVariable) == "full"
	least, most, limit := 10, 400, 8*time.Second // 10 on the slowest machine, and as many as fit into the limit on others
	if full {
		most = map[string]int{"netlink": 10_000, "procfs": 1_000}[source]
		least = most
	}
	stable := stableListeners()
	i := open(t, source, time.Hour)
	holed, duplicated := make(map[socket.Protocol]int), make(map[socket.Protocol]int)
	taken, missed := 0, 0
	report := func() {
		t.Helper()
		t.Logf("%d snapshots missed %d times a socket that stayed; next to each a single read of each protocol: "+
			"how many missed a socket that stayed: %v, had a row twice: %v", taken, missed, holed, duplicated)
	}
	for start := time.Now(); taken < least || taken < most && time.Since(start) < limit; taken++ {
		_, listeners := read(t, i) // which fails the test on a duplicate
		for key, sockets := range stable {
			if got := listeners[key].Sockets; got != sockets {
				t.Errorf("snapshot %d: %v has %d sockets, of %d that never closed", taken, key, got, sockets)
				missed++
			}
		}

		if taken%500 == 499 {
			report()
		}

		for _, proto := range []socket.Protocol{socket.TCP, socket.UDP} {
			rows, _, err := raw.Read(proto)
			if err != nil {
				t.Fatal(err)
			}
			hole, duplicate := faults(rows, proto, stable)
			holed[proto] += hole
			duplicated[proto] += duplicate
		}
	}
	report()
	if full && holed[socket.TCP]+holed[socket.UDP] == 0 {
		t.Error("no single read missed a socket that stayed: so this shows nothing")
	}
}

// rawSource returns a source that nothing corrects.
func rawSource(t *testing.T, name string) socket.Source {
	t.Helper()
	source, _, err := socket.Open(socket.Config{
		Procfs: "/proc", Netns: "self", Source: name, Protocols: []socket.Protocol{socket.TCP, socket.UDP},
	})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// comeAndGo opens sockets and closes them again, as fast as it can, until stop is closed. Some dozens are open at any time.
func comeAndGo(t *testing.T, stop <-chan struct{}, opened *atomic.Int64, proto string, address func(n int) string) {
	var open [64]int
	for n := range open {
		open[n] = -1
	}
	defer func() {
		for _, fd := range open {
			_ = unix.Close(fd)
		}
	}()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		place := &open[n%len(open)]
		_ = unix.Close(*place)
		fd, err := netnstest.Listen(proto, address(n), netnstest.ReusePort())
		if err != nil {
			t.Error(err)
			return
		}
		*place = fd
		opened.Add(1)
	}
}

// faults returns 1 or 0 for whether one read lacks a socket that stays, and whether it has a socket twice.
func faults(rows []socket.Socket, proto socket.Protocol, stable map[inventory.Key]int) (holed, duplicated int) {
	seen := make(map[netip.AddrPort]int)
	ids := make(map[uint64]bool)
	for _, row := range rows {
		if ids[row.ID] {
			duplicated = 1
			continue
		}
		ids[row.ID] = true
		seen[row.Addr]++
	}
	for key, sockets := range stable {
		if key.Proto == proto.String() && seen[key.Addr] < sockets {
			holed = 1
		}
	}
	return holed, duplicated
}
