//go:build linux

package program

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// Patience is how long a test waits for something that should happen at once: machines that run tests are busy.
const Patience = time.Minute

// Exporter is the running program.
type Exporter struct {
	Cmd            *exec.Cmd
	Stdout, Stderr Output
	Exited         chan struct{} // closed when the process has ended
	Client         *http.Client
	Address        string // host and port, from the log
	URL            string

	t testing.TB
}

// Launch starts cmd. The end of the test ends it. What it writes is in Stdout and Stderr, unless it writes elsewhere.
func Launch(t testing.TB, cmd *exec.Cmd) *Exporter {
	t.Helper()
	e := &Exporter{t: t, Cmd: cmd, Exited: make(chan struct{}), Client: &http.Client{
		Transport: new(http.Transport),
		Timeout:   Patience,
	}}
	if cmd.Stdout == nil {
		cmd.Stdout = &e.Stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &e.Stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the exit code is in cmd.ProcessState
		close(e.Exited)
	}()
	t.Cleanup(func() {
		e.Client.CloseIdleConnections()
		_ = cmd.Process.Kill()
		<-e.Exited
		if t.Failed() {
			t.Logf("%s\nstdout:\n%s\nstderr:\n%s", strings.Join(cmd.Args, " "), e.Stdout.String(), e.Stderr.String())
		}
	})
	return e
}

// Listen waits until the program has logged its address.
func (e *Exporter) Listen() *Exporter {
	e.t.Helper()
	e.Await("the address in the log", func() bool {
		for _, line := range e.Stderr.Lines() {
			if fields, err := ParseLine(line); err == nil && fields.Get("msg") == "Listening on" {
				e.Address = fields.Get("address")
				e.URL = "http://" + e.Address
				return true
			}
		}
		return false
	})
	return e
}

// ListenUnread is Listen for a program whose log is not read. address is its --web.listen-address.
func (e *Exporter) ListenUnread(address string) *Exporter {
	e.t.Helper()
	e.Address, e.URL = address, "http://"+address
	e.Await("an answer", func() bool {
		answer, err := e.Request(http.MethodGet, "/-/healthy")
		return err == nil && answer.Status == http.StatusOK
	})
	return e
}

// FreeAddress returns an address of the loopback interface on which nothing listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// Start starts the program on a free port of the loopback interface and waits until it listens.
func Start(t testing.TB, args ...string) *Exporter {
	t.Helper()
	return Launch(t, Command(t, append(args, "--web.listen-address=127.0.0.1:0")...)).Listen()
}

// Run runs the program to its end.
func Run(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	e := Launch(t, Command(t, args...))
	code = e.Wait()
	return code, e.Stdout.String(), e.Stderr.String()
}

// Wait waits for the end of the process and returns its exit code.
func (e *Exporter) Wait() int {
	e.t.Helper()
	select {
	case <-e.Exited:
		return e.Cmd.ProcessState.ExitCode()
	case <-time.After(Patience):
		e.t.Fatal("the process does not end")
		return 0
	}
}

// Await waits until done returns true.
func (e *Exporter) Await(what string, done func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(Patience); !done(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-e.Exited:
			if done() {
				return
			}
			e.t.Fatalf("the process ended with code %d before: %s", e.Cmd.ProcessState.ExitCode(), what)
		default:
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// AwaitReady waits for the first snapshot.
func (e *Exporter) AwaitReady() {
	e.t.Helper()
	e.Await("readiness", func() bool { return e.Get("/-/ready").Status == http.StatusOK })
}

// Signal sends a signal to the process.
func (e *Exporter) Signal(s os.Signal) {
	e.t.Helper()
	if err := e.Cmd.Process.Signal(s); err != nil {
		e.t.Fatal(err)
	}
}

// Stop ends the program by SIGTERM.
func (e *Exporter) Stop() {
	e.t.Helper()
	e.Signal(syscall.SIGTERM)
	if code := e.Wait(); code != 0 {
		e.t.Errorf("exit code %d, want 0", code)
	}
}

// Response is a complete answer.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Request sends a request without a body.
func (e *Exporter) Request(method, path string) (Response, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, e.URL+path, http.NoBody)
	if err != nil {
		return Response{}, err
	}
	return e.Do(req)
}

// Do sends a request. Whatever metrics page it returns must have no series twice.
func (e *Exporter) Do(req *http.Request) (Response, error) {
	resp, err := e.Client.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=") {
		if _, err := host.ParsePage(string(body)); err != nil {
			e.t.Errorf("%s is not as Prometheus wants it: %v", req.URL.Path, err)
		}
	}
	return Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, err
}

// Get returns the answer to a GET request.
func (e *Exporter) Get(path string) Response {
	e.t.Helper()
	resp, err := e.Request(http.MethodGet, path)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp
}

// GetLater sends a GET request and does not wait for the answer, which is empty if there is none.
func (e *Exporter) GetLater(path string) <-chan Response {
	answer := make(chan Response, 1)
	go func() {
		resp, err := e.Request(http.MethodGet, path)
		if err != nil {
			resp = Response{Body: err.Error()}
		}
		answer <- resp
	}()
	return answer
}

// Scrape returns the metrics page.
func (e *Exporter) Scrape() string {
	e.t.Helper()
	resp := e.Get("/metrics")
	if resp.Status != http.StatusOK {
		e.t.Fatalf("GET /metrics: status %d, want 200: %s", resp.Status, resp.Body)
	}
	return resp.Body
}

// Logged returns the log lines that contain all of some texts.
func (e *Exporter) Logged(texts ...string) []string {
	return slices.DeleteFunc(e.Stderr.Lines(), func(line string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) })
	})
}

// Warnings returns the log lines of the level warn.
func (e *Exporter) Warnings() []string { return e.Logged("level=warn") }

// ErrorLines returns the log lines of the level error, and those that are not log lines.
func (e *Exporter) ErrorLines() []string {
	return slices.DeleteFunc(e.Stderr.Lines(), func(line string) bool {
		fields, err := ParseLine(line)
		return err == nil && fields.Get("level") != "error"
	})
}
