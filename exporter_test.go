package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen at once: machines that run tests are busy.
const patience = time.Minute

// mainMark in the environment makes the test binary the real program.
const mainMark = "LISTEN_EXPORTER_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainMark) == "1" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// programCommand returns the real program with the given arguments, not yet started. wrapper is a command that executes
// the rest of its arguments in its own process.
func programCommand(t *testing.T, wrapper []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := slices.Concat(wrapper, []string{self}, args)
	cmd := exec.Command(words[0], words[1:]...)
	// A test binary that counts coverage wants to know where to; one with the race detector else sleeps before it exits.
	cmd.Env = append(os.Environ(), mainMark+"=1", "GOCOVERDIR="+t.TempDir(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// exporter is the real program in a process of its own.
type exporter struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr output
	exited         chan struct{} // closed when the process has ended
	client         *http.Client
	address        string // host:port, as it was logged
	url            string // where it serves
}

// launch starts cmd, which ends with the test at the latest.
func launch(t *testing.T, cmd *exec.Cmd) *exporter {
	t.Helper()
	e := &exporter{t: t, cmd: cmd, exited: make(chan struct{}), client: &http.Client{
		Transport: new(http.Transport),
		Timeout:   patience,
	}}
	cmd.Stdout, cmd.Stderr = &e.stdout, &e.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the exit code is in cmd.ProcessState
		close(e.exited)
	}()
	t.Cleanup(func() {
		e.client.CloseIdleConnections()
		_ = cmd.Process.Kill()
		<-e.exited
		if t.Failed() {
			t.Logf("%s\nstdout:\n%s\nstderr:\n%s", strings.Join(cmd.Args, " "), e.stdout.String(), e.stderr.String())
		}
	})
	return e
}

// listen waits until a launched program has logged where it listens.
func (e *exporter) listen() *exporter {
	e.t.Helper()
	e.await("the address in the log", func() bool {
		for _, line := range e.stderr.lines() {
			if fields, err := parseLine(line); err == nil && fields.get("msg") == "Listening on" {
				e.address = fields.get("address")
				e.url = "http://" + e.address
				return true
			}
		}
		return false
	})
	return e
}

// startExporter starts the program on a free port of the loopback interface and waits until it listens.
func startExporter(t *testing.T, args ...string) *exporter {
	t.Helper()
	return launch(t, programCommand(t, nil, append(args, "--web.listen-address=127.0.0.1:0")...)).listen()
}

// runToEnd runs the program, which is expected to end by itself, and returns its exit code.
func runToEnd(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	e := launch(t, programCommand(t, nil, args...))
	code = e.wait()
	return code, e.stdout.String(), e.stderr.String()
}

// wait waits for the end of the process and returns its exit code.
func (e *exporter) wait() int {
	e.t.Helper()
	select {
	case <-e.exited:
		return e.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		e.t.Fatal("the process does not end")
		return 0
	}
}

// await waits until done returns true.
func (e *exporter) await(what string, done func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-e.exited:
			if done() {
				return
			}
			e.t.Fatalf("the process ended with code %d before: %s", e.cmd.ProcessState.ExitCode(), what)
		default:
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// signal sends a signal to the process.
func (e *exporter) signal(s os.Signal) {
	e.t.Helper()
	if err := e.cmd.Process.Signal(s); err != nil {
		e.t.Fatal(err)
	}
}

// response is an answer, read to its end.
type response struct {
	status int
	header http.Header
	body   string
}

// request sends a request without a body.
func (e *exporter) request(method, path string) (response, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, e.url+path, http.NoBody)
	if err != nil {
		return response{}, err
	}
	return e.do(req)
}

func (e *exporter) do(req *http.Request) (response, error) {
	resp, err := e.client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return response{status: resp.StatusCode, header: resp.Header, body: string(body)}, err
}

// get returns the answer to a GET request.
func (e *exporter) get(path string) response {
	e.t.Helper()
	resp, err := e.request(http.MethodGet, path)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp
}

// scrape returns the metrics page, which must be there.
func (e *exporter) scrape() string {
	e.t.Helper()
	resp := e.get("/metrics")
	if resp.status != http.StatusOK {
		e.t.Fatalf("GET /metrics: status %d, want 200: %s", resp.status, resp.body)
	}
	return resp.body
}

// errorLines returns the log lines of the level error.
func (e *exporter) errorLines() []string {
	return slices.DeleteFunc(e.stderr.lines(), func(line string) bool {
		fields, err := parseLine(line)
		return err == nil && fields.get("level") != "error"
	})
}

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// lines returns the lines that have been written to their end.
func (o *output) lines() []string { return completeLines(o.String()) }

// completeLines returns the lines of text that end with a newline, without it.
func completeLines(text string) []string {
	parts := strings.Split(text, "\n")
	return parts[:len(parts)-1]
}
