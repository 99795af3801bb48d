//go:build linux

package program_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// leasing is an exporter that leases ports, as nobody and without capabilities.
type leasing struct {
	*program.Exporter
	t      *testing.T
	dir    string
	client *http.Client
	flags  []string // of every command. The last one is the address of leases
	limits []string // flags of the exporter only
}

// leased is a lease as the API has it.
type leased struct {
	ID, Team, Name, Proto, Host, State string
	Ports                              []int
	UID                                int
	Expires                            time.Time
}

func startLeasing(t *testing.T, registry string, limits ...string) *leasing {
	t.Helper()
	l := &leasing{t: t, dir: host.OpenDir(t), limits: limits}
	l.prepare(registry)
	l.start()
	return l
}

// prepare writes a registry, and knows the flags for it.
func (l *leasing) prepare(text string) {
	l.t.Helper()
	registry, socket := filepath.Join(l.dir, "ports.yml"), filepath.Join(l.dir, "lease.sock")
	if err := os.WriteFile(registry, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Chown(l.dir, 65534, 65534); err != nil {
		l.t.Fatal(err)
	}
	l.flags = []string{"--collector.netns=self", "--registry.file=" + registry, "--registry.host=here", "--lease.listen-address=unix:" + socket}
	l.client = leaseClient(socket)
}

func (l *leasing) start() {
	l.t.Helper()
	l.Exporter = program.StartNobody(l.t, append(append(l.limits, l.flags...), "--lease.enable", "--lease.file="+filepath.Join(l.dir, "leases.db"),
		"--collector.interval=1s")...)
	l.Await("the socket of leases", func() bool { return len(l.Logged("serving leases")) > 0 })
}

// leaseClient returns a client of the API on a socket.
func leaseClient(socket string) *http.Client {
	return &http.Client{Timeout: program.Patience, Transport: &http.Transport{
		DisableKeepAlives: true, // an exporter that is killed leaves none that is broken
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// askForLease sends a request, and returns the status of the answer, which it parses if answer is not nil.
func askForLease(t *testing.T, client *http.Client, method, path, body string, answer any) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://leases/api/v1/leases"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return resp.StatusCode
}

func (l *leasing) ask(method, path, body string, answer any) (status int) {
	l.t.Helper()
	return askForLease(l.t, l.client, method, path, body, answer)
}

// take takes a lease.
func (l *leasing) take(body string) (of leased) {
	l.t.Helper()
	if status := l.ask(http.MethodPost, "", body, &of); status != http.StatusCreated {
		l.t.Fatalf("POST %s: status %d, want 201", body, status)
	}
	return of
}

func (l *leasing) end(id string) {
	l.t.Helper()
	if status := l.ask(http.MethodDelete, "/"+id, "", nil); status != http.StatusOK {
		l.t.Errorf("DELETE: status %d, want 200", status)
	}
}

// all returns the leases that there are.
func (l *leasing) all() []leased {
	l.t.Helper()
	var answer struct{ Leases []leased }
	l.ask(http.MethodGet, "", "", &answer)
	return answer.Leases
}

// run runs a command as root, and checks its exit code and what it says.
func (l *leasing) run(code int, command []string, want ...string) {
	l.t.Helper()
	got, stdout, stderr := program.Run(l.t, append(append(command, "--web.listen-address="+l.Address), l.flags...)...)
	if got != code {
		l.t.Errorf("%q: exit code %d, want %d:\n%s%s", command, got, code, stdout, stderr)
	}
	for _, text := range want {
		if !strings.Contains(strings.Join(strings.Fields(stdout+stderr), " "), text) {
			l.t.Errorf("%q does not say %q:\n%s%s", command, text, stdout, stderr)
		}
	}
}

// series waits until the metrics have a series with a value. The order of labels is that of the page.
func (l *leasing) series(name, value string) {
	l.t.Helper()
	l.Await(name, func() bool { return program.Samples(l.t, l.Scrape())[name] == value })
}
