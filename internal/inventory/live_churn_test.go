package inventory_test

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"listen_exporter/internal/netnstest"
	"listen_exporter/internal/socket"
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

func TestNoListenerThatStaysIsMissingWhileOthersComeAndGo(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		const snapshots, limit = 200, 20 * time.Second // whichever comes first
		stable := make(map[netip.AddrPort]string)
		stay := func(proto, address string) {
			listen(t, proto, address)
			stable[netip.MustParseAddrPort(address)] = proto
		}
		for n := range 1000 {
			stay("tcp", fmt.Sprintf("127.0.0.1:%d", 1024+tcpBuckets*(1+n%3)+n/3))
		}
		for n := range 200 {
			stay("udp", fmt.Sprintf("127.0.1.%d:%d", 1+n, udpPort))
		}

		var opened atomic.Int64
		stop := make(chan struct{})
		var churning sync.WaitGroup
		churn := func(proto string, address func(n int) string) {
			churning.Go(func() { comeAndGo(t, stop, &opened, proto, address) })
		}
		churn("tcp", func(n int) string { return fmt.Sprintf("127.0.0.1:%d", 1024+n%2) })
		churn("udp", func(n int) string { return fmt.Sprintf("127.0.2.%d:%d", 1+n%200, udpPort) })
		defer churning.Wait()
		defer close(stop)

		i := open(t, time.Hour)
		raw := socket.NewProcfs("/proc/self", "/proc")
		var rows []socket.Socket
		holed, duplicated := make(map[socket.Protocol]int), make(map[socket.Protocol]int)
		taken := 0
		for start := time.Now(); taken < snapshots && time.Since(start) < limit; taken++ {
			_, listeners := read(t, i)
			missing := make(map[netip.AddrPort]bool)
			for addr := range stable {
				missing[addr] = true
			}
			for key := range listeners {
				delete(missing, key.Addr)
			}
			for addr := range missing {
				t.Errorf("snapshot %d: %s %s never closed and is missing", taken, stable[addr], addr)
			}

			for _, proto := range []socket.Protocol{socket.TCP, socket.UDP} {
				var err error
				if rows, err = raw.Append(rows[:0], proto); err != nil {
					t.Fatal(err)
				}
				hole, duplicate := faults(rows, proto.String(), stable)
				holed[proto] += hole
				duplicated[proto] += duplicate
			}
		}
		t.Logf("%d sockets came and went during %d snapshots; beside each a single read of each protocol: "+
			"how many missed a socket that stayed: %v, had a row twice: %v", opened.Load(), taken, holed, duplicated)
	})
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
func faults(rows []socket.Socket, proto string, stable map[netip.AddrPort]string) (holed, duplicated int) {
	seen := make(map[netip.AddrPort]bool)
	inodes := make(map[uint64]bool)
	for _, row := range rows {
		seen[row.Addr] = true
		if inodes[row.Inode] {
			duplicated = 1
		}
		inodes[row.Inode] = true
	}
	for addr, of := range stable {
		if of == proto && !seen[addr] {
			holed = 1
		}
	}
	return holed, duplicated
}
