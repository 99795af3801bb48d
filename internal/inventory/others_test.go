package inventory

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// slack is what a snapshot may take on a busy machine. Without other namespaces it takes no time at all.
const slack = time.Second

func TestManyNamespacesAreReadInTurns(t *testing.T) {
	for _, count := range []int{1, 64, 65, 150, 300} {
		t.Run(strconv.Itoa(count), func(t *testing.T) {
			h := newHost(t)
			for range count {
				h.add(80)
			}
			whole := (count + perRound - 1) / perRound // rounds
			last := make([]int, count)                           // the round in which each was last read
			for round := 1; round <= 4*whole; round++ {
				before := make([]int, count)
				for n, p := range h.pods {
					before[n], _ = p.counts()
				}
				h.round()
				shared := h.rounds.result
				reads := 0
				for n, p := range h.pods {
					after, leaves := p.counts()
					reads += after - before[n]
					if leaves != after {
						t.Errorf("round %d: it was left %d times of %d", round, leaves, after)
					}
					if after > before[n] {
						last[n] = round
					}
					if after > before[n]+1 || round-last[n] >= whole && round >= whole {
						t.Errorf("round %d: namespace %d was read %d times, and last in round %d", round, n, after-before[n], last[n])
					}
				}
				want := &figures{reads: min(count, perRound), listeners: count, namespaces: count + 1}
				if round == 1 {
					want.reads = count
				}
				want.omitted = count - want.reads
				got := &figures{reads, len(shared.open), shared.namespaces, shared.omitted}
				if *want != *got || shared.read.Err != nil {
					t.Errorf("round %d: got %+v, error %v, want %+v", round, *got, shared.read.Err, *want)
				}
			}
			s := h.scrape()
			if len(s.Listeners) != count+1 || s.Namespaces != count+1 || s.NamespacesOmitted != max(0, count-perRound) {
				t.Errorf("%d listeners in %d namespaces, %d of them omitted", len(s.Listeners), s.Namespaces, s.NamespacesOmitted)
			}
		})
	}
}

// figures is what a round came to, as numbers.
type figures struct{ reads, listeners, namespaces, omitted int }

func TestWhatAFinderLeavesOutIsCounted(t *testing.T) {
	h := newHost(t)
	h.add(80)
	h.omitted = 5
	s := h.scrape()
	if s.Namespaces != 7 || s.NamespacesOmitted != 5 {
		t.Errorf("%d namespaces, %d omitted, want 7 and 5", s.Namespaces, s.NamespacesOmitted)
	}
}

func TestARoundEndsWhenItsTimeIsOver(t *testing.T) {
	h := newHost(t)
	for range 10 {
		h.add(80).takes = fairTime - time.Millisecond // five of them are too much
	}
	for round, omitted := range []int{0, 5, 5} { // the first one has more time
		h.round()
		if got := len(h.rounds.result.open); got != 10 || h.rounds.result.omitted != omitted {
			t.Errorf("after %d rounds %d listeners, %d namespaces omitted, want 10 and %d", round+1, got, h.rounds.result.omitted, omitted)
		}
	}
}

func TestTheFirstRoundEndsToo(t *testing.T) {
	h := newHost(t)
	for range 10 {
		h.add(80).takes = firstRoundTime/4 - time.Millisecond // five of them are too much
	}
	h.round()
	if got := len(h.rounds.result.open); got != 5 || h.rounds.result.omitted != 5 {
		t.Errorf("%d listeners, %d namespaces omitted, want 5 and 5", got, h.rounds.result.omitted)
	}
}

func TestNamespacesThatTakeLongToFindAreReadAllTheSame(t *testing.T) {
	h := newHost(t)
	h.finding = 3 * roundTime
	for range 70 {
		h.add(80)
	}
	h.round()
	h.round()
	if got := len(h.rounds.result.open); got != 70 {
		t.Errorf("%d listeners after two rounds, want 70", got)
	}
}

func TestTwoReadsOfATableMustDoForTheFirstReadingOfANamespace(t *testing.T) {
	h := newHost(t)
	p := h.add(80)
	h.scrape()
	if got := h.source.reads[socket.TCP]; got != goneAfter {
		t.Errorf("%d reads of the main namespace, want %d", got, goneAfter)
	}
	if p.tables != 2*2 { // of both protocols
		t.Errorf("%d tables were read, want 4", p.tables)
	}
	later := h.add(81)
	h.scrape()
	if later.tables != 2 {
		t.Errorf("%d tables were read of one that is new, want 2", later.tables)
	}
}

func TestACostlyNamespaceIsReadLessOftenThanOthers(t *testing.T) {
	h := newHost(t)
	costly, cheap := h.add(80), h.add(81)
	h.round()
	costly.takes = 10 * fairTime
	const rounds = 56
	for range rounds {
		h.round()
		if got := len(h.rounds.result.open); got != 2 {
			t.Fatalf("%d listeners, want 2 in each round", got)
		}
	}
	got, _ := costly.counts()
	others, _ := cheap.counts()
	if got < 6 || got > 8 || others < rounds-10 {
		t.Errorf("read %d times, and another one %d times, want about 7 and %d", got, others, rounds-5)
	}
	// Nobody waits for it longer than it is costly.
	costly.takes = 0
	for range 12 {
		h.round()
	}
	after, _ := costly.counts()
	h.round()
	if again, _ := costly.counts(); again != after+1 {
		t.Error("it is not read in each round though it has become cheap")
	}
}

func TestANamespaceThatDoesNotAnswerKeepsNoSnapshotWaiting(t *testing.T) {
	h := newHost(t)
	h.add(80)
	slow := h.add(81)
	before := h.scrape()
	wantError(t, before)
	wantSeen(t, before, unknown(h.pods[0])+" 80", unknown(slow)+" 81")

	hold := make(chan struct{})
	slow.mu.Lock()
	slow.hold = hold
	slow.mu.Unlock()
	for n := range 3 {
		reads := h.source.reads[socket.TCP]
		h.source.say(socket.TCP, has(at(fmt.Sprintf("0.0.0.0:%d", 22+n), uint64(22+n)), at("0.0.0.0:22", 1)))
		start := time.Now()
		s := h.Snapshot()
		if took := time.Since(start); took > roundTime+slack {
			t.Errorf("the snapshot took %s", took)
		}
		if h.source.reads[socket.TCP] == reads {
			t.Error("the main namespace was not read")
		}
		wantError(t, s)
		if got := seen(s); len(got) != 2 {
			t.Errorf("beside the main namespace there is %v, want what was there before", got)
		}
	}
	close(hold)
	h.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	slow.listen(socket.TCP, at("0.0.0.0:82", 82))
	for range 2 * goneAfter {
		h.scrape()
	}
	wantSeen(t, h.scrape(), unknown(h.pods[0])+" 80", unknown(slow)+" 82")
}

func TestASnapshotWaitsForTheFirstRoundIfThatIsLong(t *testing.T) {
	h := newHost(t)
	slow := h.add(80)
	slow.hold = make(chan struct{})
	time.AfterFunc(2*roundTime, func() { close(slow.hold) })
	s := h.Snapshot()
	wantError(t, s)
	wantSeen(t, s, unknown(slow)+" 80")
}

func TestUntilTheFirstRoundHasEndedReadingTheNamespacesHasFailed(t *testing.T) {
	t.Parallel() // with others that wait
	h := newHost(t)
	slow := h.add(80)
	slow.hold = make(chan struct{})
	start := time.Now()
	s := h.Snapshot()
	if took := time.Since(start); took > firstRoundTime+slack {
		t.Errorf("the snapshot took %s, want about %s", took, firstRoundTime)
	}
	wantError(t, s, "initial scan")
	wantSeen(t, s)
	if s.Namespaces != 1 {
		t.Errorf("%d namespaces, want the main one alone", s.Namespaces)
	}
	close(slow.hold)
	s = h.scrape()
	wantError(t, s)
	wantSeen(t, s, unknown(slow)+" 80")
}

func TestTheListenersOfANamespaceThatEndsGoAtOnce(t *testing.T) {
	h := newHost(t)
	a, b := h.add(80), h.add(81)
	b.listen(socket.TCP, at("0.0.0.0:81", 81), at("0.0.0.0:82", 82))
	b.listen(socket.UDP, at("0.0.0.0:53", 53))
	wantSeen(t, h.scrape(), unknown(a)+" 80", unknown(b)+" 81", unknown(b)+" 82", unknown(b)+" 53")
	h.remove(b)
	s := h.scrape()
	wantError(t, s)
	wantSeen(t, s, unknown(a)+" 80")
	if s.Namespaces != 2 || len(s.Gone) != 0 {
		t.Errorf("%d namespaces, and %v is kept, want 2 and nothing", s.Namespaces, s.Gone)
	}
	h.remove(a)
	s = h.scrape()
	wantError(t, s)
	wantSeen(t, s)
}

func TestAReadThatFailsTakesItsOwnProtocolOfItsOwnNamespaceOnly(t *testing.T) {
	h := newHost(t)
	good, bad := h.add(80), h.add(81)
	bad.listen(socket.UDP, at("0.0.0.0:53", 53))
	h.scrape()
	for range 2 {
		bad.fail(socket.TCP, errors.New("permission denied"))
		for range 3 {
			s := h.scrape()
			wantError(t, s, unknown(bad), "permission denied")
			wantSeen(t, s, unknown(good)+" 80", unknown(bad)+" 53")
		}
		bad.fail(socket.TCP, nil)
		for range 2 {
			s := h.scrape()
			wantError(t, s)
			wantSeen(t, s, unknown(good)+" 80", unknown(bad)+" 81", unknown(bad)+" 53")
		}
	}
	if got := strings.Count(h.log.String(), "level=error"); got != 2 {
		t.Errorf("%d errors logged, want one each time it begins:\n%s", got, &h.log)
	}
}

func TestAFailureIsToldUntilTheNamespaceIsReadAgain(t *testing.T) {
	h := newHost(t)
	bad := h.add(80)
	for range 2*perRound - 1 {
		h.add(81)
	}
	bad.fail(socket.TCP, errors.New("permission denied"))
	h.round() // reads one half, and then the other
	h.round()
	bad.fail(socket.TCP, nil)
	reads, _ := bad.counts()
	for range 2 {
		now, _ := bad.counts()
		if err := h.rounds.result.read.Err; (err != nil) != (now == reads) {
			t.Errorf("error %v, and it was read %d times since", err, now-reads)
		}
		h.round()
	}
	if err := h.rounds.result.read.Err; err != nil || len(h.rounds.result.open) != 2*perRound {
		t.Errorf("error %v, %d listeners, want none and %d", err, len(h.rounds.result.open), 2*perRound)
	}
}

func TestANamespaceThatEndsWhileItIsReadIsNoError(t *testing.T) {
	h := newHost(t)
	good, bad := h.add(80), h.add(81)
	h.scrape()
	bad.fail(socket.TCP, errors.New("no such process"))
	bad.fail(socket.UDP, errors.New("no such process"))
	bad.mu.Lock()
	bad.dead = true
	bad.mu.Unlock()
	for range 2 {
		s := h.scrape()
		wantError(t, s)
		wantSeen(t, s, unknown(good)+" 80")
	}
	h.remove(bad)
	wantError(t, h.scrape())
	if strings.Contains(h.log.String(), "level=error") {
		t.Errorf("an error was logged:\n%s", &h.log)
	}
}

func TestWhereTheNamespacesCannotBeFoundNoneOfTheirListenersIsThere(t *testing.T) {
	h := newHost(t)
	a, b := h.add(80), h.add(81)
	for name, test := range map[string]struct {
		breaks func(broken bool)
		want   string
	}{
		"error": {func(broken bool) {
			h.err = nil
			if broken {
				h.err = errors.New("find network namespaces: permission denied")
			}
		}, "permission denied"},
		"panic": {func(broken bool) { h.panics = broken }, "panic: index out of range"},
		"panic_of_a_namespace": {func(broken bool) {
			a.panics = ""
			if broken {
				a.panics = "PortRanges"
			}
		}, "panic: index out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			wantSeen(t, h.scrape(), unknown(a)+" 80", unknown(b)+" 81")
			test.breaks(true)
			for range 2 {
				s := h.scrape()
				wantError(t, s, test.want)
				wantSeen(t, s)
			}
			test.breaks(false)
			for range 2 {
				s := h.scrape()
				wantError(t, s)
				wantSeen(t, s, unknown(a)+" 80", unknown(b)+" 81")
			}
		})
	}
}

func TestAPanicInANamespacesReadIsItsFailure(t *testing.T) {
	h := newHost(t)
	good, bad := h.add(80), h.add(81)
	h.scrape()
	bad.panics = "Read"
	for range 2 {
		s := h.scrape()
		wantError(t, s, unknown(bad), "panic")
		wantSeen(t, s, unknown(good)+" 80")
	}
	bad.panics = ""
	s := h.scrape()
	wantError(t, s)
	wantSeen(t, s, unknown(good)+" 80", unknown(bad)+" 81")
	if reads, leaves := bad.counts(); reads != leaves {
		t.Errorf("it was left %d times of %d", leaves, reads)
	}
}
