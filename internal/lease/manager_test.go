//go:build linux

package lease_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

func TestALeaseIsGivenRenewedAndEnded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.View()
		l := w.take(lease.Request{UID: alice})
		want := lease.Lease{
			ID: l.ID, Ports: l.Ports,
			Team: "ci", Name: "ci", Proto: "tcp", UID: alice, User: "4242", Host: "here", TTL: lease.DefaultTTL, Deadline: w.Now() + lease.DefaultTTL,
		}
		if diff := cmp.Diff(want, l); diff != "" || len(l.ID) != 32 || len(l.Ports) != 1 {
			t.Errorf("(-want +got):\n%s", diff)
		}
		v := w.View()
		if of, ok := v.Of("tcp", l.Ports[0]); !ok || !cmp.Equal(*of, l) || v.Version == before.Version {
			t.Errorf("Of: %+v, version %d after %d", of, v.Version, before.Version)
		}
		if of, ok := v.Of("udp", l.Ports[0]); ok {
			t.Errorf("Of, of another protocol: %+v", of)
		}
		if diff := cmp.Diff([]lease.Team{{Name: "ci", Leased: 1, Available: 9}}, v.Teams); diff != "" {
			t.Errorf("teams (-want +got):\n%s", diff)
		}
		time.Sleep(4 * time.Minute)
		renewed, err := w.Renew(t.Context(), l.ID, alice)
		if err != nil || renewed.Deadline != w.Now()+lease.DefaultTTL {
			t.Errorf("Renew: %+v, %v", renewed, err)
		}
		if again := w.View().Version; again != v.Version {
			t.Error("a renewal in time is another version")
		}
		time.Sleep(4 * time.Minute)
		w.look()
		w.wantState(l.ID, "held")
		ended, err := w.End(t.Context(), l.ID, alice)
		if err != nil || !cmp.Equal(ended, renewed) {
			t.Errorf("End: %+v, %v", ended, err)
		}
		if v := w.View(); len(v.Leases) != 0 || v.Teams[0].Available != 10 {
			t.Errorf("after the end: %+v", v)
		}
	})
}

func TestOnlyWhoTookALeaseAndRootMayChangeIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.take(lease.Request{UID: alice}).ID
		for _, test := range []struct {
			name, id string
			uid      uint32
			want     error
		}{
			{"another user", id, bob, lease.ErrNotYours},
			{"an ID that nobody has", strings.Repeat("0", 32), alice, lease.ErrNoLease},
			{"no ID", "", alice, lease.ErrNoLease},
			{"half an ID", id[:16], alice, lease.ErrNoLease},
			{"an ID in capitals", strings.ToUpper(id) + "X", alice, lease.ErrNoLease},
			{"not an ID", "../" + id, alice, lease.ErrNoLease},
			{"root", id, 0, nil},
			{"who took it", id, alice, nil},
		} {
			if _, err := w.Renew(t.Context(), test.id, test.uid); !errors.Is(err, test.want) {
				t.Errorf("%s: Renew: %v", test.name, err)
			}
			if test.want == nil {
				continue
			}
			if _, err := w.End(t.Context(), test.id, test.uid); !errors.Is(err, test.want) {
				t.Errorf("%s: End: %v", test.name, err)
			}
		}
		w.wantState(id, "held")
		if _, err := w.End(t.Context(), id, 0); err != nil {
			t.Error(err)
		}
		if _, err := w.Renew(t.Context(), id, alice); !errors.Is(err, lease.ErrNoLease) {
			t.Errorf("Renew after End: %v", err)
		}
	})
}

func TestUsersOfARangeMayLeaseFromIt(t *testing.T) {
	for _, test := range []struct {
		name  string
		users []string
		uid   uint32
		want  bool
	}{
		{"everybody", []string{"*"}, alice, true},
		{"a number without a name", []string{"bin", "4242"}, alice, true},
		{"another number", []string{"4243", "424", "42420"}, alice, false},
		{"a name", []string{"no-such-user", "nobody"}, nobodyUser, true},
		{"another name", []string{"daemon"}, nobodyUser, false},
		{"a number of a user with a name", []string{"65534"}, nobodyUser, true},
		{"root, who is not named", []string{"daemon"}, 0, true},
		{"a name that nobody has", []string{"no-such-user"}, alice, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.ranges[0].Users = test.users
				_, _, err := w.Take(t.Context(), lease.Request{UID: test.uid, Team: "ci"})
				var refused *lease.NotAllowedError
				if test.want != (err == nil) || !test.want && !errors.As(err, &refused) {
					t.Errorf("error %v", err)
				}
				if !test.want && (refused.Team != "ci" || !slices.Equal(refused.Users, slices.Sorted(slices.Values(test.users)))) {
					t.Errorf("%+v", refused)
				}
			})
		})
	}
}

// TestPortsAreOnlyOfRangesFromWhichTheUserMayLease: a team can have ranges for one user and for all.
func TestPortsAreOnlyOfRangesFromWhichTheUserMayLease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.only(2)
		w.lease(2, "ci", "4242")
		w.ranges[1].AnyUser = true
		w.take(lease.Request{UID: bob, Count: 2})
		if e := w.exhausted(lease.Request{UID: bob}); e.Size != 2 {
			t.Errorf("of %d ports, want 2", e.Size)
		}
		if l := w.take(lease.Request{UID: alice, Count: 2}); !l.AnyUser {
			t.Errorf("%+v is not for any user", l)
		}
	})
}

func TestALeaseIsForAnyUserOnlyIfAllItsPortsAre(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.only(1)
		w.lease(1, "ci", "*")
		w.ranges[0].AnyUser = true
		l := w.take(lease.Request{UID: alice, Count: 2})
		if l.AnyUser {
			t.Errorf("%+v is for any user", l)
		}
		_, _ = w.End(t.Context(), l.ID, alice)
		for range 2 {
			if l := w.take(lease.Request{UID: alice}); l.AnyUser != (l.Ports[0] == firstPort) {
				t.Errorf("%+v", l)
			}
		}
	})
}

func TestABadRequestNamesItsField(t *testing.T) {
	inWorldOf(t, func(o *lease.Options) { o.MaxPerUser = 8 }, func(t *testing.T, w *world) {
		w.lease(1, "team of spaces", "4242")
		w.lease(1, "web", "daemon")
		for name, test := range map[string]struct {
			request     lease.Request
			field, want string
		}{
			"several_teams":      {lease.Request{}, "team", "missing: want ci or team of spaces"},
			"unknown_team":       {lease.Request{Team: "cl"}, "team", `"cl" has no ports to lease on this host: want ci or team of spaces or web`},
			"unknown_protocol":   {lease.Request{Team: "ci", Proto: "sctp"}, "proto", `"sctp" is no protocol: want tcp or udp`},
			"capital_protocol":   {lease.Request{Team: "ci", Proto: "TCP"}, "proto", `"TCP" is no protocol`},
			"short_ttl":          {lease.Request{Team: "ci", TTL: time.Second - 1}, "ttl", "999.999999ms is not from 1s to 1h"},
			"long_ttl":           {lease.Request{Team: "ci", TTL: time.Hour + 1}, "ttl", "is not from 1s to 1h"},
			"negative_ttl":       {lease.Request{Team: "ci", TTL: -time.Minute}, "ttl", "is not from 1s to 1h"},
			"negative_count":     {lease.Request{Team: "ci", Count: -1}, "count", "-1 is not from 1 to 8"},
			"more_than_a_user":   {lease.Request{Team: "ci", Count: 9}, "count", "9 is not from 1 to 8"},
			"name_with_space":    {lease.Request{Team: "ci", Name: "my app"}, "name", `"my app" is no name`},
			"name_with_newline":  {lease.Request{Team: "ci", Name: "app\n"}, "name", "is no name"},
			"long_name":          {lease.Request{Team: "ci", Name: strings.Repeat("n", 64)}, "name", "is no name"},
			"name_of_a_service":  {lease.Request{Team: "ci", Name: "web"}, "name", `"web" is the name of a service of the registry`},
			"team_that_is_none":  {lease.Request{Team: "team of spaces"}, "name", `missing, and the team's name "team of spaces" is none for a lease`},
			"long_key":           {lease.Request{Team: "ci", Key: strings.Repeat("k", 65)}, "key", "want at most 64 printable ASCII characters"},
			"key_with_zero":      {lease.Request{Team: "ci", Key: "a\x00b"}, "key", "want at most 64 printable ASCII characters"},
			"key_with_umlaut":    {lease.Request{Team: "ci", Key: "schlüssel"}, "key", "want at most 64 printable ASCII characters"},
			"key_of_spaces":      {lease.Request{Team: "ci", Key: " "}, "key", "want at most 64 printable ASCII characters"},
			"key_with_last_line": {lease.Request{Team: "ci", Key: "k\n"}, "key", "want at most 64 printable ASCII characters"},
		} {
			test.request.UID = alice
			var problem *lease.FieldError
			if err := w.refuse(test.request); !errors.As(err, &problem) || problem.Field != test.field || !strings.Contains(problem.Problem, test.want) {
				t.Errorf("%s: %v, want %s: %s", name, err, test.field, test.want)
			}
		}
		if v := w.View(); len(v.Leases) != 0 {
			t.Errorf("leases: %+v", v.Leases)
		}
	})
}

func TestWhatARequestLeavesOutHasADefault(t *testing.T) {
	inWorldOf(t, func(o *lease.Options) { o.MaxTTL = time.Minute }, func(t *testing.T, w *world) {
		w.lease(1, "other", "daemon")
		l := w.take(lease.Request{UID: alice})
		got := lease.Request{Team: l.Team, Name: l.Name, Proto: l.Proto, TTL: l.TTL, Count: len(l.Ports), Key: l.Key, UID: l.UID}
		want := lease.Request{Team: "ci", Name: "ci", Proto: "tcp", TTL: time.Minute, Count: 1, UID: alice}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		all := lease.Request{Team: "ci", Name: "a.B_c-9", Proto: "udp", TTL: time.Second, Count: 3, Key: "k 1", UID: alice}
		l = w.take(all)
		got = lease.Request{Team: l.Team, Name: l.Name, Proto: l.Proto, TTL: l.TTL, Count: len(l.Ports), Key: l.Key, UID: l.UID}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestUsersAndTeamsHaveLimits(t *testing.T) {
	inWorldOf(t, func(o *lease.Options) { o.MaxPerUser, o.MaxPerTeam = 3, 5 }, func(t *testing.T, w *world) {
		limited := func(uid uint32, count int, want lease.LimitError) {
			t.Helper()
			var limit *lease.LimitError
			if err := w.refuse(lease.Request{UID: uid, Count: count}); !errors.As(err, &limit) || *limit != want {
				t.Errorf("%v, want %v", err, &want)
			}
		}
		short := w.take(lease.Request{UID: alice, Count: 2, TTL: time.Minute})
		limited(alice, 2, lease.LimitError{Who: "user 4242", Has: 2, Limit: 3})
		w.take(lease.Request{UID: alice})
		limited(alice, 1, lease.LimitError{Who: "user 4242", Has: 3, Limit: 3})
		w.take(lease.Request{UID: 0, Count: 2})
		limited(bob, 1, lease.LimitError{Who: "team ci", Has: 5, Limit: 5})
		time.Sleep(2 * time.Minute)
		w.take(lease.Request{UID: bob}) // what has expired does not count, though it is not swept
		w.look(short.Ports[0])
		w.wantState(short.ID, "overstayed")
		limited(alice, 1, lease.LimitError{Who: "user 4242", Has: 3, Limit: 3})
	})
}

func TestARequestWithAKeyCanBeRepeated(t *testing.T) {
	inWorldOf(t, func(o *lease.Options) { o.MaxPerUser = 2 }, func(t *testing.T, w *world) {
		request := lease.Request{UID: alice, Count: 2, Key: "job 1", Name: "preview", TTL: time.Minute}
		l := w.take(request)
		time.Sleep(time.Second)
		again, repeated, err := w.Take(t.Context(), request)
		if err != nil || !repeated || !cmp.Equal(again, l) {
			t.Errorf("%+v, repeated %t: %v", again, repeated, err)
		}
		for name, change := range map[string]func(*lease.Request){
			"count": func(r *lease.Request) { r.Count = 1 },
			"name":  func(r *lease.Request) { r.Name = "other" },
			"ttl":   func(r *lease.Request) { r.TTL++ },
			"proto": func(r *lease.Request) { r.Proto = "udp" },
		} {
			other := request
			change(&other)
			var problem *lease.FieldError
			if err := w.refuse(other); !errors.As(err, &problem) || problem.Field != "key" || !strings.Contains(problem.Problem, l.ID) {
				t.Errorf("another %s: %v", name, err)
			}
		}
		others := request
		others.UID = bob
		if l := w.take(others); l.UID != bob {
			t.Errorf("another user's: %+v", l)
		}
		time.Sleep(2 * time.Minute) // it has expired, and nobody has looked
		next := w.take(request)
		if next.ID == l.ID {
			t.Error("the answer is a lease that has expired")
		}
		if _, err := w.End(t.Context(), next.ID, alice); err != nil {
			t.Error(err)
		}
		if l := w.take(request); l.ID == next.ID {
			t.Error("the answer is a lease that has ended")
		}
	})
}

func TestEachPortIsGivenOnceBeforeOneIsGivenAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.lease(10, "other", "0")
		var first []uint16
		for n := range 30 {
			l := w.take(lease.Request{UID: alice})
			if n < 10 {
				first = append(first, l.Ports[0])
			} else if l.Ports[0] != first[n%10] {
				t.Errorf("lease %d has port %d, want %d", n, l.Ports[0], first[n%10])
			}
			other := w.take(lease.Request{Team: "other"})
			for _, id := range []string{l.ID, other.ID} {
				if _, err := w.End(t.Context(), id, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := len(slices.Compact(slices.Sorted(slices.Values(first)))); got != 10 {
			t.Errorf("%d ports in %v, want 10", got, first)
		}
	})
}

// TestTheFirstPortIsAnyOne: hosts that share a range shall not all begin at the same.
func TestTheFirstPortIsAnyOne(t *testing.T) {
	given := make(map[uint16]bool)
	for range 40 {
		inShakyWorld(t, nil, func(_ *testing.T, w *world, _ *shaky) { given[w.take(lease.Request{}).Ports[0]] = true })
	}
	if len(given) < 5 { // of 10: less than one in 10 millions
		t.Errorf("only %v", given)
	}
}

func TestARequestThatIsRepeatedAtOnceAfterItsLeaseExpiredGetsOneAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r := lease.Request{UID: alice, Key: "job", TTL: time.Second, Count: 4}
		for range 100 {
			w.take(r)
			time.Sleep(2 * time.Second)
			var all sync.WaitGroup
			ids := make([]string, 8)
			for n := range ids {
				all.Go(func() {
					l, _, err := w.Take(t.Context(), r)
					if ids[n] = l.ID; err != nil {
						t.Errorf("the request with a key of an expired lease: %v", err)
					}
				})
			}
			all.Wait()
			if ids = slices.Compact(ids); len(ids) > 1 {
				t.Errorf("one key has the leases %v", ids)
			}
			if t.Failed() {
				return
			}
			if _, err := w.End(t.Context(), ids[0], alice); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// slowToChoose takes a second for each choice of ports.
type slowToChoose struct{ lease.Store }

func (s slowToChoose) Leases() ([]lease.Lease, error) {
	time.Sleep(time.Second)
	return s.Store.Leases()
}

func TestAUserWhoAsksOftenKeepsNoOtherWaiting(t *testing.T) {
	inWorldOf(t, func(o *lease.Options) {
		store, err := lease.OpenFile(filepath.Join(t.TempDir(), "leases.db"), "here", bubbleClock())
		if err != nil {
			t.Fatal(err)
		}
		o.Store, o.MaxPerUser = slowToChoose{store}, 2
	}, func(t *testing.T, w *world) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { _, _, _ = w.Take(t.Context(), lease.Request{UID: alice}) })
		}
		synctest.Wait()
		began := time.Now()
		w.take(lease.Request{UID: bob})
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("another user waits %s for 20 choices of a second each", took)
		}
		all.Wait()
	})
}
