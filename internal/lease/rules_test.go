//go:build linux

package lease_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// TestWhoFindsNoPortSeesWhatHasThem: leases first, then the other ports, and of many the first 20.
func TestWhoFindsNoPortSeesWhatHasThem(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.only(30)
		for port := firstPort + 2; port < firstPort+28; port++ {
			w.refused[uint16(port)] = fmt.Sprintf("it is forbidden: %d", port)
		}
		l := w.take(lease.Request{UID: alice, Name: "preview"})
		over := w.take(lease.Request{UID: 0, TTL: time.Minute})
		time.Sleep(2 * time.Minute)
		w.look(over.Ports[0], firstPort+29, firstPort+28, firstPort+1, firstPort)
		e := w.exhausted(lease.Request{UID: bob})
		if e.Team != "ci" || e.Count != 1 || e.Left != 0 || e.Size != 30 || len(e.Holders) != 20 || e.More != 10 {
			t.Errorf("%+v", e)
		}
		if !strings.Contains(e.Error(), "team ci has 0 of 30 ports left, and 1 is asked for") {
			t.Error(e)
		}
		leases := []lease.PortHolder{
			{Port: l.Ports[0], Why: "leased", Name: "preview", User: "4242", Host: "here", Expires: l.Deadline},
			{Port: over.Ports[0], Why: "overstayed", Name: "ci", User: "root", Host: "here", Expires: over.Deadline},
		}
		if l.Ports[0] > over.Ports[0] {
			leases[0], leases[1] = leases[1], leases[0]
		}
		if diff := cmp.Diff(leases, e.Holders[:2]); diff != "" {
			t.Errorf("leases (-want +got):\n%s", diff)
		}
		before := uint16(0)
		for _, h := range e.Holders[2:] {
			want := "in use"
			if refused := w.refused[h.Port]; refused != "" {
				want = refused
			}
			if h != (lease.PortHolder{Port: h.Port, Why: want}) || h.Port <= before || h.Port == l.Ports[0] || h.Port == over.Ports[0] {
				t.Errorf("%+v after %d", h, before)
			}
			before = h.Port
		}
	})
}

func TestNoPortIsGivenThatTheRulesRefuseOrThatListens(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.refused[firstPort+3] = `service "db" declares it`
		w.look(firstPort+5, firstPort+5, 22)
		if v := w.View(); v.Teams[0].Available != 9 { // the rules have changed since the look
			w.look(firstPort + 5)
		}
		for range 8 {
			if port := w.take(lease.Request{UID: alice}).Ports[0]; port == firstPort+3 || port == firstPort+5 {
				t.Errorf("port %d is given", port)
			}
		}
		e := w.exhausted(lease.Request{UID: alice})
		want := []lease.PortHolder{{Port: firstPort + 3, Why: `service "db" declares it`}, {Port: firstPort + 5, Why: "in use"}}
		if diff := cmp.Diff(want, e.Holders[8:]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.look()
		if l := w.take(lease.Request{UID: alice}); l.Ports[0] != firstPort+5 {
			t.Errorf("%+v", l)
		}
	})
}

// TestRulesAreThoseOfTheMoment: a registry that was reloaded counts for the next lease and the next renewal.
func TestRulesAreThoseOfTheMoment(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		l := w.take(lease.Request{UID: alice})
		w.ranges = nil
		w.lease(5, "web", "*")
		var problem *lease.FieldError
		if err := w.refuse(lease.Request{UID: alice, Team: "ci"}); !errors.As(err, &problem) || !strings.HasSuffix(problem.Problem, ": want web") {
			t.Error(err)
		}
		if _, err := w.Renew(t.Context(), l.ID, alice); err == nil {
			t.Error("a lease of a range that is gone is renewed")
		}
		w.look()
		if v := w.View(); len(v.Teams) != 1 || v.Teams[0].Name != "web" || v.Teams[0].Leased != 0 {
			t.Errorf("%+v", v.Teams)
		}
		w.problem = errors.New("the kernel's ports cannot be read")
		if err := w.refuse(lease.Request{UID: alice}); !errors.Is(err, w.problem) {
			t.Error(err)
		}
		if v := w.look(); len(v.Teams) != 1 {
			t.Errorf("%+v", v.Teams)
		}
		w.problem, w.ranges = nil, nil
		if err := w.refuse(lease.Request{UID: alice}); !errors.As(err, &problem) || !strings.HasPrefix(problem.Problem, "no team has ports to lease") {
			t.Error(err)
		}
		w.Use(nil)
		if err := w.refuse(lease.Request{UID: alice}); err == nil || !strings.Contains(err.Error(), "before the registry is read") {
			t.Error(err)
		}
	})
}

// TestALeaseIsNotRenewedOnceTheRegistryNoLongerPermitsIt: it ends by its time, unless the registry is mended before.
func TestALeaseIsNotRenewedOnceTheRegistryNoLongerPermitsIt(t *testing.T) {
	const first = firstPort
	for name, test := range map[string]struct {
		change func(w *world)
		why    string // or empty if the lease is renewed
	}{
		"range_withdrawn":        {func(w *world) { w.ranges = nil }, "port 23100 is no longer in a range that team ci leases: want a new lease"},
		"range_made_smaller":     {func(w *world) { w.ranges[0].First++ }, "port 23100 is no longer in a range that team ci leases: want a new lease"},
		"range_of_another_team":  {func(w *world) { w.ranges[0].Team = "web" }, "port 23100 is no longer in a range that team ci leases: want a new lease"},
		"user_withdrawn":         {func(w *world) { w.ranges[0].Users = []string{"4243", "daemon"} }, "user 4242 may not lease from the ranges of team ci, only 4243, daemon and root may: want 4242 in users of the range, in the registry"},
		"port_declared":          {func(w *world) { w.claimed[first+1] = `service "db" declares it` }, `port 23101: service "db" declares it`},
		"port_forbidden":         {func(w *world) { w.claimed[first] = "it is forbidden: telnet" }, "port 23100: it is forbidden: telnet"},
		"any_user_withdrawn":     {func(w *world) { w.ranges[0].AnyUser = false }, "the range of port 23100 no longer has any_user: true, with which the lease was given"},
		"another_range_has_both": {func(w *world) { w.ranges = append(w.ranges, w.ranges[0]); w.ranges[0].Users = nil }, ""},
		"port_elsewhere":         {func(w *world) { w.claimed[first+2] = "it is forbidden" }, ""},
		"given_to_clients":       {func(w *world) { w.refused[first] = "the kernel gives it to clients" }, ""},
		"rules_unreadable":       {func(w *world) { w.problem = errors.New("no sysctl"); w.ranges = nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.only(2)
				w.ranges[0].AnyUser = true
				l := w.take(lease.Request{UID: alice, Count: 2, TTL: time.Minute})
				slices.Sort(l.Ports)
				before := slices.Clone(w.ranges)
				w.look() // which reads the rules, too
				test.change(w)
				for _, uid := range []uint32{alice, 0} {
					renewed, err := w.Renew(t.Context(), l.ID, uid)
					withdrawn, is := errors.AsType[*lease.WithdrawnError](err)
					if test.why == "" && err != nil || test.why != "" && (!is || withdrawn.Why != test.why) {
						t.Errorf("Renew by %d: %+v, %v, want %q", uid, renewed, err, test.why)
					}
				}
				if test.why == "" {
					return
				}
				if _, err := w.Renew(t.Context(), l.ID, bob); !errors.Is(err, lease.ErrNotYours) {
					t.Errorf("Renew by another user: %v", err)
				}
				w.wantState(l.ID, "held")
				time.Sleep(time.Minute)
				w.look(l.Ports[0])
				time.Sleep(time.Second)
				w.look(l.Ports[0])
				w.wantState(l.ID, "overstayed")
				w.ranges = before
				clear(w.claimed)
				if _, err := w.Renew(t.Context(), l.ID, alice); err != nil {
					t.Errorf("Renew by the registry as it was: %v", err)
				}
				w.wantState(l.ID, "held")
				test.change(w)
				if _, err := w.End(t.Context(), l.ID, alice); err != nil {
					t.Errorf("End, which the registry does not keep anybody from: %v", err)
				}
			})
		})
	}
}

func TestALeaseIsNotRenewedOnceAServiceHasItsName(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		l := w.take(lease.Request{UID: alice, Name: "shop"})
		w.Use(func() (lease.Rules, error) {
			rules, err := w.rules()
			rules.Service = func(name string) bool { return name == "shop" }
			return rules, err
		})
		_, err := w.Renew(t.Context(), l.ID, alice)
		if withdrawn, is := errors.AsType[*lease.WithdrawnError](err); !is || withdrawn.Why != `"shop" is now the name of a service: want another name for the next lease` {
			t.Errorf("Renew: %v", err)
		}
	})
}

// TestRulesOfTheSameVersionAreNotAskedAgain: tens of thousands of ports would cost each look.
func TestRulesOfTheSameVersionAreNotAskedAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		version := 1
		w.Use(func() (lease.Rules, error) {
			rules, err := w.rules()
			rules.Version = version
			return rules, err
		})
		asked := w.asked.Load()
		for range 3 {
			w.look()
			w.take(lease.Request{UID: alice})
		}
		if w.asked.Load() != asked {
			t.Errorf("asked for %d more ports", w.asked.Load()-asked)
		}
		version, w.refused[firstPort] = 2, "now"
		w.look()
		if w.asked.Load() != asked+10 {
			t.Errorf("asked for %d more ports, want 10", w.asked.Load()-asked)
		}
	})
}

func TestTeamsHaveTheirPortsCounted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ranges = []lease.Range{
			{Range: ports.Range{First: firstPort, Last: firstPort + 9}, Team: "ci", Users: []string{"*"}},
			{Range: ports.Range{First: firstPort + 5, Last: firstPort + 19}, Team: "ci", Users: []string{"bin"}},
			{Range: ports.Range{First: firstPort + 20, Last: firstPort + 20}, Team: "one", Users: []string{"*"}},
			{Range: ports.Range{First: firstPort + 30, Last: firstPort + 39}, Team: "ci", Users: []string{"*"}},
			{Range: ports.Range{First: 60000, Last: 65535}, Team: "high", Users: []string{"*"}},
		}
		w.refused[firstPort+35], w.refused[65535] = "forbidden", "forbidden"
		w.take(lease.Request{UID: 0, Team: "one"})
		w.take(lease.Request{UID: 0, Team: "ci", Count: 7})
		for _, uid := range []uint32{0, alice} {
			if l := w.take(lease.Request{UID: uid, Team: "ci", Count: 2}); len(l.Ports) != 2 {
				t.Errorf("%+v", l)
			}
		}
		v := w.look(64000, 65534, 53)
		want := []lease.Team{{"ci", 11, 30 - 11 - 1}, {"one", 1, 0}, {"high", 0, 5536 - 3}}
		if diff := cmp.Diff(want, v.Teams); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestOptionsThatCannotBeAreRefused when the exporter starts.
func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	good := lease.Options{Store: new(shaky), Host: "here", MaxTTL: time.Hour}
	if _, err := lease.NewManager(good); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*lease.Options){
		"need a store":                func(o *lease.Options) { o.Store = nil },
		"need the name of the host":   func(o *lease.Options) { o.Host = "" },
		"the longest time of a lease": func(o *lease.Options) { o.MaxTTL = 0 },
		"of a lease is 99999h":        func(o *lease.Options) { o.MaxTTL = 99999 * time.Hour },
		"is negative":                 func(o *lease.Options) { o.MaxPerTeam = -1 },
	} {
		o := good
		change(&o)
		if _, err := lease.NewManager(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
