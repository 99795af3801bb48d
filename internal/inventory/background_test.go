//go:build linux

package inventory

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// slowHolders finds holders as slowly as a test wants.
type slowHolders struct {
	hold     chan struct{} // if not nil, a search waits until it is closed
	panics   bool
	searches int
}

func (s *slowHolders) Find([]holder.Socket, bool) (changed bool, err error) {
	s.searches++
	if s.panics {
		panic("index out of range")
	}
	if s.hold != nil {
		<-s.hold
	}
	return s.searches == 1, nil
}

func (s *slowHolders) Holders(holder.Socket) []holder.Holder {
	return []holder.Holder{{Process: "sshd", Unit: "ssh.service"}}
}

func (s *slowHolders) Exact(holder.Socket) bool { return true }

func (*slowHolders) Processes(holder.Socket) []holder.Process { return nil }

// slowHost is an inventory of which each read can be held.
type slowHost struct {
	*Inventory
	tcp, udp *scripted
	holders  *slowHolders
	log      *strings.Builder
}

func newSlowHost(t *testing.T) *slowHost {
	h := &slowHost{tcp: newScripted(), udp: newScripted(), holders: new(slowHolders), log: new(strings.Builder)}
	h.tcp.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	h.udp.say(socket.UDP, has(at("0.0.0.0:53", 2)))
	file := filepath.Join(t.TempDir(), "ports.yml")
	err := os.WriteFile(file, []byte("services: [{name: ssh, port: 22}]\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if h.Inventory, err = newInventory(
		sources{main: socket.Sources{socket.TCP: h.tcp, socket.UDP: h.udp}, holders: h.holders, clock: readClock},
		Options{TCP: true, UDP: true, Holders: true, MaxPorts: 20_000, RegistryFiles: []string{file}}, log.NewLogfmtLogger(h.log), time.Now,
	); err != nil {
		t.Fatal(err)
	}
	return h
}

// within makes a snapshot that must be there in time.
func (h *slowHost) within(t *testing.T, budget time.Duration) *Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	defer cancel()
	start := time.Now()
	s := h.Snapshot(ctx)
	if took := time.Since(start); took > budget+4*leastWait {
		t.Errorf("a snapshot took %s, want %s at most", took, budget)
	}
	return s
}

// wantFailed checks which collectors failed, and that all say this.
func wantFailed(t *testing.T, s *Snapshot, text string, want ...string) {
	t.Helper()
	var failed []string
	for _, r := range s.Reads {
		if r.Err != nil {
			failed = append(failed, r.Collector)
			if !strings.Contains(r.Err.Error(), text) {
				t.Errorf("%s: %v, want %q in it", r.Collector, r.Err, text)
			}
		}
	}
	if !slices.Equal(failed, want) {
		t.Errorf("failed: %v, want %v", failed, want)
	}
}

// Anyone may ask for a scrape with a tiny timeout, and scrapes that overlap share one read.
func TestAnImpatientScrapeTakesNoAnswerFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHost(t)
		hold := make(chan struct{})
		h.tcp.hold = hold
		time.AfterFunc(time.Second, func() { close(hold) })
		go func() {
			// The first one gives up on the read before its time is over, the others when it is.
			h.within(t, 500*time.Millisecond)
			for range 10 {
				h.within(t, 50*time.Millisecond)
			}
		}()
		synctest.Wait()
		s := h.within(t, 5*time.Second)
		wantFailed(t, s, "")
		wantPorts(t, s, "tcp 0.0.0.0:22", "udp 0.0.0.0:53")
		synctest.Wait()
	})
}

func TestAReadThatHangsIsAFailedReadAndTheRestIsThere(t *testing.T) {
	const budget = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHost(t)
		hold := make(chan struct{})
		h.tcp.hold = hold
		for range 3 {
			s := h.within(t, budget)
			wantFailed(t, s, "still being read", TCP)
			wantPorts(t, s, "udp 0.0.0.0:53")
			if l := only(t, s); len(l.Holders) != 1 {
				t.Errorf("holders %v, want sshd", l.Holders)
			}
		}
		if got := strings.Count(h.log.String(), "cannot read listening tcp sockets"); got != 1 {
			t.Errorf("logged %d times:\n%s", got, h.log)
		}
		close(hold)
		synctest.Wait()
		for range 2 {
			s := h.within(t, budget)
			wantFailed(t, s, "")
			wantPorts(t, s, "tcp 0.0.0.0:22", "udp 0.0.0.0:53")
		}
		if !strings.Contains(h.log.String(), "can read listening tcp sockets again") {
			t.Errorf("the recovery is not logged:\n%s", h.log)
		}
	})
}

func TestTheFirstSnapshotAnswersInTimeAndALaterOneIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHost(t)
		hold := make(chan struct{})
		h.holders.hold = hold
		for range 2 {
			s := h.within(t, time.Second)
			wantFailed(t, s, "still being read", CollectorHolder)
			wantPorts(t, s, "tcp 0.0.0.0:22", "udp 0.0.0.0:53")
			for _, l := range s.Listeners {
				if len(l.Holders) > 0 || l.Exact || s.Unattributed != 0 {
					t.Errorf("holders %v (exact: %t), %d unattributed, want nothing", l.Holders, l.Exact, s.Unattributed)
				}
			}
		}
		close(hold)
		synctest.Wait()
		s := h.within(t, time.Second)
		wantFailed(t, s, "")
		for _, l := range s.Listeners {
			if len(l.Holders) != 1 || !l.Exact {
				t.Errorf("holders %v (exact: %t), want one, exact", l.Holders, l.Exact)
			}
		}
		if h.holders.searches != 2 {
			t.Errorf("%d searches, want the one that took long, and one more", h.holders.searches)
		}
	})
}

func TestAReaderWithLessTimeDoesNotWaitForAnothersRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHost(t)
		hold := make(chan struct{})
		h.tcp.hold, h.udp.hold = hold, hold
		patient := make(chan *Snapshot)
		go func() { patient <- h.within(t, time.Minute) }()
		synctest.Wait()
		wantFailed(t, h.within(t, time.Second), "still being read", TCP, UDP)
		close(hold)
		wantPorts(t, <-patient, "tcp 0.0.0.0:22", "udp 0.0.0.0:53")
	})
}

func TestAPanicIsAFailedReadWhoseStackIsLoggedOnce(t *testing.T) {
	for name, test := range map[string]struct {
		breaks func(h *slowHost)
		failed []string
	}{
		"tcp":    {func(h *slowHost) { h.tcp.say(socket.TCP, answer{panicked: true}) }, []string{TCP}},
		"holder": {func(h *slowHost) { h.holders.panics = true }, []string{CollectorHolder}},
		// A bug of the stages that read nothing.
		"joining": {func(h *slowHost) { h.selection.options = nil }, []string{TCP, UDP, CollectorHolder, CollectorRegistry}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSlowHost(t)
			test.breaks(h)
			for range 3 {
				wantFailed(t, h.within(t, time.Minute), "panic: ", test.failed...)
			}
			if got := strings.Count(h.log.String(), "stack="); got != 1 {
				t.Errorf("%d stacks logged, want 1:\n%s", got, h.log)
			}
			if !strings.Contains(h.log.String(), "internal/inventory") {
				t.Errorf("the stack does not name the place:\n%s", h.log)
			}
		})
	}
}

func TestAReadThatHangsForLongHoldsUpNoSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHost(t)
		hold := make(chan struct{})
		h.tcp.hold = hold
		h.within(t, 2*hungAfter)
		for range 3 {
			start := time.Now()
			wantFailed(t, h.within(t, time.Minute), "still being read", TCP)
			if took := time.Since(start); took > time.Second {
				t.Errorf("a snapshot waited %s for what hangs", took)
			}
		}
		close(hold)
		synctest.Wait()
		wantFailed(t, h.within(t, time.Minute), "")
	})
}

// Scrapes do not pay for what only people look at.
func TestOnlyWhoAsksForProcessesHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHost(t)
		if s := h.Snapshot(t.Context()); s.Processes != nil {
			t.Errorf("a snapshot has processes: %v", s.Processes)
		}
		// One that is under way still gets them.
		h.holders.hold = make(chan struct{})
		var scrape, page *Snapshot
		go func() { scrape = h.Snapshot(t.Context()) }()
		synctest.Wait()
		go func() { page = h.SnapshotWithProcesses(t.Context()) }()
		synctest.Wait()
		close(h.holders.hold)
		synctest.Wait()
		if scrape != page || page.Processes == nil {
			t.Errorf("two that overlap share a read: %t; it has processes: %t", scrape == page, page.Processes != nil)
		}
		if s := h.SnapshotWithProcesses(t.Context()); len(s.Processes) != 2 {
			t.Errorf("the processes of %d listeners, want 2", len(s.Processes))
		}
	})
}
