//go:build linux

package inventory_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
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
	least, most, limit := 10, 400, 8*time.Second // 10 on the slowest machine, and as many as fit into the limit on others
	if os.Getenv(churnVariable) == "full" {
		most = map[string]int{"netlink": 10_000, "procfs": 1_000}[source]
		least = most
	}
	stable := stableListeners()
	i := open(t, source, func(o *inventory.Options) { o.Interval, o.Remember = 50*time.Millisecond, time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { i.Watch(ctx, log.NewNopLogger()) })
	defer watching.Wait()
	defer cancel()
	taken := 0
	for start := time.Now(); taken < least || taken < most && time.Since(start) < limit; taken++ {
		snapshot, listeners := read(t, i) // which fails the test on a duplicate
		for _, p := range snapshot.Memory.Gone {
			if p.Proto != inventory.TCP || p.Port >= 1024+tcpBuckets {
				t.Errorf("snapshot %d: %s port %d is gone, which stays", taken, p.Proto, p.Port)
			}
		}
		for key, sockets := range stable {
			if got := listeners[key].Sockets; got != sockets {
				t.Errorf("snapshot %d: %v has %d sockets, of %d that never closed", taken, key, got, sockets)
			}
		}
	}
	t.Logf("%d snapshots", taken)
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
