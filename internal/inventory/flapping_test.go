//go:build linux

package inventory

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// flapping returns the ports that flap, as short texts.
func flapping(s *Snapshot) []string {
	texts := []string{}
	for _, p := range s.Memory.Flapping {
		texts = append(texts, strings.TrimSpace(fmt.Sprintf("%s %d %s x%d %s", p.Proto, p.Port, p.Service, p.Openings, lastText(p.Last))))
	}
	return texts
}

func TestAPortFlapsFromItsFourthOpeningOn(t *testing.T) {
	for name, test := range map[string]struct {
		open, closed time.Duration
		first, last  int // the first opening at which it flaps, and for how many minutes after the last of 10
	}{
		"30 s / 30 s":    {30 * time.Second, 30 * time.Second, 4, 13},
		"100 s / 20 s":   {100 * time.Second, 20 * time.Second, 4, 11},
		"4 min / 30 s":   {4 * time.Minute, 30 * time.Second, 4, 6},
		"10 min / 1 min": {10 * time.Minute, time.Minute, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newRememberingBench(t, heldBy{}, at("0.0.0.0:22", 1))
			first := 0
			for n := range 10 {
				open := []socket.Socket{at("0.0.0.0:22", 1), at("0.0.0.0:8080", uint64(100+2*n)), at("[::]:8080", uint64(101+2*n))}
				b.holders.(heldBy)[uint64(100+2*n)] = Holder{Process: "java", Unit: "app.service"}
				if got := flapping(b.look(test.closed, open...)); len(got) > 0 && first == 0 {
					first = n + 1
					want(t, "flapping", got, "tcp 8080  x4 0.0.0.0+:: java app.service")
				}
				b.look(test.open, at("0.0.0.0:22", 1))
			}
			var saved []string
			for _, f := range b.Remembered().Flapping {
				saved = append(saved, fmt.Sprint(f.Proto, f.Port, f.Process, f.Unit))
			}
			if test.first > 0 {
				want(t, "saved", saved, fmt.Sprint(TCP, 8080, "java", "app.service"))
			}
			minutes := 0
			for len(flapping(b.look(time.Minute, at("0.0.0.0:22", 1)))) > 0 {
				minutes++
			}
			if first != test.first || minutes != test.last {
				t.Errorf("flaps from opening %d until %d minutes after the last, want %d, %d", first, minutes, test.first, test.last)
			}
		})
	}
}

func TestRestartsBetweenTwoLooksAreOpeningsAndClosings(t *testing.T) {
	b := newRememberingBench(t, nil, at("0.0.0.0:22", 1))
	var s *Snapshot
	for n := range 4 {
		s = b.look(5*time.Second, at("0.0.0.0:22", uint64(2+n)))
	}
	want(t, "flapping", flapping(s), "tcp 22  x4 0.0.0.0")
	if diff := cmp.Diff([]Changes{{TCP, 4, 4}, {UDP, 0, 0}}, s.Memory.Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	// Where reads take long, the old socket may be there for some looks after the new one came.
	b.source.onRead = func() { b.advance(4 * time.Second) }
	for range goneAfter {
		s = b.look(5*time.Second, at("0.0.0.0:22", 9))
	}
	if got := s.Memory.Changes[0]; got != (Changes{TCP, 5, 5}) {
		t.Errorf("after a restart that took long to be sure of: %+v", got)
	}
}

func TestClientsDoNotFlap(t *testing.T) {
	b := newBench(t, func(o *Options) { o.EphemeralMinAge = 0 })
	b.Snapshot()
	for n := range 10 {
		b.source.say(socket.UDP, has(at("0.0.0.0:40000", uint64(1+n))))
		b.Snapshot()
		b.source.say(socket.UDP, has())
		b.advance(5 * time.Second)
		want(t, "flapping", flapping(b.Snapshot()))
	}
}
