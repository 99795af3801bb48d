//go:build linux

package lease_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// shaky is a store in memory that fails, hangs or is slow, as a test has it.
type shaky struct {
	clock func() time.Duration

	mu     sync.Mutex
	leases []lease.Lease
	away   error
	// unwritable keeps leases from being marked as overstayed, and from nothing else.
	unwritable error
	hangs      chan struct{} // until it is closed
	others     []uint16      // ports that another host takes as soon as somebody else wants them
}

func inShakyWorld(t *testing.T, output *bytes.Buffer, test func(t *testing.T, w *world, s *shaky)) {
	t.Helper()
	s := new(shaky)
	inWorldOf(t, func(o *lease.Options) {
		s.clock, o.Store = o.Clock, s
		if output != nil {
			o.Logger = log.NewLogfmtLogger(output)
		}
	}, func(t *testing.T, w *world) { test(t, w, s) })
}

func (s *shaky) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *shaky) do(ctx context.Context, do func() error) error {
	s.mu.Lock()
	hangs := s.hangs
	s.mu.Unlock()
	if hangs != nil {
		select {
		case <-hangs:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", lease.ErrAway, ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return s.away
	}
	return do()
}

func (s *shaky) Take(ctx context.Context, l lease.Lease) (lease.Lease, error) {
	err := s.do(ctx, func() error {
		for _, port := range l.Ports {
			for i, other := range s.others {
				if port == other {
					by := lease.Lease{ID: fmt.Sprintf("%032x", port), Team: "ci", Name: "theirs", Proto: "tcp", Ports: []uint16{port}, User: "eve", Host: "there"}
					s.others = append(s.others[:i:i], s.others[i+1:]...)
					return &lease.TakenError{Port: port, By: by} // which the cache does not have yet
				}
			}
		}
		l.Deadline = s.clock() + l.TTL
		s.leases = append(slices.Clip(s.leases), l)
		return nil
	})
	return l, err
}

func (s *shaky) change(ctx context.Context, id string, change func(*lease.Lease) bool) (l lease.Lease, err error) {
	err = s.do(ctx, func() error {
		var next []lease.Lease
		err := lease.ErrNoLease
		for _, of := range s.leases {
			keep := true
			if of.ID == id {
				keep, err = change(&of), nil
				l = of
			}
			if keep {
				next = append(next, of)
			}
		}
		s.leases = next
		return err
	})
	return l, err
}

func (s *shaky) Renew(ctx context.Context, id string) (lease.Lease, error) {
	return s.change(ctx, id, func(l *lease.Lease) bool { l.Deadline, l.Overstayed = s.clock()+l.TTL, 0; return true })
}

func (s *shaky) Overstay(ctx context.Context, id string) error {
	if err := s.Unwritable(); err != nil {
		return err
	}
	_, err := s.change(ctx, id, func(l *lease.Lease) bool { l.Overstayed = s.clock(); return true })
	return err
}

func (s *shaky) Remove(ctx context.Context, id string) error {
	_, err := s.change(ctx, id, func(*lease.Lease) bool { return false })
	if errors.Is(err, lease.ErrNoLease) {
		return nil
	}
	return err
}

func (s *shaky) Leases() ([]lease.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases, s.away
}

func (s *shaky) Unwritable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unwritable
}

func (s *shaky) Close() error { return nil }

// TestWhileTheStoreIsAwayWhatIsHeldStays: nobody could renew it.
func TestWhileTheStoreIsAwayWhatIsHeldStays(t *testing.T) {
	var output bytes.Buffer
	inShakyWorld(t, &output, func(t *testing.T, w *world, s *shaky) {
		held := w.take(lease.Request{UID: alice, TTL: time.Minute})
		over := w.take(lease.Request{UID: alice, TTL: time.Second})
		time.Sleep(2 * time.Second)
		w.look(over.Ports[0])
		away := fmt.Errorf("%w: no route to host", lease.ErrAway)
		s.set(func() { s.away = away })
		version := w.View().Version
		time.Sleep(time.Hour)
		for range 3 {
			w.look(held.Ports[0])
		}
		v := w.View()
		if _, ok := v.Of("tcp", held.Ports[0]); !ok || !errors.Is(v.Err, lease.ErrAway) || v.Version != version {
			t.Errorf("%+v", v)
		}
		if _, ok := v.Of("tcp", over.Ports[0]); ok {
			t.Error("what was overstayed is alive again")
		}
		if _, _, err := w.Take(t.Context(), lease.Request{UID: alice}); !errors.Is(err, lease.ErrAway) {
			t.Errorf("Take: %v", err)
		}
		if _, _, err := w.Take(t.Context(), lease.Request{UID: alice, Count: 9}); !errors.Is(err, lease.ErrAway) {
			t.Errorf("Take of more than is left: %v", err)
		}
		for _, id := range []string{held.ID, strings.Repeat("0", 32)} {
			if _, err := w.Renew(t.Context(), id, alice); !errors.Is(err, lease.ErrAway) {
				t.Errorf("Renew: %v", err)
			}
		}
		s.set(func() { s.away = nil })
		if _, ok := w.View().Of("tcp", held.Ports[0]); ok {
			t.Error("alive though its store is back and it has expired")
		}
		w.look(held.Ports[0])
		w.wantState(held.ID, "overstayed")
		w.wantState(over.ID, "gone")
	})
	want := []string{
		`level=error msg="no lease is given: the store of leases fails" err="the store of leases cannot be reached: no route to host"`,
		`level=info msg="the store of leases works again"`,
	}
	var got []string
	for line := range strings.Lines(output.String()) {
		if !strings.HasPrefix(line, "level=debug") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAStoreThatTakesNoLeasesIsReported, though it can be read: what is held is renewed and ends, also next to what cannot be marked as
// overstayed.
func TestAStoreThatTakesNoLeasesIsReported(t *testing.T) {
	var output bytes.Buffer
	inShakyWorld(t, &output, func(t *testing.T, w *world, s *shaky) {
		over := w.take(lease.Request{UID: alice, TTL: time.Minute})
		l := w.take(lease.Request{UID: alice, TTL: time.Minute})
		full := fmt.Errorf("%w: no space", lease.ErrAway)
		s.set(func() { s.unwritable = full })
		if v := w.look(l.Ports[0]); !errors.Is(v.Unwritable, full) || v.Err != nil {
			t.Errorf("%+v", v)
		}
		time.Sleep(time.Hour)
		if _, alive := w.look(over.Ports[0]).Of("tcp", l.Ports[0]); alive {
			t.Error("a lease that could be renewed is alive beyond its time")
		}
		w.look(over.Ports[0])
		w.wantState(l.ID, "gone")
		w.wantState(over.ID, "expired")
		s.set(func() { s.unwritable = nil })
		if v := w.look(over.Ports[0]); v.Unwritable != nil {
			t.Errorf("%+v", v)
		}
		w.wantState(over.ID, "overstayed")
	})
	if got := output.String(); strings.Count(got, "level=error") != 1 || strings.Count(got, "works again") != 1 || !strings.Contains(got, "no space") {
		t.Errorf("the log has\n%s", got)
	}
}

// TestAStoreThatHangsHoldsUpNoScrape: only who waits for it.
func TestAStoreThatHangsHoldsUpNoScrape(t *testing.T) {
	inShakyWorld(t, nil, func(t *testing.T, w *world, s *shaky) {
		l := w.take(lease.Request{UID: alice, TTL: time.Minute})
		s.set(func() { s.hangs = make(chan struct{}) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := make(chan error, 2)
		go func() { _, _, err := w.Take(ctx, lease.Request{UID: bob}); done <- err }()
		go func() { _, err := w.Renew(ctx, l.ID, alice); done <- err }()
		time.Sleep(2 * time.Minute)
		began := time.Now()
		w.look(l.Ports[0]) // and Run hangs as well
		if v := w.View(); len(v.Leases) != 1 || time.Since(began) != 0 {
			t.Errorf("%d leases after %s", len(v.Leases), time.Since(began))
		}
		// Others are chosen ports, but not the one that is being given.
		for range 9 {
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, _, err := w.Take(short, lease.Request{UID: bob, Count: 8}); !errors.Is(err, lease.ErrAway) {
				t.Errorf("Take: %v", err)
			}
			cancel()
		}
		if e := w.exhausted(lease.Request{UID: bob, Count: 9}); e.Left != 8 {
			t.Errorf("%d left, want 8", e.Left)
		}
		close(s.hangs)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		w.wantState(l.ID, "held") // the renewal came before the sweep, which looks again
	})
}

// TestAPortThatAnotherHostTookIsNotAskedForTwice: what this host knows of the others' leases may be old.
func TestAPortThatAnotherHostTookIsNotAskedForTwice(t *testing.T) {
	inShakyWorld(t, nil, func(t *testing.T, w *world, s *shaky) {
		w.only(4)
		s.others = []uint16{firstPort, firstPort + 2, firstPort + 3}
		if l := w.take(lease.Request{UID: alice, Count: 1}); l.Ports[0] != firstPort+1 && len(s.others) == 0 {
			t.Errorf("%+v", l)
		}
		s.others = []uint16{firstPort, firstPort + 1, firstPort + 2, firstPort + 3}
		e := w.exhausted(lease.Request{UID: alice, Count: 3})
		theirs := 0
		for _, h := range e.Holders {
			if h.Host == "there" && h.User == "eve" && h.Expires == 0 {
				theirs++
			}
		}
		if theirs == 0 || theirs != 4-1-e.Left {
			t.Errorf("%+v", e)
		}
	})
}

// TestTheLeasesOfOtherHostsAreShownButNotOfThisOne.
func TestTheLeasesOfOtherHostsAreShownButNotOfThisOne(t *testing.T) {
	inShakyWorld(t, nil, func(t *testing.T, w *world, s *shaky) {
		theirs := lease.Lease{ID: strings.Repeat("f", 32), Team: "ci", Name: "theirs", Proto: "tcp", Ports: []uint16{firstPort}, UID: alice, User: "alice", Host: "there", Key: "k", TTL: time.Minute}
		s.leases = []lease.Lease{theirs}
		v := w.View()
		if _, ok := v.Of("tcp", firstPort); ok || len(v.Leases) != 1 || v.Teams[0] != (lease.Team{Name: "ci", Leased: 0, Available: 9}) {
			t.Errorf("%+v", v)
		}
		for _, uid := range []uint32{0, alice} {
			if _, err := w.End(t.Context(), theirs.ID, uid); !errors.Is(err, lease.ErrNoLease) {
				t.Errorf("End by %d: %v", uid, err)
			}
		}
		time.Sleep(time.Hour)
		w.look(firstPort)
		if l := w.take(lease.Request{UID: alice, Key: "k", Count: 9}); len(s.leases) != 2 {
			t.Errorf("%+v", l)
		}
	})
}
