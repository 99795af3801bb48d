//go:build linux

package program_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// systemd passes the socket as file descriptor 3 and names the process that it is for.
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
	// From now on only the file keeps the socket open.
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, program.Path(t),
		"--web.systemd-socket", "--path.procfs="+program.NewProcfs(t), "--web.listen-address=nonsense")
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{socket}
	e := program.Launch(t, cmd).Listen()
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	if e.Address != address {
		t.Errorf("listens on %s, want %s", e.Address, address)
	}
	e.Scrape()
	e.Stop()
}

func TestASlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	e := program.Start(t, "--path.procfs="+program.NewProcfs(t))
	conns := make(map[string]net.Conn)
	for name, sent := range map[string]string{
		"nothing sent":              "",
		"header without its end":    "GET /metrics HTTP/1.1\r\nHost: localhost\r\n",
		"body without its end":      "GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nshort",
		"second header without end": "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET /",
	} {
		conn, err := net.Dial("tcp", e.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		conns[name] = conn
	}
	deadline := time.Now().Add(program.Patience)
	for name, conn := range conns {
		if err := conn.SetReadDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the server does not close the connection: %v", name, err)
		}
	}
}

func TestASignalLetsAScrapeInProgressFinish(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			procfs := program.NewProcfs(t)
			e := program.Start(t, "--path.procfs="+procfs, "--web.disable-exporter-metrics")
			e.AwaitReady()
			before := e.Scrape()

			g := program.CloseGate(t, procfs)
			scrape := e.GetLater("/metrics")
			open := g.Await()
			e.Signal(s)
			e.Await("the end of listening", func() bool {
				conn, err := net.Dial("tcp", e.Address)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
			select {
			case <-scrape:
				t.Fatal("the scrape was answered before its read was finished")
			case <-e.Exited:
				t.Fatal("the process ended before the scrape was answered")
			case <-time.After(100 * time.Millisecond):
			}
			open()
			resp := <-scrape
			if resp.Status != http.StatusOK {
				t.Errorf("status %d, want 200", resp.Status)
			}
			if diff := cmp.Diff(program.Ports(t, before), program.Ports(t, resp.Body)); diff != "" {
				t.Errorf("the page differs from the one before (-want +got):\n%s", diff)
			}
			if code := e.Wait(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			if lines := e.ErrorLines(); len(lines) > 0 {
				t.Errorf("errors in the log: %q", lines)
			}
		})
	}
}

// A connection that is kept alive between scrapes, as Prometheus does, must not hold up the end.
func TestASignalEndsAnIdleExporterAtOnce(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			e := program.Start(t, "--path.procfs="+program.NewProcfs(t))
			conn, err := net.Dial("tcp", e.Address)
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
			e.Signal(s)
			if code := e.Wait(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			if took := time.Since(start); took >= 20*time.Second {
				t.Errorf("took %s: it waited for the idle connection", took)
			}
		})
	}
}

// endsInTime sends SIGTERM and checks that the program ends with code 0 within 20 s, in which service managers do not kill it.
func endsInTime(t *testing.T, e *program.Exporter) {
	t.Helper()
	start := time.Now()
	e.Stop()
	if took := time.Since(start); took >= 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestASignalEndsAStartThatHangs(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "web.yml")
	must(t, syscall.Mkfifo(fifo, 0o644))
	e := program.Launch(t, program.Command(t, "--web.listen-address=127.0.0.1:0", "--path.procfs="+program.NewProcfs(t), "--web.config.file="+fifo))
	e.Await("the last line before the file is read", func() bool { return len(e.Logged("observing a network namespace")) > 0 })
	endsInTime(t, e)
	if lines := e.ErrorLines(); len(lines) > 0 {
		t.Errorf("errors in the log: %q", lines)
	}
}

func TestASignalEndsAProgramWhoseReadsHang(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	procfs := program.NewProcfs(t)
	gate := program.CloseGate(t, procfs)
	e := program.Start(t, "--path.procfs="+procfs) // whose first snapshot hangs
	defer gate.Await()()
	scrape := e.GetLater("/metrics")
	e.Await("a scrape in progress", func() bool { return e.Get("/-/healthy").Status == http.StatusOK })
	endsInTime(t, e)
	if answer := <-scrape; answer.Status != http.StatusOK {
		t.Errorf("the scrape in progress: status %d, want 200: %s", answer.Status, answer.Body)
	}
}

// unreadScrape returns a connection on which a large page was asked for, and is not read.
func unreadScrape(t *testing.T, e *program.Exporter) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", e.Address)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
	must(t, err)
	_, err = io.ReadFull(conn, make([]byte, 1))
	must(t, err)
	return conn
}

// startWithALargePage starts the program with a page that is larger than what a connection buffers.
func startWithALargePage(t *testing.T) *program.Exporter {
	t.Helper()
	procfs := program.NewProcfs(t)
	var table strings.Builder
	table.WriteString(program.TCPHeader)
	for n := range 20_000 {
		table.WriteString(strings.NewReplacer("0016", fmt.Sprintf("%04X", n+1), "1016", fmt.Sprint(100_000+n)).Replace(program.TCP22))
	}
	program.WriteTable(t, procfs, "tcp", table.String())
	return program.Start(t, "--path.procfs="+procfs, "--no-collector.holder")
}

// What is not taken within 10 s is cut off in any case.
func TestAScrapeThatIsNotReadHoldsUpNoEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	t.Parallel()
	e := startWithALargePage(t)
	unreadScrape(t, e)
	unreadScrape(t, e)
	endsInTime(t, e)
	if lines := e.Logged("cut off"); len(lines) != 0 {
		t.Errorf("want no line about requests that were cut off at the end:\n%s", e.Stderr.String())
	}
}

func TestASecondSignalEndsTheProgramAtOnce(t *testing.T) {
	t.Parallel()
	e := startWithALargePage(t)
	unreadScrape(t, e)
	e.Signal(syscall.SIGTERM)
	e.Await("the first signal", func() bool { return len(e.Logged("shutting down")) > 0 })
	e.Signal(syscall.SIGTERM)
	e.Wait()
	if status, ok := e.Cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("%s, want the end by the signal", e.Cmd.ProcessState)
	}
}
