//go:build linux

package inventory_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// shownBySS is what ss shows of a listening socket.
type shownBySS struct {
	ReceiveQueue, SendQueue, ReceiveBuffer, Drops uint64
}

var ssLine = regexp.MustCompile(`(?m)^\S+\s+(\d+)\s+(\d+)\s+\S+\s+\S+\s+skmem:\(r\d+,rb(\d+),\S*,d(\d+)\)\s*$`)

// ss returns the listening sockets of a protocol on a port, in no order.
func ss(t *testing.T, proto string, port int) []shownBySS {
	t.Helper()
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("needs ss, of iproute2")
	}
	cmd := exec.Command("ss", "-Hlnm", "--"+proto, "sport", "=", fmt.Sprintf(":%d", port))
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	var shown []shownBySS
	for _, match := range ssLine.FindAllStringSubmatch(string(output), -1) {
		var s shownBySS
		if _, err := fmt.Sscan(strings.Join(match[1:], " "), &s.ReceiveQueue, &s.SendQueue, &s.ReceiveBuffer, &s.Drops); err != nil {
			t.Fatalf("%s printed %q: %v", cmd, match[0], err)
		}
		shown = append(shown, s)
	}
	return shown
}

// besideSS returns a listener as one snapshot has it, and what ss showed of its sockets both before and after that.
func besideSS(t *testing.T, i *inventory.Inventory, key inventory.Key) (inventory.Listener, []shownBySS) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		before := ss(t, key.Proto, int(key.Addr.Port()))
		l := only(t, i, key)
		after := ss(t, key.Proto, int(key.Addr.Port()))
		if cmp.Equal(before, after) {
			return l, before
		}
		if time.Now().After(deadline) {
			t.Fatalf("ss does not show the same twice: %+v, %+v", before, after)
		}
	}
}

// listenBacklog opens a TCP socket with a backlog. The caller closes it.
func listenBacklog(t *testing.T, address string, backlog int) (fd int) {
	t.Helper()
	fd, err := netnstest.Bind("tcp", address, netnstest.ReusePort())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	return fd
}

// knock begins connections, and does not wait for them. closeAll gives them up.
func knock(t *testing.T, address string, connections int) (closeAll func()) {
	t.Helper()
	var fds []int
	for range connections {
		fd := bind(t, "tcp", "127.0.0.1:0")
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		// It is on its way (EINPROGRESS), or there: loopback is fast.
		_ = netnstest.Connect(fd, address)
		fds = append(fds, fd)
	}
	return func() {
		for _, fd := range fds {
			// Not closed, lest another socket take its number: the test's end does that.
			_ = netnstest.Disconnect(fd)
		}
	}
}

func TestAFullAcceptQueueIsLongerThanItsLimitAndDrops(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			const address = "127.0.0.1:9000"
			key := key("tcp", address, "loopback", "user")
			listener := listenBacklog(t, address, 1)
			defer func() { _ = unix.Close(listener) }()
			i := open(t, source)
			detailed := source == "netlink"
			if l := only(t, i, key); l.AcceptQueueLength != 0 || l.Drops != 0 || l.Detailed != detailed {
				t.Errorf("an idle listener: queue %d, drops %d (counted: %t)", l.AcceptQueueLength, l.Drops, l.Detailed)
			}

			giveUp := knock(t, address, 8)
			defer giveUp()
			l, shown := besideSS(t, i, key)
			for deadline := time.Now().Add(patience); shown[0].ReceiveQueue < 2 || shown[0].Drops == 0; l, shown = besideSS(t, i, key) {
				if time.Now().After(deadline) {
					t.Fatalf("8 connections do not fill a backlog of 1: ss shows %+v", shown)
				}
			}
			want := shownBySS{ReceiveQueue: l.AcceptQueueLength, ReceiveBuffer: shown[0].ReceiveBuffer}
			if detailed {
				want.SendQueue, want.Drops = l.AcceptQueueLimit, l.Drops
				if l.AcceptQueueLength <= l.AcceptQueueLimit || l.AcceptQueueLimit != 1 {
					t.Errorf("accept queue %d, limit %d; want more than the limit, which is 1", l.AcceptQueueLength, l.AcceptQueueLimit)
				}
			} else {
				want.SendQueue, want.Drops = shown[0].SendQueue, shown[0].Drops // which it does not know
			}
			if diff := cmp.Diff([]shownBySS{want}, shown); diff != "" {
				t.Errorf("a full listener (-snapshot +ss):\n%s", diff)
			}
			if !detailed {
				return
			}

			// The clients try again: what is refused is counted on and on.
			for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
				if later := only(t, i, key); later.Drops > l.Drops {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("drops stay at %d", l.Drops)
				}
			}
		})
	})
}

func TestUDPNumbersAreThoseThatSSShows(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			const address = "127.0.0.1:8125"
			key := key("udp", address, "loopback", "user")
			i := open(t, source)
			read(t, i)
			sender := bind(t, "udp", "127.0.0.1:8124")
			for range 3 { // that share the port: the packets of one sender all go to one of them
				fd := worker(t, address)
				defer func() { _ = unix.Close(fd) }()
			}
			read(t, i)
			flood(t, sender, address)
			if kernelDrops(t, "udp", 8125) == 0 {
				t.Fatal("the kernel dropped nothing")
			}
			l, shown := besideSS(t, i, key)
			var fullest shownBySS
			for _, s := range shown {
				fullest.ReceiveQueue = max(fullest.ReceiveQueue, s.ReceiveQueue)
				fullest.ReceiveBuffer = s.ReceiveBuffer // all have the same
				fullest.Drops += s.Drops
			}
			want := shownBySS{ReceiveQueue: l.ReceiveQueueBytes, ReceiveBuffer: l.ReceiveBufferLimitBytes, Drops: l.Drops}
			if source == "procfs" {
				want.ReceiveBuffer = fullest.ReceiveBuffer // which it does not know
			}
			if diff := cmp.Diff(want, fullest); diff != "" || l.Sockets != len(shown) {
				t.Errorf("%d sockets, ss shows %d; of the fullest (-snapshot +ss):\n%s", l.Sockets, len(shown), diff)
			}
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

// kernelDrops returns the drops of all sockets on a port as ss shows them, once they are stable.
func kernelDrops(t *testing.T, proto string, port int) uint64 {
	t.Helper()
	last := uint64(0)
	for same, deadline := 0, time.Now().Add(patience); same < 5; time.Sleep(10 * time.Millisecond) {
		drops := uint64(0)
		for _, s := range ss(t, proto, port) {
			drops += s.Drops
		}
		if same++; drops != last {
			last, same = drops, 0
		}
		if time.Now().After(deadline) {
			t.Fatal("the kernel's drop count is never stable")
		}
	}
	return last
}

// A socket can cease to listen, and listen again, without being closed. Which drops are counted is in ledger_test.go.
func TestTheDropCountNeverFallsAndCountsNoDropTwice(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			const address = "127.0.0.1:8125"
			key := key("udp", address, "loopback", "user")
			sender, fd := bind(t, "udp", "127.0.0.1:8124"), worker(t, address)
			flood(t, sender, address)
			start := kernelDrops(t, "udp", 8125)
			i := open(t, source)
			want := uint64(0) // since the exporter's start
			check := func(when string, sockets int) {
				t.Helper()
				if l := only(t, i, key); l.Drops != want || l.Sockets != sockets {
					t.Errorf("%s: %d drops of %d sockets, want %d of %d", when, l.Drops, l.Sockets, want, sockets)
				}
			}
			check("at the start", 1)
			flood(t, sender, address)
			if want = kernelDrops(t, "udp", 8125) - start; want == 0 {
				t.Fatal("the kernel dropped nothing")
			}
			check("after an overflow", 1)
			if err := netnstest.Connect(fd, "127.0.0.1:8126"); err != nil {
				t.Fatal(err)
			}
			if _, listeners := read(t, i); listeners[key].Sockets != 0 {
				t.Fatal("it still listens")
			}
			disconnect(t, fd)
			check("when it listens again", 1)
			next := worker(t, address) // workers restart so: the next one opens the port before the last one closes it
			check("next to a new worker", 2)
			_ = unix.Close(fd)
			check("after the old worker went", 1)
			_ = unix.Close(next)
			if snapshot, _ := read(t, i); len(snapshot.Gone) != 1 || snapshot.Gone[0].Drops != want {
				t.Errorf("after the last worker went: gone %v, want %d drops", snapshot.Gone, want)
			}
		})
	})
}
