//go:build linux

package program_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/program"
)

const droppedLines = "host_listen_log_lines_dropped_total"

// fullPipe returns the ends of a pipe that takes nothing more.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() {
		_ = r.Close()
		_ = w.Close()
	})
	fd := int(w.Fd()) // which makes it blocking, as a shell's pipe is
	must(t, unix.SetNonblock(fd, true))
	for err == nil {
		_, err = unix.Write(fd, append(make([]byte, 4095), '\n'))
	}
	must(t, unix.SetNonblock(fd, false))
	return r, w
}

// manyFaults is a registry with more faults than are logged one by one.
func manyFaults(word string) string {
	text := "services:\n"
	for n := range 30 {
		text += fmt.Sprintf("  - {name: s%d, %s: 1, port: 0}\n", n, word)
	}
	return text
}

func TestALogThatNobodyReadsHoldsUpNothing(t *testing.T) {
	r, w := fullPipe(t)
	file := program.WriteFile(t, "ports.yml", registryA)
	address := program.FreeAddress(t)
	cmd := program.Command(t, "--web.listen-address="+address, "--web.enable-lifecycle", "--path.procfs="+program.NewProcfs(t), "--registry.file="+file)
	cmd.Stderr = w
	e := program.Launch(t, cmd).ListenUnread(address)
	if got := program.Samples(t, e.Scrape())[droppedLines]; got != "0" {
		t.Errorf("%s %s at first, want 0", droppedLines, got)
	}
	for n := 0; program.Samples(t, e.Scrape())[droppedLines] == "0"; n++ {
		if n == 1000 {
			t.Fatal("no line is dropped")
		}
		for m := range 10 {
			put(t, file, manyFaults(fmt.Sprintf("a%d", m)))
			resp, err := e.Request(http.MethodPost, "/-/reload")
			must(t, err)
			if resp.Status != http.StatusInternalServerError {
				t.Fatalf("status %d, want 500", resp.Status)
			}
		}
	}

	// The reader is back.
	dropped, err := strconv.ParseFloat(program.Samples(t, e.Scrape())[droppedLines], 64)
	must(t, err, r.SetReadDeadline(time.Now().Add(program.Patience)))
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text := lines.Text()
		if strings.HasPrefix(text, "\x00") {
			continue // from fullPipe
		}
		fields, err := program.ParseLine(text)
		must(t, err)
		if fields.Get("msg") == "log lines were dropped, because nobody read the log" {
			if fields.Get("lines") != fmt.Sprint(dropped) || fields.Get("level") != "warn" {
				t.Errorf("want %v lines and a warning: %s", dropped, text)
			}
			e.Stop()
			return
		}
	}
	t.Errorf("no line about what was dropped: %v", lines.Err())
}

func TestASignalEndsTheProgramThoughNobodyReadsItsLog(t *testing.T) {
	_, w := fullPipe(t)
	address := program.FreeAddress(t)
	cmd := program.Command(t, "--web.listen-address="+address, "--path.procfs="+program.NewProcfs(t))
	cmd.Stderr = w
	e := program.Launch(t, cmd).ListenUnread(address)
	e.Scrape()
	start := time.Now()
	e.Stop()
	if took := time.Since(start); took >= 20*time.Second {
		t.Errorf("took %s", took)
	}
}

// systemd starts its journal again, and then a write fails instead of waiting.
func TestALogWithoutAReaderDoesNotEndTheProgram(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	address := program.FreeAddress(t)
	cmd := program.Command(t, "--web.listen-address="+address, "--path.procfs="+program.NewProcfs(t))
	cmd.Stderr = w
	must(t, r.Close())
	e := program.Launch(t, cmd).ListenUnread(address)
	must(t, w.Close())
	e.Await("dropped lines", func() bool { return program.Samples(t, e.Scrape())[droppedLines] != "0" })
	e.Stop()
}

// Each reload of a bad file logs few lines, and one line while the file stays as it is. Every line is short.
func TestABadFileDoesNotFloodTheLog(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", registryA)
	e := program.Start(t, "--web.enable-lifecycle", "--path.procfs="+program.NewProcfs(t), "--registry.file="+file)
	put(t, file, manyFaults(strings.Repeat("x", 1000)))
	const posts = 20
	for range posts {
		resp, err := e.Request(http.MethodPost, "/-/reload")
		must(t, err)
		if len(resp.Body) > 3000 || strings.Contains(resp.Body, "xxx") {
			t.Errorf("the answer has %d bytes: %.300q", len(resp.Body), resp.Body)
		}
	}
	e.Stop()
	lines := e.ErrorLines()
	const first = 10 + 1 // and one that counts the rest
	if len(lines) < first+posts-1 || len(lines) > 2*first+posts-1 {
		t.Errorf("%d lines for %d reloads", len(lines), posts)
	}
	if rest := e.Logged(`err="and 50 more"`); len(rest) == 0 {
		t.Errorf("no line counts the rest: %q", lines)
	}
	for _, line := range lines {
		if len(line) > 500 {
			t.Errorf("a line of %d bytes: %.300q", len(line), line)
		}
	}
}

func TestTheStartLogsTheFirstFaultsOfABadFile(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", manyFaults("x"))
	e := program.Launch(t, program.Command(t, "--web.listen-address=127.0.0.1:0", "--path.procfs="+program.NewProcfs(t), "--registry.file="+file))
	if code := e.Wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if lines := e.ErrorLines(); len(lines) != 11 || !strings.Contains(lines[10], "and 50 more") || !strings.Contains(lines[0], filepath.Base(file)+":2:") {
		t.Errorf("logged %q", lines)
	}
}
