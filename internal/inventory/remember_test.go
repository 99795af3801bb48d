//go:build linux

package inventory

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// heldBy says who holds each socket, by its ID. Others have no known holder.
type heldBy map[uint64]Holder

func (heldBy) Find([]holder.Socket, bool) (changed bool, err error) { return true, nil }

func (h heldBy) Holders(s holder.Socket) []holder.Holder {
	if of, known := h[s.ID]; known {
		return []holder.Holder{of}
	}
	return nil
}

func (heldBy) Exact(holder.Socket) bool { return true }

func (heldBy) Processes(holder.Socket) []holder.Process { return nil }

// newRememberingBench returns a bench that has just looked for the first time, with these TCP sockets.
func newRememberingBench(t *testing.T, h heldBy, open ...socket.Socket) *bench {
	t.Helper()
	b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), holders: h}
	b.openRemembering(t)
	b.source.say(socket.TCP, has(open...))
	b.Snapshot()
	return b
}

func (b *bench) openRemembering(t *testing.T, edit ...func(*Options)) {
	t.Helper()
	b.open(t, nil, b.now, append([]func(*Options){func(o *Options) {
		o.Holders, o.SettledAfter, o.Remember = b.holders != nil, time.Hour, 24*time.Hour
	}}, edit...))
}

// look looks after some time at TCP sockets.
func (b *bench) look(after time.Duration, open ...socket.Socket) *Snapshot {
	b.advance(after)
	b.source.say(socket.TCP, has(open...))
	return b.Snapshot()
}

// gone returns the ports of a snapshot that are gone, as short texts: since when, where they were and who held them.
func gone(s *Snapshot) []string {
	texts := []string{}
	for _, p := range s.Memory.Gone {
		texts = append(texts, fmt.Sprintf("%s %d %s %s", p.Proto, p.Port, p.Since.UTC().Format(time.TimeOnly), lastText(p.Last)))
	}
	return texts
}

func lastText(l Last) string {
	return strings.Join([]string{strings.Join(l.Addresses, "+"), strings.Join(l.Processes, "+"), strings.Join(l.Units, "+")}, " ")
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestAStepOfTheWallClockShiftsWhatIsRemembered(t *testing.T) {
	ssh, web, late := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2), at("0.0.0.0:81", 3)
	b := newRememberingBench(t, nil, ssh, web)
	b.look(2*time.Hour, ssh, web, late)
	before := b.look(time.Minute, ssh, late)
	age := func(s *Snapshot) string {
		return fmt.Sprint(s.Time.Sub(s.Memory.Gone[0].Since), s.Time.Sub(s.Listeners[1].FirstSeen))
	}
	if got := age(before); got != "0s 1m0s" {
		t.Errorf("ages %s", got)
	}
	b.set = 500 * time.Millisecond // NTP slews the clock
	if b.Snapshot().Memory != before.Memory {
		t.Error("timestamps follow each change of the clock")
	}
	for _, step := range []time.Duration{-400 * 24 * time.Hour, time.Hour, 900 * time.Millisecond, 1800 * time.Millisecond} {
		b.set = step
		s := b.Snapshot()
		if got := s.Time.Sub(s.Memory.Gone[0].Since).Round(time.Second); got > time.Second {
			t.Errorf("after a step to %s the port has been gone for %s", step, got)
		}
		if got := s.Time.Sub(s.Listeners[1].FirstSeen); got < 59*time.Second || got > 61*time.Second {
			t.Errorf("after a step to %s the listener has been seen for %s", step, got)
		}
	}
}

func TestWhatIsRememberedIsTheSameMemoryWhileNothingChanges(t *testing.T) {
	b := newRememberingBench(t, nil, at("0.0.0.0:22", 1))
	first, saved := b.Snapshot().Memory, b.Remembered()
	for range 3 {
		b.advance(10 * time.Minute)
		if b.Snapshot().Memory != first || b.Remembered() != saved {
			t.Error("nothing happened, but the memory is another one")
		}
	}
	if b.look(time.Second, at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)).Memory == first || b.Remembered() == saved {
		t.Error("a port opened, but the memory is the same")
	}
}

func TestAQueueThatStaysFullIsNoNews(t *testing.T) {
	b, _ := newJudgedBench(t, "services: [{name: web, port: 80}]\n")
	b.source.detailed = true
	for range 5 {
		b.look(5*time.Second, queued(129, 128))
	}
	b.source.say(socket.TCP, unchanged(queued(129, 128)))
	b.source.say(socket.UDP, unchanged())
	first, saved := b.Snapshot(), b.Remembered()
	for range 3 {
		b.advance(5 * time.Second)
		if s := b.Snapshot(); s.Memory != first.Memory || &s.Listeners[0] != &first.Listeners[0] || b.Remembered() != saved {
			t.Error("nothing happened, but what is known is other memory")
		}
	}
}

func TestWhatIsRememberedIsBoundedAndSharedBetweenUsers(t *testing.T) {
	b, _ := newJudgedBench(t, "services: [{name: ssh, port: 22}]\n")
	b.source.detailed = true
	owned := func(port, id int, user uint32) socket.Socket {
		s := at(fmt.Sprintf("0.0.0.0:%d", port), uint64(id))
		s.UID, s.Queue, s.QueueLimit = user, 2, 1
		return s
	}
	var s *Snapshot
	for look := range 10 {
		var open []socket.Socket
		if look%2 == 0 {
			for n := range 9000 {
				open = append(open, owned(1000+n, 1+n+look*20_000, 1000))
			}
			open = append(open, owned(50_000, 15_000+look*20_000, 2000))
		}
		s = b.look(20*time.Second, open...)
	}
	shown := func(what string, count int, others bool) {
		if count > maxRemembered || count < maxRemembered-1 || !others {
			t.Errorf("%s: %d, the other user's: %t", what, count, others)
		}
	}
	shown("flapping", len(s.Memory.Flapping), slices.ContainsFunc(s.Memory.Flapping, func(p FlappingPort) bool { return p.Port == 50_000 }))
	for range 4 {
		var open []socket.Socket
		for n := range 9000 {
			open = append(open, owned(1000+n, 1+n+200_000, 1000))
		}
		s = b.look(20*time.Second, append(open, owned(50_000, 300_000, 2000))...)
	}
	violations, full := 0, 0
	otherViolates, otherFull := false, false
	for _, l := range s.Listeners {
		other := l.Addr.Port() == 50_000
		if !startsOf(l).Violation.IsZero() {
			violations++
			otherViolates = otherViolates || other
		}
		if !startsOf(l).Full.IsZero() {
			full++
			otherFull = otherFull || other
		}
	}
	shown("violations", violations, otherViolates)
	shown("full", full, otherFull)

	b = newBench(t, func(o *Options) { o.Remember = time.Hour })
	var open []socket.Socket
	for n := range 3000 {
		open = append(open, owned(1000+n, 1+n, 1000))
	}
	b.look(0, append(open, owned(22, 5000, 2000))...)
	s = b.look(time.Second)
	shown("gone", len(s.Memory.Gone), slices.ContainsFunc(s.Memory.Gone, func(p GonePort) bool { return p.Port == 22 }))
}
