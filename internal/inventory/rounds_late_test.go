//go:build linux

package inventory

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// stop makes readings of a namespace wait until the result is closed.
func (p *pod) stop() (hold chan struct{}) {
	hold = make(chan struct{})
	p.host.set(func() { p.hold = hold })
	return hold
}

func TestANamespaceThatIsLateIsAFailureAndItsListenersAloneAreAbsent(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		good, slow := h.add(80), h.add(81)
		wantSeen(t, h.Snapshot(), unknown(good, 80), unknown(slow, 81))

		hold := slow.stop()
		for n := range 3 { // it is not late yet
			good.listen(socket.TCP, at(fmt.Sprintf("0.0.0.0:%d", 90+n), uint64(90+n)))
			start := time.Now()
			s := h.Snapshot()
			if took := time.Since(start); took > roundTime {
				t.Errorf("the snapshot took %s, want at most %s", took, roundTime)
			}
			wantSeen(t, s, unknown(good, 90+n), unknown(slow, 81))
			if s.NamespacesOmitted != 1 {
				t.Errorf("%d namespaces were not read, want 1", s.NamespacesOmitted)
			}
		}
		time.Sleep(minLate)
		for n := range 3 {
			good.listen(socket.TCP, at(fmt.Sprintf("0.0.0.0:%d", 95+n), uint64(95+n)))
			wantFailure(t, h.Snapshot(), []string{"network namespace " + called(slow) + ": still being read after 3s"}, unknown(good, 95+n))
			time.Sleep(time.Minute)
		}
		if got := strings.Count(h.log.String(), "level=error"); got != 1 || !strings.Contains(h.log.String(), called(slow)) {
			t.Errorf("%d errors were logged, want one that names the namespace:\n%s", got, &h.log)
		}
		synctest.Wait()
		if slow.count != 2 {
			t.Errorf("it was begun to read %d times, want 2", slow.count)
		}

		h.set(func() { slow.hold = nil })
		slow.listen(socket.TCP, at("0.0.0.0:82", 82))
		close(hold)
		synctest.Wait()
		wantSeen(t, h.Snapshot(), unknown(good, 97), unknown(slow, 82))
		if slow.count != 3 || slow.leaves != 3 {
			t.Errorf("it was read %d times, and left %d times, want 3: what it read before may be old", slow.count, slow.leaves)
		}
	})
}

func TestANamespaceMayTakeSeveralTimesAsLongAsTheLastTime(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		huge := h.add(80)
		h.Snapshot()
		h.set(func() { huge.takes = 4 * time.Second })
		h.Snapshot()
		time.Sleep(minLate + time.Millisecond)
		wantFailure(t, h.Snapshot(), []string{"still being read after 3s"})
		for range 100 { // each round begins to read it again as often as its cost allows
			time.Sleep(time.Second)
			h.Snapshot()
		}
		reads := huge.count
		for range 200 {
			time.Sleep(time.Second)
			wantSeen(t, h.Snapshot(), unknown(huge, 80))
		}
		if huge.count == reads {
			t.Error("it was not read again")
		}
	})
}

func TestManyNamespacesThatHangStopNeitherTheOthersNorTakeEndlessResources(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		good := h.add(80)
		h.Snapshot()
		var hung []*pod
		hold := make(chan struct{})
		for range 2 * maxReaders {
			p := h.add(81)
			p.hold = hold
			hung = append(hung, p)
		}
		begun := func() (n int) {
			h.set(func() {
				for _, p := range hung {
					n += p.count
				}
			})
			return n
		}
		var s *Snapshot
		for range 3 * maxReaders {
			s = h.Snapshot()
			time.Sleep(time.Second)
			if got := begun(); got > maxReaders {
				t.Fatalf("%d readings hang, want at most %d", got, maxReaders)
			}
		}
		good.listen(socket.TCP, at("0.0.0.0:90", 90))
		for range 2 {
			s = h.Snapshot()
		}
		wantFailure(t, s, []string{"still being read after 3s", "and 27 more"}, unknown(good, 90))
		if got := begun(); got != maxReaders || s.NamespacesNeverRead != 2*maxReaders {
			t.Errorf("%d readings hang, and %d namespaces were never read, want %d and %d", got, s.NamespacesNeverRead, maxReaders, 2*maxReaders)
		}

		// With so many, one more that was quick is a failure of all.
		h.set(func() { good.hold = hold })
		h.Snapshot()
		time.Sleep(minLate + time.Millisecond)
		wantFailure(t, h.Snapshot(), []string{fmt.Sprintf("network namespace %s and %d others: still being read after 3s", called(good), maxReaders)})

		close(hold)
		synctest.Wait()
		for range 3 {
			s = h.Snapshot()
		}
		if got, want := len(seen(s)), 1+2*maxReaders; got != want || !s.Succeeded(CollectorNetns) {
			t.Errorf("%d listeners, success %t, want %d", got, s.Succeeded(CollectorNetns), want)
		}
	})
}

func TestASearchForNamespacesThatHangsIsAFailureOfAll(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		p := h.add(80)
		wantSeen(t, h.Snapshot(), unknown(p, 80))
		h.set(func() { h.finding = time.Minute })
		wantSeen(t, h.Snapshot(), unknown(p, 80)) // from the last round
		time.Sleep(minLate)
		for range 3 {
			wantFailure(t, h.Snapshot(), []string{"find network namespaces: still being read after 3s"})
		}
		h.set(func() { h.finding = 0 })
		time.Sleep(time.Minute)
		p.listen(socket.TCP, at("0.0.0.0:81", 81))
		wantSeen(t, h.Snapshot(), unknown(p, 81))
		if got := strings.Count(h.log.String(), "level=error"); got != 1 {
			t.Errorf("%d errors were logged, want 1:\n%s", got, &h.log)
		}
	})
}

func TestTheFirstRoundEndsWithinTheTimeOfItsSnapshot(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		good, hung := h.add(80), h.add(81)
		hold := hung.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		s := h.Inventory.Snapshot(ctx)
		if took := time.Since(start); took >= 1500*time.Millisecond {
			t.Errorf("it took %s of 2s: holders and registry need time too", took)
		}
		wantSeen(t, s, unknown(good, 80))
		if s.NamespacesNeverRead != 1 {
			t.Errorf("%d namespaces were never read, want 1", s.NamespacesNeverRead)
		}
		close(hold)
	})
}

func TestAPanicIsAFailureOfItsNamespaceWithItsStackLoggedOnce(t *testing.T) {
	for _, when := range []string{"in_a_read", "after_it"} {
		t.Run(when, func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				good, bad := h.add(80), h.add(81)
				bad.panics = when == "in_a_read"
				panics := !bad.panics
				bad.found.Leave = func() {
					if panics {
						panic("index out of range")
					}
				}
				for range 3 {
					wantFailure(t, h.Snapshot(), []string{"network namespace " + called(bad), "panic: index out of range"}, unknown(good, 80))
				}
				if got := strings.Count(h.log.String(), "stack="); got != 1 || !strings.Contains(h.log.String(), "rounds_") {
					t.Errorf("%d stacks were logged, want that of the panic once:\n%s", got, &h.log)
				}
				panics, bad.panics = false, false
				for range 3 {
					wantSeen(t, h.Snapshot(), unknown(good, 80), unknown(bad, 81))
				}
			})
		})
	}
}
