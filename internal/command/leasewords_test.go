//go:build linux

package command

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/lease/api"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestWhyThereIsNoLeaseIsSaidInFull(t *testing.T) {
	in := func(d time.Duration) *time.Time { at := time.Now().Add(d); return &at }
	for _, test := range []struct {
		name   string
		args   string
		status int
		answer any
		code   int // without a command
		want   string
	}{
		{
			"none left", "", http.StatusConflict,
			api.Error{Message: "team ci has 0 of 9 ports left, and 1 is asked for", Exhausted: &api.Exhausted{
				Team: "ci", Count: 1, Size: 9, More: 4, Holders: []api.Holder{
					{Port: 30001, Why: "leased", Name: "npm", User: "alice", Host: "here", Expires: in(4*time.Minute + 30*time.Second)},
					{Port: 30002, Why: "overstayed", Name: "e2e", User: "bob", Host: "here", Expires: in(-3*time.Minute - time.Second)},
					{Port: 30003, Why: "leased", Name: "preview", User: "alice", Host: "ci-2"},
					{Port: 30004, Why: "in use"},
					{Port: 30005, Why: `service "web" declares it`},
				},
			}},
			ExitFound, `listen_exporter: error: team ci has 0 of 9 ports left, and 1 is asked for
 PORT  NAME     USER        EXPIRES  WHY
30001  npm      alice       in 4m    leased
30002  e2e      bob         3m ago   overstayed
30003  preview  alice@ci-2  -        leased
30004  -        -           -        in use
30005  -        -           -        service "web" declares it
… and 4 more lines
`,
		},
		{
			"not allowed", "", http.StatusForbidden,
			api.Error{Message: "user bob may not lease from the ranges of team ci, only alice and root may: want bob in users of the range, in the registry"},
			ExitTrouble, "listen_exporter: error: user bob may not lease from the ranges of team ci, only alice and root may: want bob in users of the range, in the registry\n",
		},
		{
			"a bad field", "--ttl=2d", http.StatusBadRequest,
			api.Error{Field: "ttl", Message: "ttl: 2d is longer than 1d"},
			ExitTrouble, "listen_exporter: error: --ttl: 2d is longer than 1d\n",
		},
		{
			"the store is away", "", http.StatusServiceUnavailable, away,
			ExitTrouble, "listen_exporter: error: the store of leases cannot be reached; try again in 7s\n",
		},
		{
			"a password", "", http.StatusUnauthorized, "Unauthorized",
			ExitTrouble, "listen_exporter: error: the exporter wants a password on ADDRESS, which this command has none of: want the unix: address of its --lease.listen-address\n",
		},
		{
			"not an exporter", "", http.StatusTeapot, "<html>",
			ExitTrouble, "listen_exporter: error: the answer is 418 I'm a teapot, which is not one of the API for leases\n",
		},
		{
			"an answer of something else", "", http.StatusOK, "hello",
			ExitTrouble, "listen_exporter: error: ask the exporter on ADDRESS: the answer is not one of the API for leases: json: cannot unmarshal string into Go value of type api.Lease\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newLeaseServer(t)
			s.refuse = func(string, int) (int, any) { return test.status, test.answer }
			want := strings.ReplaceAll(test.want, "ADDRESS", s.address)
			for code, command := range map[int]string{test.code: "", ExitNotLeased: " -- echo ran"} {
				e := s.start(t, strings.Fields(""+test.args+command)...)
				if got := e.Wait(); got != code || e.Stdout.String() != "" {
					t.Errorf("%q: exit code %d, want %d; on stdout: %s", command, got, code, e.Stdout.String())
				}
				if diff := cmp.Diff(want, e.Stderr.String()); diff != "" {
					t.Errorf("%q: on stderr (-want +got):\n%s", command, diff)
				}
			}
		})
	}
}

// Whoever has reached a limit sees what to end.
func TestALimitIsShownWithTheLeasesBelowIt(t *testing.T) {
	s := newLeaseServer(t)
	s.refuse = func(what string, _ int) (int, any) {
		if what == http.MethodPost {
			return http.StatusTooManyRequests, api.Error{Message: "user alice has 3 of at most 3 leased ports: end a lease first"}
		}
		soon := time.Now().Add(150*time.Second + time.Second/2)
		own := uint32(os.Getuid())
		return http.StatusOK, api.Listing{Host: "here", Leases: []api.Lease{
			{ID: leaseID, Team: "ci", Name: "npm\x1b[2J", Ports: []uint16{30001, 30002}, UID: own, User: "alice", Host: "here", Expires: &soon},
			{ID: "1", Team: "ci", Name: "e2e", Ports: []uint16{30003}, UID: own + 1, User: "bob", Host: "here", Expires: &soon},
			{ID: "2", Team: "web", Name: "other", Ports: []uint16{30004}, UID: own + 1, User: "bob", Host: "here", Expires: &soon},
			{ID: "3", Team: "ci", Name: "far", Ports: []uint16{30005}, UID: own, User: "alice", Host: "there"},
		}}
	}
	const limit = "listen_exporter: error: user alice has 3 of at most 3 leased ports: end a lease first\n"
	for args, want := range map[string]string{
		"": limit + `        PORT  NAME        USER   EXPIRES  ID
30001, 30002  npm\x1b[2J  alice  in 2m    6f1c0a52e4b94d7f8c33b1d09a7e5f24
`,
		"--team=ci": limit + `        PORT  NAME        USER   EXPIRES  ID
30001, 30002  npm\x1b[2J  alice  in 2m    6f1c0a52e4b94d7f8c33b1d09a7e5f24
       30003  e2e         bob    in 2m    1
`,
	} {
		e := s.start(t, strings.Fields(args)...)
		if code := e.Wait(); code != ExitTrouble {
			t.Errorf("%q: exit code %d, want 2", args, code)
		}
		if diff := cmp.Diff(want, e.Stderr.String()); diff != "" {
			t.Errorf("%q: on stderr (-want +got):\n%s", args, diff)
		}
	}
}

func TestWithoutAnExporterTheCommandDoesNotRun(t *testing.T) {
	address := "unix:" + filepath.Join(host.OpenDir(t), "s")
	code, stdout, stderr := program.Run(t, "lease", "--lease.listen-address="+address, "--", "echo", "ran")
	want := "listen_exporter: error: no exporter gives leases on " + address + ": does it run, with --lease.enable and this --lease.listen-address?\n"
	if code != ExitNotLeased || stdout != "" || stderr != want {
		t.Errorf("exit code %d, want 125; on stdout %q; on stderr %q, want %q", code, stdout, stderr, want)
	}
}
