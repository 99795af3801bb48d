//go:build linux

package inventory

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// dropLedger is a ledger at a time of the test's own. Each round of it is as many reads as make sure that a socket is gone.
type dropLedger struct {
	*ledger
	clock time.Time
}

func newDropLedger(maxGone int) *dropLedger {
	return &dropLedger{newLedger(socket.UDP, newScripted(), maxGone), time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)}
}

func (l *dropLedger) round(rows ...socket.Socket) {
	l.begin()
	for range goneAfter {
		l.absorb(rows, l.clock)
	}
	l.settle(l.clock, func(uint16, *listener, time.Duration) bool { return false })
}

// wantDrops checks the count of the listener on an address.
func (l *dropLedger) wantDrops(t *testing.T, address string, want uint64) {
	t.Helper()
	of := l.listeners[place{addr: netip.MustParseAddrPort(address)}]
	if of == nil || of.drops != want {
		t.Errorf("%s: %+v, want %d drops", address, of, want)
	}
}

func TestASocketThatListensAgainHasItsDropsCountedOnce(t *testing.T) {
	const address = "0.0.0.0:53"
	first := at("0.0.0.0:22", 1) // there at the start
	dns := func(drops uint32) socket.Socket { return dropping(at(address, 2), drops) }
	for _, test := range []struct {
		name  string
		story func(l *dropLedger)
		want  uint64
	}{
		{"born later", func(l *dropLedger) {
			l.round(first)
			l.round(first, dns(199))
			l.round(first)
			l.round(first, dns(199))
		}, 199},
		{"and drops on", func(l *dropLedger) {
			l.round(first)
			l.round(first, dns(199))
			l.round(first)
			l.round(first, dns(205))
		}, 205},
		{"again and again", func(l *dropLedger) {
			l.round(first)
			for n := range uint32(5) {
				l.round(first, dns(100+n))
				l.round(first)
				l.round(first)
			}
			l.round(first, dns(104))
		}, 104},
		{"there at the start", func(l *dropLedger) {
			l.round(first, dns(199))
			l.round(first)
			l.round(first, dns(201))
		}, 2},
		{"there at the start, and gone in that round", func(l *dropLedger) {
			l.begin()
			l.absorb([]socket.Socket{dns(199)}, l.clock)
			for range goneAfter + 1 {
				l.absorb(nil, l.clock)
			}
			l.begin() // the round failed on its way
			l.round()
			l.round(dns(202))
		}, 3},
		{"almost an hour later", func(l *dropLedger) {
			l.round(first)
			l.round(first, dns(199))
			l.round(first)
			l.clock = l.clock.Add(goneKept - time.Second)
			l.round(first, dns(200))
		}, 200},
		{"on another address", func(l *dropLedger) {
			l.round(first)
			l.round(first, dropping(at("127.0.0.1:53", 2), 199))
			l.round(first)
			l.round(first, dns(202))
		}, 3},
		{"another socket with its ID", func(l *dropLedger) {
			l.round(first)
			l.round(first, dns(199))
			l.round(first)
			l.round(first, dns(7))
		}, 206},
		{"sockets without an ID", func(l *dropLedger) {
			l.round(first)
			for range 3 {
				l.round(first, dropping(at(address, 0), 199))
				l.round(first)
			}
			l.round(first, dropping(at(address, 0), 199))
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newDropLedger(100)
			test.story(l)
			l.wantDrops(t, address, test.want)
			if _, parted := l.closed[2]; parted {
				t.Error("it is there, and remembered as gone")
			}
		})
	}
}

func TestASocketThatIsGoneIsForgottenInTheEnd(t *testing.T) {
	l := newDropLedger(100)
	l.round()
	l.round(dropping(at("0.0.0.0:53", 2), 199), at("0.0.0.0:54", 3))
	l.round()
	if len(l.closed) != 1 {
		t.Errorf("remembered: %v, want the one that has dropped", l.closed)
	}
	l.clock = l.clock.Add(goneKept)
	l.round()
	if len(l.closed) != 0 {
		t.Errorf("remembered after %s: %v, want none", goneKept, l.closed)
	}
}

func TestOnlySoManySocketsThatAreGoneAreRemembered(t *testing.T) {
	l := newDropLedger(10)
	l.round()
	for n := range uint64(50) {
		l.clock = l.clock.Add(time.Second)
		l.round(dropping(at(fmt.Sprintf("0.0.0.0:%d", 1+n), 1+n), 5))
		l.round()
		if want := min(int(n)+1, 10); len(l.closed) != want {
			t.Fatalf("%d are remembered after %d, want %d", len(l.closed), n+1, want)
		}
	}
	for id := range l.closed {
		if id <= 40 {
			t.Errorf("socket %d is remembered, and a later one is not", id)
		}
	}
}
