//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

func TestTheFirstSnapshotIsTheUnionOfSeveralReads(t *testing.T) {
	ssh, both := has(at("0.0.0.0:22", 1)), has(at("0.0.0.0:22", 1), at("0.0.0.0:80", 2))
	b := newBench(t)
	b.source.say(socket.TCP, ssh, ssh, ssh, ssh, ssh, ssh, ssh, both, has(at("0.0.0.0:443", 3)))
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22", "tcp 0.0.0.0:80")
	if got := b.source.reads[socket.TCP]; got != goneAfter {
		t.Errorf("%d reads, want %d", got, goneAfter)
	}

	b = newBench(t) // of two, where a read takes long
	b.source.onRead = func() { b.advance(4 * time.Second) }
	b.source.say(socket.TCP, ssh, both)
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22", "tcp 0.0.0.0:80")
	if got := b.source.reads[socket.TCP]; got != 2 {
		t.Errorf("%d reads, want 2", got)
	}
}

func TestAListenerIsGoneOnlyWhenManyReadsInARowLackIt(t *testing.T) {
	both := has(at("0.0.0.0:22", 1), at("0.0.0.0:80", 2))
	ssh, http := has(at("0.0.0.0:22", 1)), has(at("0.0.0.0:80", 2))
	b := newBench(t)
	b.source.say(socket.TCP, both)
	b.Snapshot()

	for _, answers := range [][]answer{
		{ssh, both},
		{ssh, ssh, ssh, ssh, ssh, ssh, ssh, both},
		{http, ssh}, // each read lacks another one
		{has(), has(), http},
	} {
		b.source.say(socket.TCP, append(answers, both)...)
		wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22", "tcp 0.0.0.0:80")
	}

	before := b.source.reads[socket.TCP]
	b.source.say(socket.TCP, ssh)
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22")
	if got := b.source.reads[socket.TCP] - before; got != goneAfter {
		t.Errorf("%d reads to make sure, want %d", got, goneAfter)
	}
}

func TestWhereReadsTakeLongAMissingListenerStaysUntilLaterRoundsAreSure(t *testing.T) {
	b := newBench(t)
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)))
	b.Snapshot()
	b.source.onRead = func() { b.advance(4 * time.Second) }
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	for range goneAfter - 1 {
		wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22", "tcp 0.0.0.0:80")
	}
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22")
	// Several for the first snapshot, then one each.
	if got := b.source.reads[socket.TCP]; got != goneAfter+goneAfter {
		t.Errorf("%d reads, want %d", got, goneAfter+goneAfter)
	}
}

func TestAnUnchangedReadIsTheLastSnapshotOnlyWhileNothingWaits(t *testing.T) {
	ssh, http, wireguard := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2), at("0.0.0.0:51820", 3)
	shared := func(a, b *Snapshot) bool { return &a.Listeners[0] == &b.Listeners[0] }

	b := newBench(t)
	b.source.say(socket.TCP, has(ssh, http))
	b.source.say(socket.UDP, has(wireguard))
	b.Snapshot()
	b.source.say(socket.TCP, unchanged(ssh, http))
	b.source.say(socket.UDP, unchanged(wireguard))
	b.advance(59 * time.Second)
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22", "tcp 0.0.0.0:80")
	b.advance(time.Second) // the age is reached though no read changed
	last := b.Snapshot()
	wantPorts(t, last, "tcp 0.0.0.0:22", "tcp 0.0.0.0:80", "udp 0.0.0.0:51820")
	next := b.Snapshot()
	wantPorts(t, next, "tcp 0.0.0.0:22", "tcp 0.0.0.0:80", "udp 0.0.0.0:51820")
	if !shared(last, next) {
		t.Error("nothing changed, but the listeners were listed again")
	}

	// A socket that wavers goes, even if the reads that lack it are all the same.
	b.source.onRead = func() { b.advance(4 * time.Second) }
	b.source.say(socket.TCP, has(ssh), unchanged(ssh))
	for range goneAfter - 1 {
		wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22", "tcp 0.0.0.0:80", "udp 0.0.0.0:51820")
	}
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22", "udp 0.0.0.0:51820")
}

func TestALossThatCannotBeConfirmedIsAFailedRead(t *testing.T) {
	b := newBench(t)
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	b.Snapshot()
	b.source.say(socket.TCP, has(), answer{err: errors.New("interrupted")})
	s := b.Snapshot()
	wantPorts(t, s)
	if s.Reads[0].Err == nil {
		t.Error("the read did not fail")
	}
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	if l := only(t, b.Snapshot()); !l.FirstSeen.IsZero() {
		t.Error("a listener that was never gone is taken for a new one")
	}
}

func TestAFailedReadLeavesTheOtherProtocolAlone(t *testing.T) {
	for name, failure := range map[string]answer{
		"error":       {err: errors.New("permission denied")},
		"panic":       {panicked: true},
		"half a list": {rows: []socket.Socket{at("0.0.0.0:22", 1)}, err: errors.New("line 3: malformed")},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.source.say(socket.TCP, has(at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)))
			b.source.say(socket.UDP, has(at("0.0.0.0:53", 3)))
			b.Snapshot()

			b.source.say(socket.TCP, failure)
			for range 3 {
				s := b.Snapshot()
				wantPorts(t, s, "udp 0.0.0.0:53")
				if s.Reads[0].Collector != TCP || s.Reads[0].Err == nil || s.Reads[1].Collector != UDP || s.Reads[1].Err != nil {
					t.Errorf("reads: %+v", s.Reads)
				}
			}

			b.source.say(socket.TCP, has(at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)))
			wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22", "udp 0.0.0.0:53", "tcp 0.0.0.0:80")
			if got := strings.Count(b.log.String(), "level=error"); got != 1 {
				t.Errorf("%d errors were logged, want 1:\n%s", got, b.log.String())
			}
			if !strings.Contains(b.log.String(), `level=info msg="can read listening tcp sockets again"`) {
				t.Errorf("the recovery was not logged:\n%s", b.log.String())
			}
		})
	}
}

func TestAListenerThatWentWhileReadsFailedIsGoneAfterwards(t *testing.T) {
	b := newBench(t)
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)))
	b.Snapshot()
	b.source.say(socket.TCP, answer{err: errors.New("no")})
	b.Snapshot()
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22")
}

func TestDuplicateRowsAreOneSocket(t *testing.T) {
	b := newBench(t)
	b.source.say(socket.TCP, has(
		at("0.0.0.0:80", 1), at("0.0.0.0:80", 1), at("0.0.0.0:80", 2), // two sockets, one of them twice
		at("[::]:80", 3), // another family
	))
	for range 2 {
		wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:80 x2", "tcp [::]:80")
	}
}

func TestSocketsWithoutAnInodeAreNeverOne(t *testing.T) {
	b := newBench(t)
	b.source.say(socket.UDP, has(dropping(at("0.0.0.0:53", 0), 5), at("0.0.0.0:53", 0), at("0.0.0.0:54", 0)))
	wantPorts(t, b.Snapshot(), "udp 0.0.0.0:53 x2", "udp 0.0.0.0:54")

	// Nor is the second read of a doubtful round added to the first, and drops that moved to another row are not counted.
	b.source.say(socket.UDP,
		has(at("0.0.0.0:53", 0), at("0.0.0.0:54", 0)),
		has(at("0.0.0.0:53", 0), dropping(at("0.0.0.0:53", 0), 5), at("0.0.0.0:54", 0)))
	s := b.Snapshot()
	wantPorts(t, s, "udp 0.0.0.0:53 x2", "udp 0.0.0.0:54")
	if s.Listeners[0].Drops != 0 {
		t.Errorf("%d drops counted", s.Listeners[0].Drops)
	}

	b.source.say(socket.UDP, has(at("0.0.0.0:53", 0), at("0.0.0.0:54", 0)))
	wantPorts(t, b.Snapshot(), "udp 0.0.0.0:53", "udp 0.0.0.0:54")
}

func TestAListenerIsFirstSeenWhenItAppears(t *testing.T) {
	b := newBench(t)
	old := at("0.0.0.0:22", 1)
	b.source.say(socket.TCP, has(old))
	if l := only(t, b.Snapshot()); !l.FirstSeen.IsZero() {
		t.Error("what was there at the start has a time")
	}

	b.advance(time.Hour)
	appeared := b.now()
	b.source.say(socket.TCP, has(old, at("0.0.0.0:80", 2)))
	b.Snapshot()
	b.advance(time.Hour)
	if got := b.Snapshot().Listeners[1].FirstSeen; !got.Equal(appeared) {
		t.Errorf("first seen %s, want %s", got, appeared)
	}

	// Another socket takes the port over between two reads: the port was always there.
	b.source.say(socket.TCP, has(old, at("0.0.0.0:80", 3)))
	if got := b.Snapshot().Listeners[1].FirstSeen; !got.Equal(appeared) {
		t.Errorf("first seen %s after a change of sockets, want %s", got, appeared)
	}

	b.source.say(socket.TCP, has(at("0.0.0.0:80", 3)))
	b.Snapshot()
	b.advance(time.Hour)
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 4), at("0.0.0.0:80", 3)))
	if got := b.Snapshot().Listeners[0].FirstSeen; !got.Equal(b.now()) {
		t.Errorf("first seen %s after a return, want %s", got, b.now())
	}
}

func TestAFailureAtTheStartDoesNotMakeOldListenersNew(t *testing.T) {
	b := newBench(t)
	b.source.say(socket.UDP, answer{err: errors.New("no")})
	b.Snapshot()
	b.advance(time.Hour)
	b.source.say(socket.UDP, has(dropping(at("0.0.0.0:53", 1), 1000)))
	if l := only(t, b.Snapshot()); !l.FirstSeen.IsZero() || l.Drops != 0 {
		t.Errorf("got %+v", l)
	}
}

func TestAYoungSocketOnAnEphemeralUDPPortIsNotReported(t *testing.T) {
	b := newBench(t)
	resolver, wireguard := at("0.0.0.0:40000", 1), at("0.0.0.0:51820", 2)
	b.source.say(socket.TCP, has(at("0.0.0.0:40000", 3))) // TCP LISTEN is never a client
	b.source.say(socket.UDP, has(at("0.0.0.0:53", 4), resolver, wireguard))
	wantPorts(t, b.Snapshot(), "udp 0.0.0.0:53", "tcp 0.0.0.0:40000")

	b.advance(59 * time.Second)
	other := at("0.0.0.0:40000", 5) // the same port, another client
	b.source.say(socket.UDP, has(at("0.0.0.0:53", 4), other, wireguard))
	wantPorts(t, b.Snapshot(), "udp 0.0.0.0:53", "tcp 0.0.0.0:40000")

	b.advance(time.Second)
	wantPorts(t, b.Snapshot(), "udp 0.0.0.0:53", "tcp 0.0.0.0:40000", "udp 0.0.0.0:51820")
}

func TestAnEphemeralSocketThatOneReadHidesKeepsItsAge(t *testing.T) {
	b := newBench(t)
	wireguard := at("0.0.0.0:51820", 1)
	b.source.say(socket.UDP, has())
	b.Snapshot()
	opened := b.now()
	b.source.say(socket.UDP, has(wireguard))
	b.Snapshot()
	b.advance(30 * time.Second)
	b.source.say(socket.UDP, has())
	b.Snapshot()
	b.advance(30 * time.Second)
	b.source.say(socket.UDP, has(wireguard))
	if l := only(t, b.Snapshot()); !l.FirstSeen.Equal(opened) {
		t.Errorf("first seen %s, want the time it was opened, %s", l.FirstSeen, opened)
	}
}

func TestTheOldestOfSeveralSocketsDecidesTheAge(t *testing.T) {
	b := newBench(t)
	b.source.say(socket.UDP, has())
	b.Snapshot()
	opened := b.now()
	workers := []socket.Socket{}
	for n := range 12 { // many, because a map gives them in any order
		workers = append(workers, at("0.0.0.0:51820", uint64(n+1)))
		b.source.say(socket.UDP, has(workers...))
		wantPorts(t, b.Snapshot())
		b.advance(5 * time.Second)
	}
	if l := only(t, b.Snapshot()); !l.FirstSeen.Equal(opened) || l.Sockets != len(workers) {
		t.Errorf("got %+v", l)
	}
}

func TestAListenerKeepsTheRangeThatItWasFirstSeenWith(t *testing.T) {
	b := newBench(t)
	wantRange := func(want Range, client bool, rows ...socket.Socket) {
		t.Helper()
		b.source.say(socket.UDP, has(rows...))
		for range goneAfter { // one is surely gone, and another there
			b.Snapshot()
		}
		if got := only(t, b.Snapshot()); got.Range != want || got.Client != client {
			t.Errorf("range %s, client %t, want %s, %t", got.Range, got.Client, want, client)
		}
	}
	vxlan := at("0.0.0.0:4789", 1)
	wantRange(RangeUser, false, vxlan)
	b.source.ranges.EphemeralFirst = 4000 // now the port is a client's, but not this one
	wantRange(RangeUser, false, vxlan)
	wantRange(RangeUser, false, vxlan, at("0.0.0.0:4789", 2)) // nor one that shares it
	b.source.say(socket.UDP, has())
	b.Snapshot()
	wantPorts(t, b.Snapshot())
	b.source.say(socket.UDP, has(at("0.0.0.0:4789", 3)))
	b.Snapshot()
	b.advance(time.Minute)
	wantRange(RangeEphemeral, true, at("0.0.0.0:4789", 3))
}

func TestPortRangesThatCannotBeReadAreLoggedOnce(t *testing.T) {
	b := newBench(t)
	b.source.rangesErr = errors.New("no such file")
	for n := range 3 {
		b.source.say(socket.UDP, has(at(fmt.Sprintf("0.0.0.0:%d", 53+n), 1)))
		b.Snapshot()
	}
	if got := strings.Count(b.log.String(), "cannot read port ranges"); got != 1 {
		t.Errorf("logged %d times:\n%s", got, b.log.String())
	}
}

func TestDropsCountFromTheStartAndFromTheBirthOfLaterSockets(t *testing.T) {
	b := newBench(t)
	first, second := at("0.0.0.0:53", 1), at("0.0.0.0:53", 2)
	for step, test := range []struct {
		say  answer
		want uint64
	}{
		{has(dropping(first, 100)), 0},                       // there at the start
		{has(dropping(first, 105)), 5},                       // rises
		{has(dropping(first, 105), dropping(second, 7)), 12}, // a second worker, with its drops since birth
		{has(dropping(second, 8)), 13},                       // the first one closes and takes nothing back
		{has(dropping(second, 8), dropping(second, 8)), 13},  // a duplicate row
		{has(dropping(second, 1)), 13 + 1},                   // another socket has its ID
		{has(dropping(second, 1<<32-3)), 14 + 1<<32 - 3 - 1}, // nearly at the end of 32 bits
		{has(dropping(second, 2)), 14 + 1<<32 - 3 - 1 + 2},   // a counter that wraps is taken for another socket
	} {
		b.source.say(socket.UDP, test.say)
		if got := only(t, b.Snapshot()).Drops; got != test.want {
			t.Errorf("step %d: %d drops, want %d", step, got, test.want)
		}
	}
}

func TestDropsOutliveTheListenerForAnHour(t *testing.T) {
	b := newBench(t)
	b.source.say(socket.UDP, has(at("0.0.0.0:53", 1)))
	b.Snapshot()
	b.source.say(socket.UDP, has(dropping(at("0.0.0.0:53", 1), 9)))
	b.Snapshot()
	b.source.say(socket.UDP, has())
	gone := func() []uint64 {
		s := b.Snapshot()
		wantPorts(t, s)
		drops := []uint64{}
		for _, l := range s.Gone {
			drops = append(drops, l.Drops)
		}
		return drops
	}
	if diff := cmp.Diff([]uint64{9}, gone()); diff != "" {
		t.Errorf("drops of what went (-want +got):\n%s", diff)
	}
	b.advance(59 * time.Minute)
	b.source.say(socket.UDP, has(dropping(at("0.0.0.0:53", 2), 1)))
	if s := b.Snapshot(); only(t, s).Drops != 10 || len(s.Gone) != 0 {
		t.Errorf("after a return: %+v", s)
	}
	b.source.say(socket.UDP, has())
	gone()
	b.advance(59 * time.Minute)
	if diff := cmp.Diff([]uint64{10}, gone()); diff != "" {
		t.Errorf("59 minutes later (-want +got):\n%s", diff)
	}
	b.advance(time.Minute)
	if got := gone(); len(got) != 0 {
		t.Errorf("an hour later: %v", got)
	}
	if left := len(b.main.ledgers[1].listeners); left != 0 {
		t.Errorf("%d listeners are still remembered", left)
	}
}

func TestPortsThatComeAndGoDoNotFillTheMemory(t *testing.T) {
	for name, drops := range map[string]uint32{"without drops": 0, "with drops": 1} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.MaxPorts = 50 })
			b.Snapshot()
			for n := range 500 {
				b.advance(time.Second)
				s := at(fmt.Sprintf("0.0.0.0:%d", 1+n), uint64(n+1))
				b.source.say(socket.UDP, has(dropping(s, drops)))
				b.source.say(socket.TCP, has(s))
				b.Snapshot()
			}
			wantGone := 50 * int(drops)
			for _, l := range b.main.ledgers {
				if len(l.listeners) > wantGone+1 || len(l.sockets) > 1 {
					t.Errorf("%s: %d listeners and %d sockets are remembered", l.proto, len(l.listeners), len(l.sockets))
				}
			}
			gone := b.Snapshot().Gone
			if len(gone) != wantGone {
				t.Errorf("%d kept, want %d", len(gone), wantGone)
			} else if wantGone > 0 && gone[0].Addr.Port() != 450 {
				t.Errorf("kept from port %d: want those that went last", gone[0].Addr.Port())
			}
		})
	}
}

func TestTooManyListenersAreCutToTheLowestPorts(t *testing.T) {
	b := newBench(t, func(o *Options) { o.MaxPorts = 3 })
	b.source.say(socket.TCP, has(at("0.0.0.0:443", 1), at("[::]:22", 2), at("0.0.0.0:22", 3)))
	b.source.say(socket.UDP, has(at("0.0.0.0:53", 4), at("0.0.0.0:500", 5)))
	for range 2 {
		s := b.Snapshot()
		wantPorts(t, s, "tcp 0.0.0.0:22", "tcp [::]:22", "udp 0.0.0.0:53")
		if s.Omitted != 2 {
			t.Errorf("%d omitted, want 2", s.Omitted)
		}
	}
	if got := strings.Count(b.log.String(), "--collector.max-ports"); got != 1 {
		t.Errorf("logged %d times:\n%s", got, b.log.String())
	}
	b.source.say(socket.UDP, has())
	if s := b.Snapshot(); s.Omitted != 0 || !strings.Contains(b.log.String(), "no listener is left out any more") {
		t.Errorf("%d omitted:\n%s", s.Omitted, b.log.String())
	}
}

func TestOverlappingReadersShareOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
		b.Snapshot()
		before := b.source.reads[socket.TCP]
		b.source.hold = make(chan struct{})
		for range 50 {
			go func() { wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22") }()
		}
		synctest.Wait() // until all of them wait
		close(b.source.hold)
		synctest.Wait()
		if got := b.source.reads[socket.TCP] - before; got != 1 {
			t.Errorf("%d reads for 50 readers, want 1", got)
		}
	})
}

// A confirmation asks only for what is missing: what it does not return may well be there.
func TestAConfirmationSaysNothingAgainstWhatTheReadHad(t *testing.T) {
	ssh, http := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)
	b := newBench(t)
	b.source.say(socket.TCP, has(ssh, http))
	b.Snapshot()
	b.source.say(socket.TCP, has(ssh), has()) // lookups do not find the one that went
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22")
	b.source.say(socket.TCP, has(), has(ssh)) // one read passes over the other, and a lookup finds it
	wantPorts(t, b.Snapshot(), "tcp 0.0.0.0:22")
}

func TestQueuesAreThoseOfTheFullestSocket(t *testing.T) {
	queued := func(id, queue, limit uint64) socket.Socket {
		s := at("0.0.0.0:80", id)
		s.Queue, s.QueueLimit = queue, limit
		return s
	}
	for name, test := range map[string]struct {
		rows          []socket.Socket
		length, limit uint64 // of the one nearest to its limit
	}{
		"all empty":                  {[]socket.Socket{queued(1, 0, 5), queued(2, 0, 1), queued(3, 0, 4096)}, 0, 1},
		"one stuck among large ones": {[]socket.Socket{queued(1, 200, 4096), queued(2, 129, 128), queued(3, 0, 4096)}, 129, 128},
		"listen(0), idle":            {[]socket.Socket{queued(1, 0, 0), queued(2, 1, 128)}, 1, 128},
		"listen(0), full":            {[]socket.Socket{queued(1, 1, 0), queued(2, 128, 128)}, 1, 0},
		"no limits known":            {[]socket.Socket{queued(1, 3, 0), queued(2, 7, 0), queued(3, 0, 0)}, 7, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.source.say(socket.TCP, has(test.rows...))
			b.source.say(socket.UDP, has(test.rows...))
			s := b.Snapshot()
			if tcp := s.Listeners[0]; tcp.AcceptQueueLength != test.length || tcp.AcceptQueueLimit != test.limit || tcp.ReceiveQueueBytes != 0 {
				t.Errorf("tcp: %d of %d, want %d of %d", tcp.AcceptQueueLength, tcp.AcceptQueueLimit, test.length, test.limit)
			}
			if udp := s.Listeners[1]; udp.ReceiveQueueBytes != test.length || udp.ReceiveBufferLimitBytes != test.limit || udp.AcceptQueueLength != 0 {
				t.Errorf("udp: %d of %d bytes, want %d of %d", udp.ReceiveQueueBytes, udp.ReceiveBufferLimitBytes, test.length, test.limit)
			}
		})
	}
}
