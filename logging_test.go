package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-kit/log/level"
	"github.com/google/go-cmp/cmp"
)

// field is one key of a log line, with its value.
type field struct{ key, value string }

// logLine is a log line, taken apart.
type logLine []field

// get returns the value of a key, or "".
func (l logLine) get(key string) string {
	for _, f := range l {
		if f.key == key {
			return f.value
		}
	}
	return ""
}

func (l logLine) count(key string) int {
	n := 0
	for _, f := range l {
		if f.key == key {
			n++
		}
	}
	return n
}

// parseLine takes a line of either format apart.
func parseLine(line string) (logLine, error) {
	if strings.HasPrefix(line, "{") {
		return parseJSON(line)
	}
	return parseLogfmt(line)
}

var logfmtField = regexp.MustCompile(`^([a-z_][a-z0-9_]*)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)`)

func parseLogfmt(line string) (logLine, error) {
	var fields logLine
	for rest := line; rest != ""; {
		match := logfmtField.FindStringSubmatch(rest)
		if match == nil {
			return nil, fmt.Errorf("no logfmt: %q, at %q", line, rest)
		}
		value := match[2]
		if strings.HasPrefix(value, `"`) {
			var err error
			if value, err = strconv.Unquote(value); err != nil {
				return nil, fmt.Errorf("no logfmt: %q: %w", line, err)
			}
		}
		fields = append(fields, field{match[1], value})
		rest = rest[len(match[0]):]
	}
	return fields, nil
}

// parseJSON keeps keys that are there twice, which encoding/json's own maps would hide.
func parseJSON(line string) (logLine, error) {
	if !json.Valid([]byte(line)) {
		return nil, fmt.Errorf("no JSON: %q", line)
	}
	var fields logLine
	tokens := json.NewDecoder(strings.NewReader(line))
	tokens.UseNumber()
	if start, err := tokens.Token(); err != nil || start != json.Delim('{') {
		return nil, fmt.Errorf("no JSON object: %q", line)
	}
	for tokens.More() {
		key, err := tokens.Token()
		if err != nil {
			return nil, err
		}
		var value any
		if err := tokens.Decode(&value); err != nil {
			return nil, err
		}
		fields = append(fields, field{fmt.Sprint(key), fmt.Sprint(value)})
	}
	return fields, nil
}

var callerForm = regexp.MustCompile(`^[a-z0-9_]+\.go:[1-9][0-9]*$`)

// checkLine takes a log line apart, and checks what every line must have.
func checkLine(t *testing.T, format, line string) logLine {
	t.Helper()
	parse := parseLogfmt
	if format == "json" {
		parse = parseJSON
	}
	fields, err := parse(line)
	if err != nil {
		t.Error(err)
		return nil
	}
	for _, key := range []string{"ts", "level", "msg"} {
		if n := fields.count(key); n != 1 {
			t.Errorf("%d times the key %s, want once: %s", n, key, line)
		}
	}
	if _, err := time.Parse(time.RFC3339Nano, fields.get("ts")); err != nil {
		t.Errorf("timestamp: %v: %s", err, line)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, fields.get("level")) {
		t.Errorf("level %q: %s", fields.get("level"), line)
	}
	if fields.get("msg") == "" {
		t.Errorf("no message: %s", line)
	}
	if fields.count("time") > 0 {
		t.Errorf("a second timestamp, of the key time: %s", line)
	}
	if n := fields.count("caller"); n > 1 {
		t.Errorf("%d callers, want one at most: %s", n, line)
	}
	if caller := fields.get("caller"); caller != "" && !callerForm.MatchString(caller) {
		t.Errorf("the caller %q is no line of a file: %s", caller, line)
	}
	return fields
}

// checkLines checks every line of a log.
func checkLines(t *testing.T, format, text string) []logLine {
	t.Helper()
	if !strings.HasSuffix(text, "\n") {
		t.Errorf("the log does not end with a whole line: %q", text)
	}
	var all []logLine
	for _, line := range completeLines(text) {
		all = append(all, checkLine(t, format, line))
	}
	return all
}

func TestEveryWayIntoTheLogWritesOneTimestampAndAtMostOneCaller(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		for _, test := range []struct {
			name      string
			log       func(loggers)
			wantLevel string
			wantMsg   string
			wantFile  string // of the caller, where there is one
		}{
			{"the program", func(l loggers) { _ = level.Info(l.kit).Log("msg", "hello") }, "info", "hello", "logging_test.go"},
			{"the program, an error", func(l loggers) { _ = level.Error(l.kit).Log("msg", "hello", "err", errors.New("two\nlines")) }, "error", "hello", "logging_test.go"},
			{"the toolkit", func(l loggers) { l.slog.Info("Listening on", "address", "[::]:10190") }, "info", "Listening on", "logging_test.go"},
			{"the toolkit, an error", func(l loggers) { l.slog.Error("Unable to parse", "err", "no \"such\" file") }, "error", "Unable to parse", "logging_test.go"},
			{"the toolkit, attributes", func(l loggers) { l.slog.With("a", 1).Warn("hello", slog.Bool("http2", true)) }, "warn", "hello", "logging_test.go"},
			{"the toolkit, debug", func(l loggers) { l.slog.Debug("hello") }, "debug", "hello", "logging_test.go"},
			{
				"net/http, IPv4 peer", func(l loggers) { l.std.Printf("http: TLS handshake error from %s: %v", "127.0.0.1:40000", io.EOF) },
				"error", "http: TLS handshake error from 127.0.0.1:40000: EOF", "",
			},
			{
				"net/http, IPv6 peer", func(l loggers) {
					l.std.Printf("http: TLS handshake error from %s: %v", "[::1]:40000", "remote error: tls: bad certificate")
				},
				"error", "http: TLS handshake error from [::1]:40000: remote error: tls: bad certificate", "",
			},
			{
				"net/http, a panic", func(l loggers) {
					l.std.Printf("http: panic serving 127.0.0.1:1: boom\ngoroutine 1 [running]:\nmain.f()\n\t/src/main.go:12 +0x1d")
				},
				"error", "http: panic serving 127.0.0.1:1: boom\ngoroutine 1 [running]:\nmain.f()\n\t/src/main.go:12 +0x1d", "",
			},
			{
				"promhttp", func(l loggers) {
					l.std.Println("error encoding and sending metric family:", errors.New("write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe"))
				},
				"error", "error encoding and sending metric family: write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe", "",
			},
			{"a date in a message", func(l loggers) { l.std.Print("2026/11/22 10:11:12 main.go:1: hello") }, "error", "2026/11/22 10:11:12 main.go:1: hello", ""},
		} {
			t.Run(test.name+", "+format, func(t *testing.T) {
				var text bytes.Buffer
				test.log(newLoggers(&text, "debug", format))
				lines := checkLines(t, format, text.String())
				if len(lines) != 1 {
					t.Fatalf("%d lines, want 1:\n%s", len(lines), &text)
				}
				file, _, _ := strings.Cut(lines[0].get("caller"), ":")
				want := []string{test.wantLevel, test.wantMsg, test.wantFile}
				if diff := cmp.Diff(want, []string{lines[0].get("level"), lines[0].get("msg"), file}); diff != "" {
					t.Errorf("level, message and file differ (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestTheLogHoldsNothingBelowItsLevel(t *testing.T) {
	ranks := []string{"debug", "info", "warn", "error"}
	for rank, minimum := range ranks {
		t.Run(minimum, func(t *testing.T) {
			var text bytes.Buffer
			l := newLoggers(&text, minimum, "logfmt")
			_ = level.Debug(l.kit).Log("msg", "kit")
			l.slog.Debug("slog")
			_ = level.Info(l.kit).Log("msg", "kit")
			l.slog.Info("slog")
			_ = level.Warn(l.kit).Log("msg", "kit")
			l.slog.Warn("slog")
			_ = level.Error(l.kit).Log("msg", "kit")
			l.slog.Error("slog")
			l.std.Print("std")

			var want []string
			for _, r := range ranks[rank:] {
				want = append(want, r+" kit", r+" slog")
			}
			want = append(want, "error std")
			var got []string
			for _, line := range checkLines(t, "logfmt", text.String()) {
				got = append(got, line.get("level")+" "+line.get("msg"))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("lines differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheRunningProgramLogsWholeLinesInTheFormatThatWasAskedFor(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			procfs := newProcfs(t)
			writeTable(t, procfs, "udp", "")
			identity := newIdentity(t)
			e := startExporter(t, "--path.procfs="+procfs, "--no-collector.holder", "--log.format="+format, "--web.config.file="+identity.config)
			e.useTLS(identity)

			// The program's own error, and one line of it however often it is scraped.
			for range 3 {
				e.scrape()
			}
			// net/http's error.
			conn, err := net.Dial("tcp", e.address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "this is no TLS handshake\n"); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			e.await("a line about the handshake", func() bool { return strings.Contains(e.stderr.String(), "TLS handshake error") })
			// The toolkit's error: it reads its file again at each request.
			if err := os.WriteFile(identity.config, []byte("{"), 0o644); err != nil {
				t.Fatal(err)
			}
			if resp := e.get("/metrics"); resp.status != http.StatusInternalServerError {
				t.Errorf("status %d with a broken web config, want 500", resp.status)
			}
			e.signal(os.Interrupt)
			if code := e.wait(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}

			var got []string
			for _, line := range checkLines(t, format, e.stderr.String()) {
				file, _, _ := strings.Cut(line.get("caller"), ":")
				message := line.get("msg")
				if strings.HasPrefix(message, "http: TLS handshake error from 127.0.0.1:") {
					message = "http: TLS handshake error"
				}
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %q %s", line.get("level"), message, file)))
			}
			want := []string{
				`info "starting listen_exporter" serve.go`,
				`warn "the observed network namespace is not the exporter's own: it is read through procfs, and port ranges are the kernel's defaults, whatever its sysctls say" inventory.go`,
				`info "observing a network namespace" inventory.go`,
				`info "Listening on" tls_config.go`,
				`info "TLS is enabled." tls_config.go`,
				`error "cannot read listening udp sockets" troubles.go`,
				`error "http: TLS handshake error"`,
				`error "Unable to parse configuration" handler.go`,
				`info "stopping: no new scrapes, those under way are finished" serve.go`,
			}
			// The first read and the server start together.
			if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
				t.Errorf("lines differ (-want +got):\n%s", diff)
			}
			if e.stdout.String() != "" {
				t.Errorf("on stdout: %s", e.stdout.String())
			}
		})
	}
}

func TestTheLevelOfTheRunningProgramsLogIsTheOneThatWasAskedFor(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	procfs := newProcfs(t)
	for minimum, want := range map[string][]string{
		"debug": {"info", "warn", "info", "error"},
		"info":  {"info", "warn", "info", "error"},
		"warn":  {"warn", "error"},
		"error": {"error"},
	} {
		t.Run(minimum, func(t *testing.T) {
			_, _, stderr := runToEnd(t, "--no-collector.holder", "--log.level="+minimum, "--path.procfs="+procfs, "--web.listen-address="+taken.Addr().String())
			var got []string
			for _, line := range checkLines(t, "logfmt", stderr) {
				got = append(got, line.get("level"))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("levels differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAClientThatHangsUpIsNoError(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"broken pipe":      {fmt.Errorf("write: %w", syscall.EPIPE), "debug"},
		"connection reset": {fmt.Errorf("write: %w", syscall.ECONNRESET), "debug"},
		"anything else":    {errors.New("inconsistent label names"), "error"},
	} {
		t.Run(name, func(t *testing.T) {
			var text bytes.Buffer
			newLoggers(&text, "debug", "logfmt").http.Println("error encoding and sending metric family:", test.err)
			lines := checkLines(t, "logfmt", text.String())
			if len(lines) != 1 {
				t.Fatalf("%d lines, want 1:\n%s", len(lines), &text)
			}
			if got := lines[0].get("level"); got != test.want {
				t.Errorf("level %s, want %s", got, test.want)
			}
			if got, want := lines[0].get("msg"), "error encoding and sending metric family: "+test.err.Error(); got != want {
				t.Errorf("message %q, want %q", got, want)
			}
		})
	}
}

func TestTheLogTakesNoHarmFromHostileInput(t *testing.T) {
	dir := newProcfsAt(t, filepath.Join(t.TempDir(), "a \"quoted\"\nlevel=error ts=now\tcaller=x"))
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			writeTable(t, dir, "udp", udpHeader+"\x00\xff\x1b[31m level=error\r caller=y\n")
			e := startExporter(t, "--path.procfs="+dir, "--log.format="+format)
			e.scrape()
			e.signal(os.Interrupt)
			e.wait()
			checkLines(t, format, e.stderr.String())
		})
	}
}
