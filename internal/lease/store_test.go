//go:build linux

package lease_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// opener opens a store of a host. All that it opens keep their leases in one place. A test closes what it has opened.
type opener func(host string, clock lease.Clock) lease.Store

// storeKind is a kind of store. place returns where nothing is stored yet.
type storeKind struct {
	name  string
	start func(t *testing.T) (place func(t *testing.T) opener)
	// accuracy is by how much a deadline may be earlier after the store was opened again.
	accuracy time.Duration
}

// forEachStore runs a test on each kind of store.
func forEachStore(t *testing.T, test func(t *testing.T, kind storeKind, open opener)) {
	t.Helper()
	for _, kind := range storeKinds() {
		t.Run(kind.name, func(t *testing.T) { test(t, kind, kind.start(t)(t)) })
	}
}

// handClock is a clock that passes when the test says so.
type handClock struct{ boot atomic.Int64 }

func newHandClock() *handClock {
	c := new(handClock)
	c.pass(time.Hour)
	return c
}

func (c *handClock) pass(d time.Duration) { c.boot.Add(int64(d)) }

func (c *handClock) now() time.Duration { return time.Duration(c.boot.Load()) }

func (c *handClock) clock() lease.Clock {
	return lease.Clock{
		Boot:   c.now,
		Wall:   func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(c.now()) },
		BootID: "5b1cb6e8-7b3c-4e8b-8f0c-3a6d2f2f7c11",
	}
}

// wanted returns a lease that nobody has yet.
func wanted(number int, ports ...uint16) lease.Lease {
	return lease.Lease{
		ID: fmt.Sprintf("%032x", number), Team: "ci", Name: fmt.Sprint("job-", number), Proto: "tcp", Ports: ports, UID: 1000, User: "alice",
		Host: "one", TTL: 5 * time.Minute,
	}
}

func mustTake(t *testing.T, s lease.Store, l lease.Lease) lease.Lease {
	t.Helper()
	got, err := s.Take(t.Context(), l)
	if err != nil {
		t.Fatalf("take %v: %v", l.Ports, err)
	}
	return got
}

func mustList(t *testing.T, s lease.Store) []lease.Lease {
	t.Helper()
	leases, err := s.Leases()
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

func closeStore(t *testing.T, s lease.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close the store: %v", err)
	}
}

func TestAStoreHasALeaseAsItWasTakenAlsoWhenItIsOpenedAgain(t *testing.T) {
	forEachStore(t, func(t *testing.T, kind storeKind, open opener) {
		clock := newHandClock()
		s := open("one", clock.clock())
		first := lease.Lease{
			ID: "0123456789abcdef0123456789abcdef", Team: "preview of docs", Name: "a.B_c-1", Proto: "udp", Ports: []uint16{30007, 30001, 65535},
			UID: 4294967294, User: "DOM\\bob", AnyUser: true, Host: "one", Key: `x/../y "%2F" ~`, TTL: time.Hour + time.Nanosecond,
		}
		second := wanted(2, 20000)
		for _, l := range []*lease.Lease{&first, &second} {
			got := mustTake(t, s, *l)
			l.Deadline = clock.now() + l.TTL
			if diff := cmp.Diff(*l, got); diff != "" {
				t.Errorf("it is taken as (-want +got):\n%s", diff)
			}
		}
		want := []lease.Lease{second, first}
		if diff := cmp.Diff(want, mustList(t, s)); diff != "" {
			t.Errorf("leases (-want +got):\n%s", diff)
		}
		closeStore(t, s)

		s = open("one", clock.clock())
		defer closeStore(t, s)
		got := slices.Clone(mustList(t, s))
		for i, l := range got {
			if early := clock.now() + l.TTL - l.Deadline; early < 0 || early > kind.accuracy {
				t.Errorf("the deadline of %s is %v early after the store was opened again, want at most %v", l.Name, early, kind.accuracy)
			}
			got[i].Deadline = want[i].Deadline
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("leases after the store was opened again (-want +got):\n%s", diff)
		}
	})
}

func TestAPortThatTheStoreHasIsNotTakenAgain(t *testing.T) {
	forEachStore(t, func(t *testing.T, _ storeKind, open opener) {
		clock := newHandClock()
		s := open("one", clock.clock())
		defer closeStore(t, s)
		held := mustTake(t, s, wanted(1, 30000, 30001))
		otherProto := wanted(2, 30001)
		otherProto.Proto = "udp"
		for _, test := range []struct {
			name  string
			takes lease.Lease
			port  uint16
			later time.Duration
		}{
			{"the same port", wanted(3, 30000), 30000, 0},
			{"one of several ports", wanted(4, 29999, 30001, 30002), 30001, 0},
			{"another protocol", otherProto, 30001, 0},
			{"after it has expired", wanted(5, 30000), 30000, time.Hour},
		} {
			t.Run(test.name, func(t *testing.T) {
				clock.pass(test.later)
				_, err := s.Take(t.Context(), test.takes)
				var taken *lease.TakenError
				if !errors.As(err, &taken) {
					t.Fatalf("error %v, want a TakenError", err)
				}
				if diff := cmp.Diff(&lease.TakenError{Port: test.port, By: held}, taken); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if diff := cmp.Diff([]lease.Lease{held}, mustList(t, s)); diff != "" {
					t.Errorf("leases (-want +got):\n%s", diff)
				}
			})
		}
	})
}

func TestARequestWithAKeyIsAnsweredWithTheLeaseThatItGotFirst(t *testing.T) {
	forEachStore(t, func(t *testing.T, _ storeKind, open opener) {
		clock := newHandClock()
		s := open("one", clock.clock())
		first := wanted(1, 30000)
		first.Key = "build 7/3"
		first = mustTake(t, s, first)
		clock.pass(time.Second)

		same := wanted(2, 30001)
		same.Key = first.Key
		if diff := cmp.Diff(first, mustTake(t, s, same)); diff != "" {
			t.Errorf("the same key (-want +got):\n%s", diff)
		}
		same.Ports = first.Ports // a client that had no answer, of a manager that gives its ports in order
		if diff := cmp.Diff(first, mustTake(t, s, same)); diff != "" {
			t.Errorf("the same key and port (-want +got):\n%s", diff)
		}
		other := wanted(3, 30002)
		other.Key, other.UID = first.Key, 1001
		if got := mustTake(t, s, other); got.ID != other.ID {
			t.Errorf("the key of another user is answered with %v", got)
		}
		for number, key := range map[int]string{4: "build 7", 5: "build 7%2F3", 6: "", 7: ""} {
			l := wanted(number, 30000+uint16(number))
			l.Key = key
			if got := mustTake(t, s, l); got.ID != l.ID {
				t.Errorf("the key %q is answered with the lease of %q", key, got.Key)
			}
		}
		closeStore(t, s)

		s = open("one", clock.clock())
		defer closeStore(t, s)
		got := mustTake(t, s, same)
		if diff := cmp.Diff(first, got, cmpopts.IgnoreFields(lease.Lease{}, "Deadline")); diff != "" {
			t.Errorf("the same key, after the store was opened again (-want +got):\n%s", diff)
		}
		if err := s.Remove(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		if got := mustTake(t, s, same); got.ID != same.ID {
			t.Errorf("the key of a lease that was removed is answered with %v", got)
		}
	})
}

func TestARenewalIsForTheWholeTimeFromThenOn(t *testing.T) {
	forEachStore(t, func(t *testing.T, kind storeKind, open opener) {
		clock := newHandClock()
		s := open("one", clock.clock())
		l := mustTake(t, s, wanted(1, 30000))
		for _, later := range []time.Duration{time.Minute, time.Hour} { // while it lives, and after it has expired
			clock.pass(later)
			got, err := s.Renew(t.Context(), l.ID)
			if err != nil {
				t.Fatal(err)
			}
			l.Deadline = clock.now() + l.TTL
			if diff := cmp.Diff(l, got); diff != "" {
				t.Errorf("renewed after %v (-want +got):\n%s", later, diff)
			}
			if diff := cmp.Diff([]lease.Lease{l}, mustList(t, s)); diff != "" {
				t.Errorf("leases (-want +got):\n%s", diff)
			}
		}
		if _, err := s.Renew(t.Context(), wanted(2).ID); !errors.Is(err, lease.ErrNoLease) {
			t.Errorf("the renewal of a lease that never was: %v, want %v", err, lease.ErrNoLease)
		}
		closeStore(t, s)

		s = open("one", clock.clock())
		defer closeStore(t, s)
		if got := mustList(t, s); len(got) != 1 || got[0].Deadline > l.Deadline || got[0].Deadline < l.Deadline-kind.accuracy {
			t.Errorf("leases after the store was opened again: %+v, want the deadline %v", got, l.Deadline)
		}
	})
}

func TestAnOverstayedLeaseIsKeptUntilItIsRenewedOrRemoved(t *testing.T) {
	forEachStore(t, func(t *testing.T, _ storeKind, open opener) {
		clock := newHandClock()
		s := open("one", clock.clock())
		l := wanted(1, 30000, 30001)
		l.Key = "x"
		l = mustTake(t, s, l)
		clock.pass(l.TTL + time.Second)
		l.Overstayed = clock.now()
		for range 2 { // each sweep may note it
			if err := s.Overstay(t.Context(), l.ID); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]lease.Lease{l}, mustList(t, s)); diff != "" {
				t.Errorf("leases (-want +got):\n%s", diff)
			}
			clock.pass(time.Minute)
		}
		closeStore(t, s)

		s = open("one", clock.clock())
		defer closeStore(t, s)
		got := mustList(t, s)
		if diff := cmp.Diff([]lease.Lease{l}, got, cmpopts.IgnoreFields(lease.Lease{}, "Deadline")); diff != "" {
			t.Errorf("leases after the store was opened again (-want +got):\n%s", diff)
		}
		again := wanted(2, 30000)
		again.Key = l.Key
		if got := mustTake(t, s, again); got.ID != l.ID || got.Overstayed != l.Overstayed {
			t.Errorf("its key is answered with %+v", got)
		}
		renewed, err := s.Renew(t.Context(), l.ID)
		if err != nil {
			t.Fatal(err)
		}
		l.Overstayed, l.Deadline = 0, clock.now()+l.TTL
		if diff := cmp.Diff(l, renewed); diff != "" {
			t.Errorf("renewed (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]lease.Lease{l}, mustList(t, s)); diff != "" {
			t.Errorf("leases after the renewal (-want +got):\n%s", diff)
		}
	})
}

func TestThePortsOfARemovedLeaseAreFree(t *testing.T) {
	forEachStore(t, func(t *testing.T, _ storeKind, open opener) {
		clock := newHandClock()
		s := open("one", clock.clock())
		first := mustTake(t, s, wanted(1, 30000, 30001))
		for range 2 { // it is no error that it is not there
			if err := s.Remove(t.Context(), first.ID); err != nil {
				t.Errorf("remove: %v", err)
			}
		}
		if got := mustList(t, s); len(got) != 0 {
			t.Errorf("leases after the only one was removed: %v", got)
		}
		if _, err := s.Renew(t.Context(), first.ID); !errors.Is(err, lease.ErrNoLease) {
			t.Errorf("the renewal of a removed lease: %v, want %v", err, lease.ErrNoLease)
		}
		second := mustTake(t, s, wanted(2, 30001))
		closeStore(t, s)
		s = open("one", clock.clock())
		defer closeStore(t, s)
		if diff := cmp.Diff([]lease.Lease{second}, mustList(t, s), cmpopts.IgnoreFields(lease.Lease{}, "Deadline")); diff != "" {
			t.Errorf("leases after the store was opened again (-want +got):\n%s", diff)
		}
	})
}

// TestOfManyWhoTakeAPortAtTheSameTimeOneGetsIt: and the error of the others names who has it.
func TestOfManyWhoTakeAPortAtTheSameTimeOneGetsIt(t *testing.T) {
	const clients, rounds, size = 8, 20, 3
	forEachStore(t, func(t *testing.T, _ storeKind, open opener) {
		s := open("one", lease.HostClock())
		defer closeStore(t, s)
		var mu sync.Mutex
		owners := make(map[uint16]string)
		var wg sync.WaitGroup
		for client := range clients {
			wg.Go(func() {
				for round := range rounds {
					var ports []uint16
					for i := range size {
						ports = append(ports, uint16(30000+round*size+(client+i)%size))
					}
					l, err := s.Take(t.Context(), wanted(client*rounds+round, ports...))
					var taken *lease.TakenError
					switch {
					case errors.As(err, &taken) && slices.Contains(ports, taken.Port) && slices.Contains(taken.By.Ports, taken.Port):
						continue
					case err != nil:
						t.Errorf("take %v: %v", ports, err)
						return
					}
					mu.Lock()
					for _, port := range l.Ports {
						if other := owners[port]; other != "" {
							t.Errorf("port %d is given to %s and to %s", port, other, l.ID)
						}
						owners[port] = l.ID
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		got := make(map[uint16]string)
		for _, l := range mustList(t, s) {
			for _, port := range l.Ports {
				got[port] = l.ID
			}
		}
		if diff := cmp.Diff(owners, got); diff != "" {
			t.Errorf("who has a port (-answers +list):\n%s", diff)
		}
		if got := slices.Sorted(maps.Keys(got)); len(got) != rounds*size {
			t.Errorf("%d ports are leased, want all %d", len(got), rounds*size)
		}
	})
}
