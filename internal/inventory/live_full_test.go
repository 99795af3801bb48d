package inventory_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// shownBySS is what ss tells of a listening socket.
type shownBySS struct {
	ReceiveQueue, SendQueue, ReceiveBuffer, Drops uint64
}

var ssLine = regexp.MustCompile(`(?m)^\S+\s+(\d+)\s+(\d+)\s+\S+\s+\S+\s+skmem:\(r\d+,rb(\d+),.*,d(\d+)\)$`)

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
	text := regexp.MustCompile(`\s*\n\s+`).ReplaceAllString(string(output), " ")
	var shown []shownBySS
	for line := range strings.Lines(text) {
		match := ssLine.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			t.Fatalf("%s printed %q", cmd, line)
		}
		var numbers []uint64
		for _, text := range match[1:] {
			number, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("%s printed %q: %v", cmd, line, err)
			}
			numbers = append(numbers, number)
		}
		shown = append(shown, shownBySS{numbers[0], numbers[1], numbers[2], numbers[3]})
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

// awaitDrops waits until ss shows more drops than there were, of the one TCP socket on a port.
func awaitDrops(t *testing.T, port int, before uint64) {
	t.Helper()
	for deadline := time.Now().Add(patience); ss(t, "tcp", port)[0].Drops <= before; {
		if time.Now().After(deadline) {
			t.Fatal("8 connections do not overflow a backlog of 1")
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
			i := open(t, source, time.Hour)
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
			giveUp()
			accept(t, listener)
			accept(t, listener)
			later, shown := besideSS(t, i, key)
			if later.AcceptQueueLength != shown[0].ReceiveQueue || later.Drops != shown[0].Drops || later.Drops <= l.Drops {
				t.Errorf("after two accepts: queue %d, drops %d; ss shows %+v, drops were %d", later.AcceptQueueLength, later.Drops, shown, l.Drops)
			}
		})
	})
}

func TestTheTCPDropCountNeverFallsWhenAWorkerRestarts(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		const address = "127.0.0.1:9000"
		key := key("tcp", address, "loopback", "user")
		overflow := func() {
			giveUp := knock(t, address, 8)
			defer giveUp()
			awaitDrops(t, 9000, 0)
		}
		worker := listenBacklog(t, address, 1)
		overflow()
		i := open(t, "netlink", time.Hour)
		l, shown := besideSS(t, i, key)
		if l.Drops != 0 || shown[0].Drops == 0 {
			t.Fatalf("%d drops at the first snapshot, want 0: the exporter counts from its own start, the kernel was at %d", l.Drops, shown[0].Drops)
		}
		start := shown[0].Drops
		want, last := uint64(0), uint64(0)
		never := func() inventory.Listener {
			t.Helper()
			l := only(t, i, key)
			if l.Drops < last {
				t.Errorf("the count fell from %d to %d", last, l.Drops)
			}
			last = l.Drops
			return l
		}
		for range 3 {
			_, shown = besideSS(t, i, key)
			want += shown[0].Drops - start
			if l := never(); l.Drops != want {
				t.Errorf("%d drops of one worker, want %d", l.Drops, want)
			}
			next := listenBacklog(t, address, 1)
			if l := never(); l.Drops != want || l.Sockets != 2 {
				t.Errorf("%d drops of %d sockets beside the new worker, want %d of 2", l.Drops, l.Sockets, want)
			}
			_ = unix.Close(worker)
			if l := never(); l.Drops != want || l.Sockets != 1 {
				t.Errorf("%d drops of %d sockets after the old worker went, want %d of 1", l.Drops, l.Sockets, want)
			}
			worker, start = next, 0
			overflow()
		}
		_, shown = besideSS(t, i, key)
		want += shown[0].Drops
		if l := never(); l.Drops != want {
			t.Errorf("%d drops after three restarts, want %d", l.Drops, want)
		}
		_ = unix.Close(worker)
		snapshot, _ := read(t, i)
		if len(snapshot.Gone) != 1 || snapshot.Gone[0].Drops != want {
			t.Errorf("after the last worker went: gone %v, want %d drops", snapshot.Gone, want)
		}
	})
}

func TestUDPNumbersAreThoseThatSSShows(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		eachSource(t, func(t *testing.T, source string) {
			const address = "127.0.0.1:8125"
			key := key("udp", address, "loopback", "user")
			i := open(t, source, time.Hour)
			read(t, i)
			sender := bind(t, "udp", "127.0.0.1:8124")
			for range 3 { // that share the port: the numbers are sums
				fd := worker(t, address)
				defer func() { _ = unix.Close(fd) }()
			}
			read(t, i)
			flood(t, sender, address)
			if kernelDrops(t, 8125) == 0 {
				t.Fatal("the kernel dropped nothing")
			}
			l, shown := besideSS(t, i, key)
			var sum shownBySS
			for _, s := range shown {
				sum.ReceiveQueue += s.ReceiveQueue
				sum.ReceiveBuffer += s.ReceiveBuffer
				sum.Drops += s.Drops
			}
			want := shownBySS{ReceiveQueue: l.ReceiveQueueBytes, ReceiveBuffer: l.ReceiveBufferLimitBytes, Drops: l.Drops}
			if source == "procfs" {
				want.ReceiveBuffer = sum.ReceiveBuffer // which it does not know
			}
			if diff := cmp.Diff(want, sum); diff != "" || l.Sockets != len(shown) {
				t.Errorf("%d sockets, ss shows %d; sums (-snapshot +ss):\n%s", l.Sockets, len(shown), diff)
			}
		})
	})
}
