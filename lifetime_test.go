package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// systemd gives the socket as file descriptor 3 and names the process that shall take it.
func TestASocketFromSystemdIsServed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	// From now on the socket lives in the file alone.
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := programCommand(t, []string{"/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`},
		"--web.systemd-socket", "--path.procfs="+newProcfs(t), "--web.listen-address=nonsense")
	cmd.Env = append(cmd.Env, "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{socket}
	e := launch(t, cmd).listen()
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	if e.address != address {
		t.Errorf("listens on %s, want %s", e.address, address)
	}
	e.scrape()
	e.signal(syscall.SIGTERM)
	if code := e.wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// pending is a request whose answer has not come yet.
type pending chan struct {
	response
	err error
}

// getLater sends a GET request and does not wait for the answer.
func (e *exporter) getLater(path string) pending {
	answer := make(pending, 1)
	go func() {
		resp, err := e.request(http.MethodGet, path)
		answer <- struct {
			response
			err error
		}{resp, err}
	}()
	return answer
}

func (p pending) wait(t *testing.T) response {
	t.Helper()
	answer := <-p // the client has a timeout
	if answer.err != nil {
		t.Fatal(answer.err)
	}
	return answer.response
}

func TestMoreScrapesThanAllowedAreRefused(t *testing.T) {
	t.Parallel()
	procfs := newProcfs(t)
	e := startExporter(t, "--path.procfs="+procfs, "--web.max-requests=1")
	e.awaitReady()
	g := closeGate(t, procfs)
	first := e.getLater("/metrics")
	open := g.await()
	second := e.get("/metrics")
	if second.status != http.StatusServiceUnavailable {
		t.Errorf("second scrape: status %d, want 503", second.status)
	}
	if resp := e.get("/-/healthy"); resp.status != http.StatusOK {
		t.Errorf("/-/healthy beside it: status %d, want 200", resp.status)
	}
	open()
	if resp := first.wait(t); resp.status != http.StatusOK {
		t.Errorf("first scrape: status %d, want 200", resp.status)
	}
	e.scrape()
}

func TestWithoutALimitEveryScrapeIsServed(t *testing.T) {
	t.Parallel()
	procfs := newProcfs(t)
	e := startExporter(t, "--path.procfs="+procfs, "--web.max-requests=0")
	e.awaitReady()
	g := closeGate(t, procfs)
	var scrapes []pending
	for range 50 { // more than the default limit
		scrapes = append(scrapes, e.getLater("/metrics"))
	}
	open := g.await()
	open()
	for _, scrape := range scrapes {
		if resp := scrape.wait(t); resp.status != http.StatusOK {
			t.Errorf("status %d, want 200", resp.status)
		}
	}
}

func TestASlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	e := startExporter(t, "--path.procfs="+newProcfs(t))
	conns := make(map[string]net.Conn)
	for name, sent := range map[string]string{
		"nothing sent":              "",
		"header without its end":    "GET /metrics HTTP/1.1\r\nHost: localhost\r\n",
		"body without its end":      "GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nshort",
		"second header without end": "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET /",
	} {
		conn, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		conns[name] = conn
	}
	deadline := time.Now().Add(patience)
	for name, conn := range conns {
		if err := conn.SetReadDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !isReset(err) {
			t.Errorf("%s: the server does not close the connection: %v", name, err)
		}
	}
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

func TestASignalLetsTheScrapeUnderWayFinish(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			procfs := newProcfs(t)
			e := startExporter(t, "--path.procfs="+procfs, "--web.disable-exporter-metrics")
			e.awaitReady()
			before := e.scrape()

			g := closeGate(t, procfs)
			scrape := e.getLater("/metrics")
			open := g.await()
			e.signal(s)
			e.await("the end of listening", func() bool {
				conn, err := net.Dial("tcp", e.address)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
			select {
			case <-scrape:
				t.Fatal("the scrape was answered before its read was finished")
			case <-e.exited:
				t.Fatal("the process ended before the scrape was answered")
			case <-time.After(100 * time.Millisecond):
			}
			open()
			resp := scrape.wait(t)
			if resp.status != http.StatusOK {
				t.Errorf("status %d, want 200", resp.status)
			}
			withoutDurations := func(page string) map[string]string {
				found := samples(t, page)
				for series := range found {
					if strings.HasPrefix(series, "host_listen_collector_duration_seconds{") {
						delete(found, series)
					}
				}
				return found
			}
			if diff := cmp.Diff(withoutDurations(before), withoutDurations(resp.body)); diff != "" {
				t.Errorf("the page differs from the one before (-want +got):\n%s", diff)
			}
			if code := e.wait(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			if lines := e.errorLines(); len(lines) > 0 {
				t.Errorf("errors in the log: %q", lines)
			}
		})
	}
}

// A connection that is kept alive between scrapes, as Prometheus does, must not hold up the end.
func TestASignalEndsAnIdleExporterAtOnce(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			e := startExporter(t, "--path.procfs="+newProcfs(t))
			conn, err := net.Dial("tcp", e.address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			start := time.Now()
			e.signal(s)
			if code := e.wait(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			if took := time.Since(start); took >= shutdownTimeout {
				t.Errorf("took %s: it waited for the idle connection", took)
			}
		})
	}
}
