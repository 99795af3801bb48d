//go:build linux

package inventory

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

func TestManyNamespacesAreReadInTurns(t *testing.T) {
	for _, count := range []int{1, 64, 65, 150, 300} {
		t.Run(strconv.Itoa(count), func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				for range count {
					h.add(80)
				}
				h.omitted = 5
				whole := (count + perRound - 1) / perRound // rounds
				last := make(map[*pod]int)                 // the round that last read each
				for round := 1; round <= 4*whole; round++ {
					s, reads := h.round()
					wantReads := min(count, perRound)
					if round == 1 {
						wantReads = count
					}
					if len(reads) != wantReads {
						t.Errorf("round %d: %d namespaces read, want %d", round, len(reads), wantReads)
					}
					for n, p := range h.pods {
						if reads[p] > 0 {
							last[p] = round
						}
						if reads[p] > 1 || round-last[p] >= whole && round >= whole {
							t.Errorf("round %d: namespace %d was read %d times, and last in round %d", round, n, reads[p], last[p])
						}
						if p.leaves != p.count {
							t.Errorf("round %d: namespace %d was left %d times of %d", round, n, p.leaves, p.count)
						}
					}
					if len(s.Listeners) != count+1 || s.Namespaces != count+1+5 || s.NamespacesOmitted != count-wantReads || s.NamespacesNeverRead != 5 {
						t.Errorf("round %d: %d listeners in %d namespaces, %d omitted and %d never read",
							round, len(s.Listeners), s.Namespaces, s.NamespacesOmitted, s.NamespacesNeverRead)
					}
				}
			})
		})
	}
}

func TestNewNamespacesDoNotKeepOldOnesWaiting(t *testing.T) {
	const old = 100
	for _, lives := range []int{1, 2, 8} { // rounds, of each new one
		t.Run(strconv.Itoa(lives), func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				for range old {
					h.add(80)
				}
				h.round()
				last := make(map[*pod]int) // the round that last read each
				most := (old+lives*perRound)/perRound + 1
				newRead := 0
				for round := 1; round <= 6*most; round++ {
					for range perRound {
						h.add(81)
					}
					for len(h.pods) > old+lives*perRound {
						newRead += h.pods[old].count
						h.remove(h.pods[old])
					}
					_, reads := h.round()
					for n, p := range h.pods[:old] {
						if reads[p] > 0 {
							last[p] = round
						}
						if round-last[p] > most {
							t.Fatalf("round %d: namespace %d was last read in round %d", round, n, last[p])
						}
					}
				}
				if newRead == 0 && lives > 1 { // those that live for one round may end before it is their turn
					t.Error("no new namespace was read")
				}
			})
		})
	}
}

func TestARoundEndsWhenItsTimeIsOver(t *testing.T) {
	for name, test := range map[string]struct {
		takes, finding time.Duration
		pods           int
		wantReads      []int // in each round
		listeners      int   // after them
	}{
		"later_rounds": {takes: fairTime - time.Millisecond, pods: 10, wantReads: []int{10, 5, 5}, listeners: 10},
		// A round does not wait for a slow one to read the others.
		"the_first_round": {takes: firstRoundTime/4 - time.Millisecond, pods: 10, wantReads: []int{10, 0, 0}, listeners: 10},
		// Finding the namespaces takes none of the time to read them.
		"slow_finder": {finding: 3 * roundTime, pods: 70, wantReads: []int{70, 64, 64}, listeners: 70},
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				h.finding = test.finding
				for range test.pods {
					h.add(80).takes = test.takes
				}
				for round, want := range test.wantReads {
					if _, reads := h.round(); len(reads) != want {
						t.Errorf("round %d read %d namespaces, want %d", round+1, len(reads), want)
					}
				}
				omitted := test.pods - test.wantReads[len(test.wantReads)-1]
				if s := h.Snapshot(); len(seen(s)) != test.listeners || s.NamespacesOmitted != omitted {
					t.Errorf("%d listeners, %d namespaces omitted, want %d and %d", len(seen(s)), s.NamespacesOmitted, test.listeners, omitted)
				}
			})
		})
	}
}

func TestACostlyNamespaceIsReadLessOftenThanOthers(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		costly, cheap := h.add(80), h.add(81)
		h.round()
		costly.takes = 10 * fairTime
		const rounds = 56
		for range rounds {
			if s, _ := h.round(); len(seen(s)) != 2 {
				t.Fatalf("listeners %v, want two in each round", seen(s))
			}
		}
		if costly.count < 6 || costly.count > 8 || cheap.count < rounds-10 {
			t.Errorf("read %d times, and another one %d times, want about 7 and %d", costly.count, cheap.count, rounds-5)
		}
		costly.takes = 0
		for range 12 {
			h.round()
		}
		if _, reads := h.round(); reads[costly] != 1 {
			t.Error("it is not read in each round though it has become cheap")
		}
	})
}

func TestASnapshotWaitsForTheFirstRoundButNotForEver(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		slow := h.add(80)
		slow.takes = firstRoundTime * 9 / 10
		h.add(81)
		wantSeen(t, h.Snapshot(), unknown(slow, 80), unknown(h.pods[1], 81))
	})
	withHost(t, func(t *testing.T, h *host) {
		slow, good := h.add(80), h.add(81)
		slow.takes = 2 * firstRoundTime
		start := time.Now()
		s := h.Snapshot()
		if took := time.Since(start); took > firstRoundTime {
			t.Errorf("the snapshot took %s, want %s", took, firstRoundTime)
		}
		wantFailure(t, s, []string{"network namespace " + called(slow) + ": still being read after 3s"}, unknown(good, 81))
		if s.Namespaces != 3 || s.NamespacesNeverRead != 1 || s.NamespacesOmitted != 0 {
			t.Errorf("of %d namespaces %d were never read and %d not this time, want 3, 1 and 0", s.Namespaces, s.NamespacesNeverRead, s.NamespacesOmitted)
		}
	})
}

func TestTheListenersOfANamespaceThatEndsGoAtOnce(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		a, b := h.add(80), h.add(81, 82)
		b.listen(socket.UDP, at("0.0.0.0:53", 53))
		wantSeen(t, h.Snapshot(), unknown(a, 80), unknown(b, 81), unknown(b, 82), unknown(b, 53))
		h.remove(b)
		s := h.Snapshot()
		wantSeen(t, s, unknown(a, 80))
		if s.Namespaces != 2 || len(s.Gone) != 0 {
			t.Errorf("%d namespaces, and %v is kept, want 2 and nothing", s.Namespaces, s.Gone)
		}
		h.remove(a)
		wantSeen(t, h.Snapshot())
	})
}

func TestAReadThatFailsTakesItsOwnProtocolOfItsOwnNamespaceOnly(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		good, bad := h.add(80), h.add(81)
		bad.listen(socket.UDP, at("0.0.0.0:53", 53))
		all := []string{unknown(good, 80), unknown(bad, 81), unknown(bad, 53)}
		wantSeen(t, h.Snapshot(), all...)
		for range 2 {
			bad.fail(socket.TCP, errors.New("permission denied"))
			for range 3 {
				wantFailure(t, h.Snapshot(), []string{"unknown-4026532002", "permission denied"}, unknown(good, 80), unknown(bad, 53))
			}
			bad.fail(socket.TCP, nil)
			for range 2 {
				wantSeen(t, h.Snapshot(), all...)
			}
		}
		if got := strings.Count(h.log.String(), "level=error"); got != 2 {
			t.Errorf("%d errors logged, want one each time it begins:\n%s", got, &h.log)
		}
		bad.say(socket.TCP, answer{panicked: true})
		wantFailure(t, h.Snapshot(), []string{"unknown-4026532002", "panic: index out of range"}, unknown(good, 80), unknown(bad, 53))
		bad.fail(socket.TCP, nil)
		wantSeen(t, h.Snapshot(), all...)
	})
}

func TestAFailureIsReportedUntilTheNamespaceIsReadAgain(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		bad := h.add(80)
		for range 2*perRound - 1 {
			h.add(81)
		}
		bad.fail(socket.TCP, errors.New("permission denied"))
		h.Snapshot() // reads all
		h.Snapshot() // reads the first half, as the second of the next two does
		bad.fail(socket.TCP, nil)
		for range 2 {
			reads := bad.count
			s := h.Snapshot()
			if again := bad.count > reads; s.Succeeded(CollectorNetns) != again {
				t.Errorf("success %t, and it was read again: %t", s.Succeeded(CollectorNetns), again)
			}
		}
		if got := len(seen(h.Snapshot())); got != 2*perRound {
			t.Errorf("%d listeners, want %d", got, 2*perRound)
		}
	})
}

func TestANamespaceThatEndsWhileItIsReadIsNoError(t *testing.T) {
	withHost(t, func(t *testing.T, h *host) {
		good, bad := h.add(80), h.add(81)
		h.Snapshot()
		bad.fail(socket.TCP, errors.New("no such process"))
		bad.fail(socket.UDP, errors.New("no such process"))
		bad.dead = true
		for range 2 {
			wantSeen(t, h.Snapshot(), unknown(good, 80))
		}
		h.remove(bad)
		wantSeen(t, h.Snapshot(), unknown(good, 80))
		if strings.Contains(h.log.String(), "level=error") {
			t.Errorf("an error was logged:\n%s", &h.log)
		}
	})
}

func TestIfTheNamespacesCannotBeFoundNoneOfTheirListenersIsReported(t *testing.T) {
	for name, test := range map[string]struct {
		breaks, mends func(h *host)
		want          string
	}{
		"error": {
			func(h *host) { h.err = errors.New("find network namespaces: permission denied") }, func(h *host) { h.err = nil }, "permission denied",
		},
		"panic": {func(h *host) { h.panics = true }, func(h *host) { h.panics = false }, "panic: index out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			withHost(t, func(t *testing.T, h *host) {
				a, b := h.add(80), h.add(81)
				wantSeen(t, h.Snapshot(), unknown(a, 80), unknown(b, 81))
				test.breaks(h)
				for range 2 {
					wantFailure(t, h.Snapshot(), []string{test.want})
				}
				test.mends(h)
				for range 2 {
					wantSeen(t, h.Snapshot(), unknown(a, 80), unknown(b, 81))
				}
			})
		})
	}
}
