//go:build linux

package lease_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
)

func TestAViewHasWhatHasJustEnded(t *testing.T) {
	clock := lease.HostClock()
	now := clock.Boot()
	clock.Boot = func() time.Duration { return now }
	store, err := lease.OpenFile(filepath.Join(t.TempDir(), "leases.db"), "here", clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	m, err := lease.NewManager(lease.Options{Store: store, Host: "here", MaxTTL: time.Hour, Clock: clock.Boot})
	if err != nil {
		t.Fatal(err)
	}
	m.Use(func() (lease.Rules, error) {
		return lease.Rules{
			Ranges:  []lease.Range{{Range: ports.Range{First: 45010, Last: 45019}, Team: "ci", Users: []string{"*"}}},
			Refuse:  func(uint16) string { return "" },
			Claim:   func(uint16) string { return "" },
			Service: func(string) bool { return false },
			Version: 1,
		}, nil
	})
	l, _, err := m.Take(t.Context(), lease.Request{UID: 4242})
	if err != nil {
		t.Fatal(err)
	}
	began := now
	now += time.Minute
	if _, err := m.End(t.Context(), l.ID, 4242); err != nil {
		t.Fatal(err)
	}
	ended := now
	now += lease.EndedKept - 1
	v := m.View()
	if len(v.Leases) != 0 || len(v.Ended) != 1 || v.Ended[0].ID != l.ID || !v.WasAlive(&v.Ended[0], began) || v.WasAlive(&v.Ended[0], ended) {
		t.Errorf("%+v", v)
	}
	now++
	if later := m.View(); len(later.Ended) != 0 || len(v.Ended) != 1 {
		t.Errorf("%+v", later)
	}
}

// afterRemoval is a store that calls removed before whoever removed a lease knows that it is done.
type afterRemoval struct {
	*shaky
	removed func()
}

func (s *afterRemoval) Remove(ctx context.Context, id string) error {
	err := s.shaky.Remove(ctx, id)
	s.removed()
	return err
}

// TestALeaseHasEndedOnceTheStoreHasRemovedIt, no sooner and no later: what cannot be removed has not ended.
func TestALeaseHasEndedOnceTheStoreHasRemovedIt(t *testing.T) {
	s := &afterRemoval{shaky: new(shaky)}
	inWorldOf(t, func(o *lease.Options) { s.clock, o.Store = o.Clock, s }, func(t *testing.T, w *world) {
		l := w.take(lease.Request{UID: alice})
		check := func(has, ended int) {
			t.Helper()
			if v := w.View(); len(v.Leases) != has || len(v.Ended) != ended {
				t.Errorf("%d leases, and %d that have ended, want %d and %d", len(v.Leases), len(v.Ended), has, ended)
			}
		}
		s.removed = func() { check(1, 0) }
		s.set(func() { s.away = lease.ErrAway })
		if _, err := w.End(t.Context(), l.ID, alice); !errors.Is(err, lease.ErrAway) {
			t.Errorf("End: %v", err)
		}
		check(1, 0)
		s.set(func() { s.away = nil })
		s.removed = func() { check(0, 1) }
		if _, err := w.End(t.Context(), l.ID, alice); err != nil {
			t.Error(err)
		}
		check(0, 1)
		lost := w.take(lease.Request{UID: alice}) // the answer to its end is lost, and its end is not
		s.removed = func() {}
		s.set(func() { s.away = lease.ErrAway })
		if _, err := w.End(t.Context(), lost.ID, alice); !errors.Is(err, lease.ErrAway) {
			t.Errorf("End: %v", err)
		}
		check(1, 1)
		s.set(func() { s.away, s.leases = nil, nil })
		check(0, 2)
		check(0, 2)
	})
}
