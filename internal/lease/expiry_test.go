//go:build linux

package lease_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

func TestAnExpiredLeaseIsRemovedOnceNoneOfItsPortsListens(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		l := w.take(lease.Request{UID: alice, Count: 2, TTL: time.Minute})
		time.Sleep(time.Minute - 1)
		began := w.Now()
		if _, ok := w.View().Of("tcp", l.Ports[1]); !ok {
			t.Error("not alive just before its end")
		}
		version := w.View().Version
		time.Sleep(time.Nanosecond)
		if _, ok := w.View().Of("tcp", l.Ports[1]); ok || w.View().Version == version {
			t.Error("alive at its end")
		}
		w.Looked(began, nil, true) // which began before
		synctest.Wait()
		w.wantState(l.ID, "expired")
		time.Sleep(time.Nanosecond)
		w.Looked(w.Now(), nil, false) // which could not read everything
		synctest.Wait()
		w.wantState(l.ID, "expired")
		w.look(firstPort + 500)
		w.wantState(l.ID, "gone")
	})
}

func TestALeaseWhosePortStillListensIsOverstayed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.only(2)
		l := w.take(lease.Request{UID: alice, Count: 2, TTL: time.Minute})
		w.look(l.Ports...)
		w.wantState(l.ID, "held")
		time.Sleep(time.Minute + time.Second)
		version := w.View().Version
		w.Looked(w.Now(), l.Ports[1:], false) // what listens is known though not all could be read
		synctest.Wait()
		w.wantState(l.ID, "overstayed")
		since, _ := w.get(l.ID)
		if _, ok := w.View().Of("tcp", l.Ports[1]); ok || since.Overstayed != w.Now() || w.View().Version == version {
			t.Errorf("%+v at %s", since, w.Now())
		}
		if v := w.View(); v.Teams[0] != (lease.Team{Name: "ci", Leased: 2}) {
			t.Errorf("%+v", v.Teams)
		}
		time.Sleep(time.Hour)
		w.look(l.Ports[1])
		if now, _ := w.get(l.ID); now.Overstayed != since.Overstayed {
			t.Errorf("overstayed since %s, want %s", now.Overstayed, since.Overstayed)
		}
		_ = w.exhausted(lease.Request{UID: bob})
		w.look()
		w.wantState(l.ID, "gone")
		w.take(lease.Request{UID: bob, Count: 2})
	})
}

func TestItsOwnerCanRenewALeaseAsLongAsItIsThere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		l := w.take(lease.Request{UID: alice, TTL: time.Minute})
		renew := func() {
			t.Helper()
			version := w.View().Version
			if _, err := w.Renew(t.Context(), l.ID, alice); err != nil {
				t.Error(err)
			}
			w.wantState(l.ID, "held")
			if _, ok := w.View().Of("tcp", l.Ports[0]); !ok || w.View().Version == version {
				t.Error("not alive again")
			}
		}
		time.Sleep(2 * time.Minute)
		w.wantState(l.ID, "expired")
		renew()
		w.look()
		w.wantState(l.ID, "held")
		time.Sleep(2 * time.Minute)
		w.look(l.Ports[0])
		w.wantState(l.ID, "overstayed")
		renew()
		time.Sleep(30 * time.Second)
		w.look()
		w.wantState(l.ID, "held")
		time.Sleep(31 * time.Second)
		w.look()
		w.wantState(l.ID, "gone")
	})
}

// TestAPortOfAnExpiredLeaseIsGivenOnceItIsFree: nobody has to wait for the next look.
func TestAPortOfAnExpiredLeaseIsGivenOnceItIsFree(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.only(3)
		old := w.take(lease.Request{UID: alice, Count: 2, TTL: time.Minute})
		w.take(lease.Request{UID: alice})
		_ = w.exhausted(lease.Request{UID: bob})
		time.Sleep(2 * time.Minute)
		next := w.take(lease.Request{UID: bob})
		w.wantState(old.ID, "gone")
		w.take(lease.Request{UID: bob})
		w.wantState(next.ID, "held")
		_ = w.exhausted(lease.Request{UID: bob})
	})
}

// TestAFreePortIsGivenBeforeThatOfAnExpiredLease, whose owner may be late.
func TestAFreePortIsGivenBeforeThatOfAnExpiredLease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.only(3)
		old := w.take(lease.Request{UID: alice, TTL: time.Minute})
		time.Sleep(2 * time.Minute)
		w.take(lease.Request{UID: bob})
		w.take(lease.Request{UID: bob})
		w.wantState(old.ID, "expired")
		if _, err := w.Renew(t.Context(), old.ID, alice); err != nil {
			t.Error(err)
		}
		_ = w.exhausted(lease.Request{UID: bob})
		w.wantState(old.ID, "held")
	})
}

// TestALookThatIsLateDoesNotCount: a scrape may be slower than the next look.
func TestALookThatIsLateDoesNotCount(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		l := w.take(lease.Request{UID: alice, TTL: time.Minute})
		time.Sleep(2 * time.Minute)
		earlier := w.Now()
		time.Sleep(time.Second)
		w.look(l.Ports[0])
		w.Looked(earlier, nil, true)
		synctest.Wait()
		w.wantState(l.ID, "overstayed")
	})
}
