//go:build linux

package inventory

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// queued returns a TCP socket with a queue.
func queued(length, limit uint64) socket.Socket {
	s := at("0.0.0.0:80", 1)
	s.Queue, s.QueueLimit = length, limit
	return s
}

func TestAQueueIsFullOverMostLooks(t *testing.T) {
	full, free := queued(129, 128), queued(0, 128)
	backlogOfNone := []socket.Socket{queued(1, 0), queued(0, 0)}
	for name, test := range map[string]struct {
		every time.Duration
		looks []socket.Socket
		full  string // at each look
	}{
		"full":                      {5 * time.Second, []socket.Socket{full, full, full, full}, "..##"},
		"most of the time":          {5 * time.Second, []socket.Socket{full, full, free, full, free, full, full}, "...####"},
		"until two looks are free":  {5 * time.Second, []socket.Socket{full, full, full, free, full, free, free, full}, "..####.."},
		"listen(0)":                 {5 * time.Second, slices.Repeat(backlogOfNone, 10), strings.Repeat(".", 20)},
		"listen(0), two at a time":  {time.Second, slices.Repeat([]socket.Socket{queued(1, 0), queued(1, 0), queued(1, 0), queued(0, 0), queued(0, 0), queued(0, 0)}, 5), strings.Repeat(".", 30)},
		"several scrapes at a time": {10 * time.Millisecond, []socket.Socket{full, full, full, full, full, full}, "......"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.source.detailed = true
			b.look(0, free)
			states := ""
			var begin time.Time
			for n, s := range test.looks {
				l := only(t, b.look(test.every, s))
				if startsOf(l).Full.IsZero() {
					states, begin = states+".", time.Time{}
					continue
				}
				states += "#"
				if begin.IsZero() {
					begin = startsOf(l).Full
				}
				if !startsOf(l).Full.Equal(begin) || startsOf(l).Full.After(b.clock.Add(-2*test.every)) {
					t.Errorf("look %d: full since %s", n, startsOf(l).Full)
				}
			}
			if states != test.full {
				t.Errorf("full at %s, want %s", states, test.full)
			}
		})
	}
}

func TestAListenerDropsWhileItLosesMoreThanAPacketASecond(t *testing.T) {
	lost := func(s socket.Socket, drops int) socket.Socket { s.Drops = uint32(drops); return s }
	for name, test := range map[string]struct {
		proto socket.Protocol
		at    func(second int) socket.Socket
		first int // the first second at which it drops, or 0
		last  int // and the last
	}{
		"a little":                   {socket.UDP, func(s int) socket.Socket { return lost(at("0.0.0.0:514", 1), s) }, 0, 0},
		"a lot":                      {socket.UDP, func(s int) socket.Socket { return lost(at("0.0.0.0:514", 1), 10*s) }, 10, 600},
		"a burst":                    {socket.UDP, func(s int) socket.Socket { return lost(at("0.0.0.0:514", 1), 1000*min(s/100, 1)) }, 100, 155},
		"a port scan":                {socket.TCP, func(s int) socket.Socket { return lost(queued(0, 128), 10*s) }, 0, 0},
		"a port scan of listen(0)":   {socket.TCP, func(s int) socket.Socket { return lost(queued(1, 0), 10*s) }, 0, 0},
		"a program that is too slow": {socket.TCP, func(s int) socket.Socket { return lost(queued(uint64(128*(s/50%2)), 128), 10*s) }, 50, 600},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.source.detailed = true
			first, last := 0, 0
			for second := 0; second <= 600; second += 5 {
				b.source.say(test.proto, has(test.at(second)))
				if l := only(t, b.Snapshot()); !startsOf(l).Dropping.IsZero() {
					if last = second; first == 0 {
						first = second
					}
					if startsOf(l).Dropping.After(b.clock) || b.clock.Sub(startsOf(l).Dropping) > time.Duration(second)*time.Second {
						t.Errorf("at %d s: since %s", second, startsOf(l).Dropping)
					}
				}
				b.advance(5 * time.Second)
			}
			if first != test.first || last != test.last {
				t.Errorf("drops from %d s to %d s, want %d to %d", first, last, test.first, test.last)
			}
		})
	}
}
