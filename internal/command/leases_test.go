//go:build linux

package command

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestWithoutASocketThereAreNoLeases(t *testing.T) {
	if leases := LeasesAt("unix:/does/not/exist"); leases != nil {
		t.Errorf("got %v, want nothing, or --format=prometheus has metrics of leases", leases)
	}
}

func TestLeasesAreReadFromTheExporter(t *testing.T) {
	gone := program.AnswerLeases(t, 0, "")
	listener, err := net.Listen("unix", strings.TrimPrefix(gone, "unix:")+"2")
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = listener.Close()
	const held = `{"host": "here", "leases": [{"id": "1", "team": "ci", "name": "job", "proto": "tcp", "ports": [30005], "host": "here", "expires": "2199-01-01T00:00:00Z", "state": "held"}]`
	for _, test := range []struct {
		name, address string
		leases        int
		problem       string // of the view
		away          bool   // an exporter knows the leases, and its store is away
	}{
		{"an exporter with leases", program.AnswerLeases(t, 200, held+"}"), 1, "", false},
		{"an exporter whose store is away", program.AnswerLeases(t, 200, held+`, "problem": "etcd does not answer"}`), 1, "etcd does not answer", true},
		{"no socket", "unix:/does/not/exist", 0, "", false},
		{"a socket that refuses", gone + "2", 0, "connection refused", false},
		{"a socket that hangs", gone, 0, "no answer within 2s", false},
		{"a user who may not ask", program.AnswerLeases(t, 403, `{"error": "who asks is not known"}`), 0, "who asks is not known", false},
		{"something else", program.AnswerLeases(t, 200, "<html>"), 0, "", false},
		{"another host", "leases.example:10191", 0, "want --lease.listen-address=unix:PATH", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			at := lease.HostClock().Boot()
			view := askedLeases{test.address}.Looked(at, nil, true)
			s := &inventory.Snapshot{Leases: &inventory.LeaseView{View: view}, Listeners: make([]inventory.Listener, 1)}
			s.Listeners[0].Verdict.Reason = inventory.ReasonReserved
			clause, matters := leasesUnknown(s)
			known := test.problem == "" && test.name != "something else"
			if len(view.Leases) != test.leases || (view.Err == nil) != known || (clause == "") != known || !strings.Contains(clause, test.problem) {
				t.Errorf("%d leases, want %d; %q, want %q", len(view.Leases), test.leases, clause, test.problem)
			}
			if matters != (!known && !test.away) {
				t.Errorf("it matters to a violation of reserved ports: %t", matters)
			}
			s.Listeners[0].Verdict.Reason = inventory.ReasonBind
			if _, matters := leasesUnknown(s); matters {
				t.Error("it matters to what no lease excuses")
			}
			for _, of := range view.Leases {
				if !of.Alive(at) || !of.Has("tcp", 30005) {
					t.Errorf("the lease is not alive: %+v", of)
				}
			}
		})
	}
}

// nightLeases are the leases at night.
func nightLeases() *inventory.LeaseView {
	return &inventory.LeaseView{Booted: night.Add(-time.Hour), View: lease.View{Time: time.Hour, Leases: []lease.Lease{
		{Name: "job", Team: "ci", User: "alice", Proto: "tcp", Ports: []uint16{30005, 30001}, Deadline: time.Hour + 5*time.Minute},
		{Name: "slow", Team: "ci", User: "alice\x1b", Proto: "tcp", Ports: []uint16{30002}, Deadline: time.Hour - time.Minute, Overstayed: time.Hour - time.Second},
		{Name: "left", Team: "ci", User: "bob", Proto: "udp", Ports: []uint16{30003}, Deadline: time.Hour - 3*time.Second},
		{Name: "far", Team: "ci", User: "carol", Proto: "tcp", Ports: []uint16{30004}, Host: "ci-2"},
	}}}
}

func TestThePortsThatAreAskedForHaveTheirLeases(t *testing.T) {
	s := watched()
	const (
		job  = "leased as job by alice from the ports of ci, until 2026-11-22 03:05:00 CET (in 5m)"
		slow = `leased as slow by alice\x1b from the ports of ci, overstayed: still listens although the lease expired 2026-11-22 02:59:00 CET (60s ago)`
		left = "udp 30003: leased as left by bob from the ports of ci, expired 2026-11-22 02:59:57 CET (3s ago)"
		far  = "tcp 30004: leased as far by carol from the ports of ci on ci-2"
	)
	for _, test := range []struct {
		asked string
		want  []string
		ids   int
	}{
		{"30005", []string{"tcp 30005: " + job}, 1},
		{"job", []string{"tcp 30005: " + job, "tcp 30001: " + job}, 1},
		{"30001-30004", []string{"tcp 30001: " + job, "tcp 30002: " + slow, left, far}, 4},
		{"udp/30001-30003", []string{left}, 1},
		{"22", nil, 0},
	} {
		a, err := answerTo([]string{test.asked}, s, State{}, "here")
		if err != nil {
			t.Errorf("%s: %v", test.asked, err)
			continue
		}
		if diff := cmp.Diff(test.want, a.leases()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.asked, diff)
		}
		if got := len(a.leased()); got != test.ids {
			t.Errorf("%s: %d leases, want %d", test.asked, got, test.ids)
		}
	}
	s.Leases.Err = lease.ErrAway // and nobody can renew it
	a, err := answerTo([]string{"30003"}, s, State{}, "here")
	if err != nil {
		t.Fatal(err)
	}
	const held = "udp 30003: leased as left by bob from the ports of ci, held beyond its time, 2026-11-22 02:59:57 CET (3s ago), as its store cannot be reached"
	if diff := cmp.Diff([]string{held}, a.leases()); diff != "" {
		t.Errorf("while the store is away (-want +got):\n%s", diff)
	}
	if all := jsonLeases(s); all[2].ServiceName != "left" || all[2].State != lease.Held {
		t.Errorf("in JSON, while the store is away: %+v", all[2])
	}
	if _, err := answerTo([]string{"none"}, s, State{}, "here"); err == nil || !strings.Contains(fmt.Sprint(err), "none") {
		t.Errorf("a name that no lease has: %v", err)
	}
}
