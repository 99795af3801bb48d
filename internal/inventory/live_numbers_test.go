package inventory_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// patience is how long a test waits for what the kernel does at once.
const patience = 10 * time.Second

// only returns the listener with a key, which must be there.
func only(t *testing.T, i *inventory.Inventory, key inventory.Key) inventory.Listener {
	t.Helper()
	_, listeners := read(t, i)
	l, ok := listeners[key]
	if !ok {
		t.Fatalf("%v is not reported, but %v", key, counted(listeners))
	}
	return l
}

func TestTheAcceptQueueIsThatOfTheFullestSocket(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			i := open(t, source, time.Hour)
			listener := listen(t, "tcp", "127.0.0.1:9000")
			key := key("tcp", "127.0.0.1:9000", "loopback", "user")

			if got := only(t, i, key).AcceptQueueLength; got != 0 {
				t.Errorf("accept queue of an idle listener: %d, want 0", got)
			}
			for range 3 {
				connect(t, "tcp", "127.0.0.1:0", "127.0.0.1:9000")
			}
			if got := only(t, i, key).AcceptQueueLength; got != 3 {
				t.Errorf("accept queue after 3 connections: %d, want 3", got)
			}
			accept(t, listener)
			if got := only(t, i, key).AcceptQueueLength; got != 2 {
				t.Errorf("accept queue after 3 connections and 1 accept: %d, want 2", got)
			}
		})
	})
}

func TestUDPPacketsThatAreNotReadFillTheQueueAndAreThenDropped(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			const address = "127.0.0.1:8125"
			key := key("udp", address, "loopback", "user")
			sender := bind(t, "udp", "127.0.0.1:8124")

			// The first worker is there when the exporter starts, and has dropped packets before.
			first := worker(t, address)
			flood(t, sender, address)
			start := kernelDrops(t, 8125)
			if start == 0 {
				t.Fatal("the kernel dropped nothing")
			}
			i := open(t, source, time.Hour)
			l := only(t, i, key)
			if l.Drops != 0 {
				t.Errorf("%d drops at the first snapshot, want 0: the exporter counts from its own start", l.Drops)
			}
			if l.ReceiveQueueBytes == 0 {
				t.Error("no byte in the receive queue of a socket that nobody reads")
			}

			flood(t, sender, address)
			firstsDrops := kernelDrops(t, 8125) - start
			if firstsDrops == 0 {
				t.Fatal("the kernel dropped nothing more")
			}
			if got := only(t, i, key).Drops; got != firstsDrops {
				t.Errorf("%d drops, the kernel counted %d", got, firstsDrops)
			}

			// It restarts as such workers do: the next one opens the port before the last one closes it.
			second := worker(t, address)
			if got := only(t, i, key); got.Drops != firstsDrops || got.Sockets != 2 {
				t.Errorf("%d drops of %d sockets beside the new worker, want %d of 2", got.Drops, got.Sockets, firstsDrops)
			}
			closeSocket(t, first)
			if got := only(t, i, key); got.Drops != firstsDrops || got.Sockets != 1 {
				t.Errorf("%d drops of %d sockets after the old worker went, want %d of 1", got.Drops, got.Sockets, firstsDrops)
			}
			flood(t, sender, address)
			secondsDrops := kernelDrops(t, 8125)
			if secondsDrops == 0 {
				t.Fatal("the kernel dropped nothing at the new worker")
			}
			if got, want := only(t, i, key).Drops, firstsDrops+secondsDrops; got != want {
				t.Errorf("%d drops after the restart, want %d of the old worker and %d of the new one", got, firstsDrops, secondsDrops)
			}

			// It stops, for a while: the count is kept. When it comes back it counts on.
			closeSocket(t, second)
			snapshot, listeners := read(t, i)
			if len(listeners) != 1 || len(snapshot.Gone) != 1 || snapshot.Gone[0].Drops != firstsDrops+secondsDrops {
				t.Errorf("after the last worker went: listeners %v, gone %v; want the sender alone, and %d drops", listeners, snapshot.Gone, firstsDrops+secondsDrops)
			}
			third := worker(t, address)
			if got, want := only(t, i, key).Drops, firstsDrops+secondsDrops; got != want {
				t.Errorf("%d drops when a worker came back, want %d as before", got, want)
			}
			closeSocket(t, third)
		})
	})
}

// worker opens a UDP socket that shares its port, and has room for a few packets only. The caller closes it.
func worker(t *testing.T, address string) (fd int) {
	t.Helper()
	fd, err := netnstest.Bind("udp", address, netnstest.ReusePort())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil { // the kernel makes it its minimum
		t.Fatal(err)
	}
	return fd
}

func closeSocket(t *testing.T, fd int) {
	t.Helper()
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
}

// flood sends more packets than a worker has room for.
func flood(t *testing.T, sender int, address string) {
	t.Helper()
	if err := netnstest.Connect(sender, address); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := unix.Write(sender, make([]byte, 512)); err != nil {
			t.Fatal(err)
		}
	}
	if err := netnstest.Disconnect(sender); err != nil {
		t.Fatal(err)
	}
}

// kernelDrops returns the drops of all UDP sockets on an IPv4 port as the kernel counts them, once they stand still.
func kernelDrops(t *testing.T, port int) uint64 {
	t.Helper()
	last := uint64(0)
	for same, deadline := 0, time.Now().Add(patience); same < 5; time.Sleep(10 * time.Millisecond) {
		drops := dropsColumn(t, port)
		if same++; drops != last {
			last, same = drops, 0
		}
		if time.Now().After(deadline) {
			t.Fatal("the kernel's drop count does not stand still")
		}
	}
	return last
}

// dropsColumn sums up the last column of /proc/net/udp over the sockets on a port.
func dropsColumn(t *testing.T, port int) uint64 {
	t.Helper()
	table, err := os.ReadFile("/proc/self/net/udp")
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	for row := range strings.Lines(string(table)) {
		columns := strings.Fields(row)
		if !strings.HasSuffix(columns[1], fmt.Sprintf(":%04X", port)) {
			continue
		}
		drops, err := strconv.ParseUint(columns[len(columns)-1], 10, 64)
		if err != nil {
			t.Fatalf("row %q: %v", row, err)
		}
		sum += drops
	}
	return sum
}

// A socket can cease to listen, and listen again, without being closed. The kernel goes on counting its drops where it was.
func TestTheDropsOfASocketThatListensAgainAreCountedOnce(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		t.Run("tcp", func(t *testing.T) {
			const address = "127.0.0.1:9000"
			fd := listenBacklog(t, address, 1)
			defer func() { _ = unix.Close(fd) }()
			testDropsAreCountedOnce(t, "netlink", key("tcp", address, "loopback", "user"), listeningAgain{
				overflow: func() uint64 {
					before := ss(t, "tcp", 9000)[0].Drops
					giveUp := knock(t, address, 8)
					awaitDrops(t, 9000, before)
					giveUp() // lest there be more
					return ss(t, "tcp", 9000)[0].Drops
				},
				pause: func() error { return unix.Shutdown(fd, unix.SHUT_RD) },
				again: func() error { return unix.Listen(fd, 1) },
			})
		})
		eachSource(t, func(t *testing.T, source string) {
			const address = "127.0.0.1:8125"
			sender := bind(t, "udp", "127.0.0.1:8124")
			fd := worker(t, address)
			defer func() { _ = unix.Close(fd) }()
			testDropsAreCountedOnce(t, source, key("udp", address, "loopback", "user"), listeningAgain{
				overflow: func() uint64 {
					flood(t, sender, address)
					return kernelDrops(t, 8125)
				},
				pause: func() error { return netnstest.Connect(fd, "127.0.0.1:8126") },
				again: func() error { return netnstest.Disconnect(fd) },
			})
		})
	})
}

// listeningAgain is what a socket does that pauses. overflow returns how many drops the kernel has counted for it.
type listeningAgain struct {
	overflow     func() uint64
	pause, again func() error
}

func testDropsAreCountedOnce(t *testing.T, source string, key inventory.Key, does listeningAgain) {
	t.Helper()
	start := does.overflow() // before the exporter's time
	i := open(t, source, time.Hour)
	want := uint64(0)
	for round := range 3 {
		if got := only(t, i, key).Drops; got != want {
			t.Errorf("round %d: %d drops, want %d; the kernel had %d at the start", round, got, want, start)
		}
		if err := does.pause(); err != nil {
			t.Fatal(err)
		}
		if _, listeners := read(t, i); listeners[key].Sockets != 0 {
			t.Fatalf("round %d: it listens still", round)
		}
		if err := does.again(); err != nil {
			t.Fatal(err)
		}
		if got := only(t, i, key).Drops; got != want {
			t.Errorf("round %d: %d drops when it listens again, want %d; the kernel had %d at the start", round, got, want, start)
		}
		want = does.overflow() - start
	}
}

func TestAListenerThatAppearsHasAFirstSeenTime(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			i := open(t, source, time.Hour)
			listen(t, "tcp", "127.0.0.1:9000")
			listen(t, "udp", "127.0.0.1:9000")
			read(t, i)
			opened := time.Now()
			listen(t, "tcp", "127.0.0.1:9001")
			listen(t, "udp", "127.0.0.1:9001")
			_, listeners := read(t, i)
			seen := time.Now()
			for key, l := range listeners {
				switch key.Addr.Port() {
				case 9000:
					if !l.FirstSeen.IsZero() {
						t.Errorf("%v was there at the start, but is first seen at %s", key, l.FirstSeen)
					}
				default:
					if l.FirstSeen.Before(opened) || l.FirstSeen.After(seen) {
						t.Errorf("%v is first seen at %s, want a time from %s to %s", key, l.FirstSeen, opened, seen)
					}
				}
			}
			if len(listeners) != 4 {
				t.Errorf("%d listeners, want 4", len(listeners))
			}
			_, later := read(t, i)
			for key, l := range listeners {
				if got := later[key].FirstSeen; !got.Equal(l.FirstSeen) {
					t.Errorf("%v is first seen at %s, and later at %s", key, l.FirstSeen, got)
				}
			}
		})
	})
}

func TestAnEphemeralUDPSocketIsReportedWhenItIsOldEnough(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			const minAge = 300 * time.Millisecond
			key := key("udp", "0.0.0.0:51820", "any", "ephemeral")
			i := open(t, source, minAge)
			read(t, i)
			opened := time.Now()
			listen(t, "udp", "0.0.0.0:51820")
			for deadline := opened.Add(patience); ; time.Sleep(10 * time.Millisecond) {
				_, listeners := read(t, i)
				now := time.Now()
				l, reported := listeners[key]
				switch age := now.Sub(opened); {
				case reported && age < minAge:
					t.Fatalf("reported %s after it was opened, want at least %s", age, minAge)
				case reported:
					if l.FirstSeen.Before(opened) || l.FirstSeen.After(now.Add(-minAge)) {
						t.Errorf("first seen at %s, want when it was first read, between %s and %s", l.FirstSeen, opened, now.Add(-minAge))
					}
					return
				case now.After(deadline):
					t.Fatal("never reported")
				}
			}
		})
	})
}
