//go:build linux

package command

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/lease/api"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// leaseServer is a server of leases that gives ports from 30001 on and does as a test says.
type leaseServer struct {
	address string
	// refuse returns the status of a request and its answer, or 0 if the request is granted. It is called with such as "POST", "renew"
	// or "DELETE", and how many of those came before.
	refuse func(what string, before int) (status int, answer any)
	// ttl is that of its leases, or 0 for that of the request, or an hour if that has none.
	ttl time.Duration

	mu    sync.Mutex // a test changes the server only before command, and looks at it after requests
	done  []string
	asked api.Request
}

const leaseID = "6f1c0a52e4b94d7f8c33b1d09a7e5f24"

// newLeaseServer returns a server that listens on a Unix socket until the test ends.
func newLeaseServer(t *testing.T) *leaseServer {
	t.Helper()
	s := &leaseServer{address: "unix:" + filepath.Join(host.OpenDir(t), "s")} // a short name: the path of a socket has at most 107 bytes
	listener, err := net.Listen("unix", strings.TrimPrefix(s.address, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return s
}

func (s *leaseServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := r.Method
	if strings.HasSuffix(r.URL.Path, "/renew") {
		what = "renew"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := strings.Count(strings.Join(s.done, " "), what)
	s.done = append(s.done, what)
	if what == http.MethodPost {
		s.asked = api.Request{}
		_ = json.NewDecoder(r.Body).Decode(&s.asked)
	}
	status, answer := 0, any(nil)
	if s.refuse != nil {
		status, answer = s.refuse(what, before)
	}
	if status == 0 {
		status, answer = http.StatusOK, s.lease(s.asked)
	}
	if status == http.StatusServiceUnavailable && what == http.MethodPost {
		w.Header().Set("Retry-After", "7")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// lease returns the lease that the server gives.
func (s *leaseServer) lease(asked api.Request) api.Lease {
	ttl := time.Duration(asked.TTL)
	switch {
	case s.ttl != 0:
		ttl = s.ttl
	case ttl == 0:
		ttl = time.Hour
	}
	expires := time.Now().Add(ttl)
	l := api.Lease{ID: leaseID, Team: "ci", Name: asked.Name, Proto: asked.Proto, User: "alice", Host: "here", TTL: api.Duration(ttl), Expires: &expires, State: api.Held}
	for n := range asked.Count {
		l.Ports = append(l.Ports, uint16(30001+n))
	}
	return l
}

// requests returns what was asked, such as "POST renew renew DELETE".
func (s *leaseServer) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.done, " ")
}

// start starts the command lease, with these arguments.
func (s *leaseServer) start(t *testing.T, args ...string) *program.Exporter {
	t.Helper()
	return program.Launch(t, s.command(t, args...))
}

func (s *leaseServer) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := program.Command(t, append([]string{"lease", "--lease.listen-address=" + s.address}, args...)...)
	cmd.WaitDelay = time.Second // a command that outlives lease has its standard output
	return cmd
}

func TestACommandHasTheLeasedPortsInItsEnvironment(t *testing.T) {
	s := newLeaseServer(t)
	cmd := s.command(t, "--count=2", "--ttl=10m", "--proto=udp", "--", "sh", "-c", `cat; echo "$0" "$@"; env | grep '^PORT' | sort`, "--team=b", "", "-")
	cmd.Env = append(cmd.Env, "PORT=1", "PORT_1=2", "PORT_2=3", "PORT_3=4", "PORT_NAME=x")
	cmd.Stdin = strings.NewReader("input\n")
	e := program.Launch(t, cmd)
	if code := e.Wait(); code != 0 || e.Stderr.String() != "" {
		t.Errorf("exit code %d; on stderr: %s", code, e.Stderr.String())
	}
	want := "input\n--team=b  -\nPORT=30001\nPORT_1=30001\nPORT_2=30002\nPORT_NAME=x\n"
	if diff := cmp.Diff(want, e.Stdout.String()); diff != "" {
		t.Errorf("output of the command (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("POST DELETE", s.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(api.Request{Name: "sh", Proto: "udp", TTL: api.Duration(10 * time.Minute), Count: 2}, s.asked); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestTheNameOfALeaseIsThatOfItsCommand(t *testing.T) {
	for command, want := range map[string]string{
		"npm":                      "npm",
		"/usr/bin/python3.12":      "python3.12",
		"./run tests (all).sh":     "run-tests--all-.sh",
		"größe":                    "gr--e",
		strings.Repeat("long", 20): strings.Repeat("long", 20)[:63],
	} {
		if got := nameOf(command); got != want {
			t.Errorf("%q: name %q, want %q", command, got, want)
		}
	}
}

// A service that declares a port may be called like the program that a developer runs.
func TestALeaseHasAnotherNameWhereAServiceHasThatOfTheCommand(t *testing.T) {
	s := newLeaseServer(t)
	s.refuse = func(what string, _ int) (int, any) {
		if what == http.MethodPost && s.asked.Name != "" {
			return http.StatusBadRequest, api.Error{Field: "name", Message: `name: "sh" is a service of the registry: want another name`}
		}
		return 0, nil
	}
	if e := s.start(t, "--", "sh", "-c", "exit 4"); e.Wait() != 4 || s.requests() != "POST POST DELETE" || s.asked.Name != "" {
		t.Errorf("requests %s, the last one with the name %q", s.requests(), s.asked.Name)
	}
	if e := s.start(t, "--name=sh", "--", "sh", "-c", "exit 4"); e.Wait() != ExitNotLeased || !strings.HasPrefix(e.Stderr.String(), `listen_exporter: error: --name: "sh" is a service`) {
		t.Errorf("exit code %d; on stderr: %s", e.Wait(), e.Stderr.String())
	}
}

func TestTheExitCodeIsThatOfTheCommand(t *testing.T) {
	s := newLeaseServer(t)
	noInterpreter := executable(t, "#!/does/not/exist\n")
	noScript := executable(t, "exit 0\n")
	const ran, notTaken, givenBack = "POST DELETE", "", "POST DELETE"
	for _, test := range []struct {
		name     string
		command  []string
		code     int
		requests string
		stderr   string
	}{
		{"success", []string{"true"}, 0, ran, ""},
		{"failure", []string{"sh", "-c", "exit 3"}, 3, ran, ""},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, 137, ran, ""},
		{"ended by a signal", []string{"sh", "-c", "kill -TERM $$"}, 143, ran, ""},
		{"interrupted, not by the terminal", []string{"sh", "-c", "kill -INT $$"}, 130, ran, ""},
		{"not found", []string{"no-such-program"}, 127, notTaken, `cannot run "no-such-program": there is no such program on the PATH`},
		{"no such file", []string{"./no-such-program"}, 127, notTaken, `cannot run "./no-such-program": there is no such file`},
		{"not executable", []string{program.WriteFile(t, "script", "#!/bin/sh\n")}, 126, notTaken, "permission denied"},
		{"directory", []string{"/"}, 126, notTaken, `cannot run "/": is a directory`},
		{"no interpreter", []string{noInterpreter}, 127, givenBack, "the interpreter that it names is not there"},
		{"neither a program nor a script", []string{noScript}, 126, givenBack, "without #! in its first line"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.done = nil
			e := s.start(t, append([]string{"--"}, test.command...)...)
			if code := e.Wait(); code != test.code || s.requests() != test.requests {
				t.Errorf("exit code %d, want %d; requests %q, want %q", code, test.code, s.requests(), test.requests)
			}
			if stderr := e.Stderr.String(); !strings.Contains(stderr, test.stderr) || strings.Count(stderr, "\n") != min(len(test.stderr), 1) {
				t.Errorf("on stderr %q, want %q", stderr, test.stderr)
			}
		})
	}
}

// executable returns the path of a file that may be executed.
func executable(t *testing.T, content string) string {
	t.Helper()
	path := program.WriteFile(t, "run", content)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLeaseWithoutACommandPrintsTheLease(t *testing.T) {
	s := newLeaseServer(t)
	for _, test := range []struct {
		args     string
		requests string
		stdout   string
	}{
		{"--count=3", "POST", "30001\n30002\n30003\n"},
		{"--renew=" + leaseID, "renew", ""},
		{"--end=" + leaseID, "DELETE", ""},
		{"--format=json", "POST", "json"},
		{"--format=json --renew=" + leaseID, "renew", "json"},
		{"--format=json --end=" + leaseID, "DELETE", "json"},
	} {
		s.done, s.asked.Count = nil, 1
		e := s.start(t, strings.Fields(test.args)...)
		if code := e.Wait(); code != 0 || e.Stderr.String() != "" || s.requests() != test.requests {
			t.Errorf("%s: exit code %d, requests %s, want %s; on stderr: %s", test.args, code, s.requests(), test.requests, e.Stderr.String())
		}
		if test.stdout != "json" {
			if diff := cmp.Diff(test.stdout, e.Stdout.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.args, diff)
			}
			continue
		}
		var l api.Lease
		if err := json.Unmarshal([]byte(e.Stdout.String()), &l); err != nil || l.ID != leaseID || len(l.Ports) != 1 || l.Ports[0] != 30001 {
			t.Errorf("%s: %v in:\n%s", test.args, err, e.Stdout.String())
		}
	}
}

func TestWhatDoesNotGoTogetherIsRefusedBeforeTheExporterIsAsked(t *testing.T) {
	s := newLeaseServer(t)
	for args, want := range map[string]struct {
		code   int
		stderr string
	}{
		"--renew=1 --end=1":                      {ExitTrouble, "want one of --renew, --end and a command"},
		"--end=1 -- true":                        {ExitNotLeased, "want one of --renew, --end and a command"},
		"--renew=1 --ttl=1h":                     {ExitTrouble, "--ttl has no effect with --renew: want one of them"},
		"--count=1 --renew=1":                    {ExitTrouble, "--count has no effect with --renew"},
		"--renew 1 --name=x":                     {ExitTrouble, "--name has no effect with --renew"},
		"--renew=1 --team x":                     {ExitTrouble, "--team has no effect with --renew"},
		"--end=1 --proto=tcp":                    {ExitTrouble, "--proto has no effect with --end"},
		"--key= --end=1":                         {ExitTrouble, "--key has no effect with --end"},
		"--renew=1 -- true":                      {ExitNotLeased, "want one of --renew, --end and a command"},
		"--format=json -- true":                  {ExitNotLeased, "--format=json prints the lease: want it without a command"},
		"--lease.listen-address=ftp://x -- true": {ExitNotLeased, `--lease.listen-address: "ftp://x" is no address of leases`},
		"--lease.listen-address=/s -- true":      {ExitNotLeased, `--lease.listen-address: "/s" is no address of leases: want unix:PATH`},
	} {
		cmd := s.command(t, strings.Fields(args)...)
		if strings.HasPrefix(args, "--lease") {
			cmd = program.Command(t, append([]string{"lease"}, strings.Fields(args)...)...)
		}
		e := program.Launch(t, cmd)
		if code := e.Wait(); code != want.code || !strings.HasPrefix(e.Stderr.String(), "listen_exporter: error: "+want.stderr) || s.requests() != "" {
			t.Errorf("%s: exit code %d, want %d; requests %q; on stderr: %s", args, code, want.code, s.requests(), e.Stderr.String())
		}
	}
}

// awaitRequests waits until the server was asked something so often.
func (s *leaseServer) awaitRequests(e *program.Exporter, what string, times int) {
	e.Await(fmt.Sprintf("%d times %s", times, what), func() bool { return strings.Count(s.requests(), what) >= times })
}
