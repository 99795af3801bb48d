//go:build linux

package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
)

// changeAt is a listener that opened at 03:00, as far as anything is known of it.
func changeAt() Change {
	return Change{
		Key:    Key{Proto: TCP, Addr: netip.MustParseAddrPort("0.0.0.0:8080"), Scope: ScopeAny, Range: RangeUser},
		Opened: true, At: time.Date(2026, 11, 22, 3, 0, 0, 16_000, time.UTC), Holder: Process{Holder: Holder{UIDUnknown: true}},
	}
}

// trailLog returns the lines of a trail of changes.
func trailLog(newLogger func(*bytes.Buffer) log.Logger, all ...Change) string {
	var text bytes.Buffer
	trail := NewTrail(newLogger(&text))
	for _, c := range all {
		trail.Changed(c)
	}
	trail.Close()
	return text.String()
}

func logfmt(text *bytes.Buffer) log.Logger  { return log.NewLogfmtLogger(text) }
func jsonLog(text *bytes.Buffer) log.Logger { return log.NewJSONLogger(text) }

func TestALineOfTheTrailHasAllThatIsKnown(t *testing.T) {
	full := changeAt()
	full.Opened, full.Exact, full.Lifetime, full.State, full.Service = false, true, 200*time.Millisecond+16*time.Microsecond, ReasonReserved, "alpha"
	full.Netns, full.Device = "pod-1", "eth0"
	full.Holder = Process{
		PID: 4711, Path: "/usr/sbin/nginx",
		Holder: Holder{Process: "nginx", Unit: "nginx.service", ContainerID: "0123456789ab", PodUID: "a-b-c", UID: 4_000_000},
	}
	got := trailLog(logfmt, changeAt(), full)
	want := `level=info msg="listener opened" at=2026-11-22T03:00:00Z exact=false proto=tcp address=0.0.0.0 port=8080 scope=any range=user
level=info msg="listener closed" at=2026-11-22T03:00:00.000016Z exact=true proto=tcp address=0.0.0.0 port=8080 scope=any range=user lifetime=200.016ms state=reserved service_name=alpha pid=4711 uid=4000000 netns=pod-1 device=eth0 unit=nginx.service container_id=0123456789ab pod_uid=a-b-c process=nginx executable=/usr/sbin/nginx
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(trailLog(jsonLog, full)), &fields); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"port": 8080.0, "pid": 4711.0, "lifetime": "200.016ms", "exact": true, "at": "2026-11-22T03:00:00.000016Z"} {
		if fields[key] != want {
			t.Errorf("%s is %v in JSON, want %v", key, fields[key], want)
		}
	}
}

func TestTheDocumentShowsTheTrail(t *testing.T) {
	opened := Change{
		Key:    Key{Proto: TCP, Addr: netip.MustParseAddrPort("0.0.0.0:8080"), Scope: ScopeAny, Range: RangeUser},
		Opened: true, At: time.Date(2026, 11, 29, 15, 0, 57, 395e6, time.UTC), State: ReasonReserved, Service: "web",
		Holder: Process{PID: 9969, Path: "/usr/bin/perl", Holder: Holder{Process: "perl", UID: 33}},
	}
	closed := opened
	closed.Opened, closed.At, closed.Lifetime = false, opened.At.Add(10038*time.Millisecond), 10038*time.Millisecond
	event := closed
	event.Exact, event.At, event.Lifetime = true, time.Date(2026, 11, 29, 15, 34, 36, 715_835e3, time.UTC), 3104*time.Microsecond
	event.Holder.PID, event.Holder.Path = 2843, ""
	document, err := os.ReadFile("../../docs/trail.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.ReplaceAll(string(document), " user=www-data", "") // not every host has it
	for line := range strings.Lines(strings.ReplaceAll(trailLog(logfmt, opened, closed, event), " user=www-data", "")) {
		if !strings.Contains(shown, line) {
			t.Errorf("docs/trail.md does not have %s", line)
		}
	}
}

// Whoever chooses the name of a process cannot write a line, a field or an escape sequence of the log.
func TestNamesCannotForgeTheTrail(t *testing.T) {
	for name, text := range map[string]string{
		"newline":          "a\nlevel=info b",
		"carriage_return":  "a\rlevel=info",
		"quote":            `" state=ok x="`,
		"field":            "x state=ok",
		"backslash":        `a\nb\`,
		"escape_sequence":  "\x1b[2J\x1b]0;x\a",
		"c1_control":       "\u009b31m",
		"right_to_left":    "\u202egnp.exe",
		"line_separator":   "a\u2028b",
		"not_utf8":         "a\xff\xfe",
		"nothing_but_zero": "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			c := changeAt()
			c.State = ReasonUnregistered
			c.Holder.Process, c.Holder.Unit, c.Holder.Path, c.Netns, c.Device = text, text, text, text, text
			c.Holder.ContainerID, c.Holder.PodUID = text, text
			for format, logger := range map[string]func(*bytes.Buffer) log.Logger{"logfmt": logfmt, "json": jsonLog} {
				line := trailLog(logger, c)
				if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
					t.Errorf("%s: want one line: %q", format, line)
				}
				for _, r := range strings.TrimSuffix(line, "\n") {
					if r < ' ' || r > '~' {
						t.Errorf("%s: %q has %q", format, line, r)
					}
				}
				before, _, _ := strings.Cut(line, "netns")
				if format == "logfmt" && !strings.Contains(before, " state=unregistered ") {
					t.Errorf("the verdict does not come before what others choose: %q", line)
				}
			}
		})
	}
}

// writtenText is what was written since it was last taken. A goroutine may write while another takes it.
type writtenText struct {
	mu   sync.Mutex
	text []byte
}

func (w *writtenText) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	return len(p), nil
}

func (w *writtenText) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := string(w.text)
	w.text = nil
	return text
}

func TestTheTrailIsLimitedAndCountsWhatItLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text writtenText
		trail := NewTrail(log.NewLogfmtLogger(&text))
		lines := func() (changes, summaries []string) {
			synctest.Wait()
			for line := range strings.Lines(text.take()) {
				if strings.Contains(line, "left out") {
					summaries = append(summaries, line)
				} else {
					changes = append(changes, line)
				}
			}
			return changes, summaries
		}
		storm := func(count int) {
			for n := range count {
				c := changeAt()
				c.Opened = n%2 == 0
				if n%10 == 0 {
					c.State = ReasonForbidden
				}
				trail.Changed(c)
				synctest.Wait() // the writer is quick
			}
		}
		const summary = `level=warn msg="too many listeners opened or closed to log them all: some were left out" opened=%d closed=%d violations=%d` + "\n"
		check := func(what string, wantChanges int, wantSummaries ...string) {
			t.Helper()
			changes, summaries := lines()
			if len(changes) != wantChanges {
				t.Errorf("%s: %d lines, want %d", what, len(changes), wantChanges)
			}
			want(t, what, append([]string{}, summaries...), wantSummaries...)
		}

		storm(1200)
		check("a storm", 200)
		time.Sleep(11 * time.Second)
		check("the summary of it", 0, fmt.Sprintf(summary, 500, 500, 100))
		storm(500) // the limit has had 11 s
		time.Sleep(10 * time.Second)
		check("20 a second", 200, fmt.Sprintf(summary, 150, 150, 30))
		time.Sleep(time.Minute)
		check("nothing happens", 0)
		for range 100 { // 100 s
			storm(100)
			time.Sleep(time.Second)
		}
		changes, summaries := lines()
		if len(changes) < 2100 || len(changes) > 2250 || len(summaries) < 9 || len(summaries) > 10 {
			t.Errorf("in 100 s there were %d lines and %d summaries", len(changes), len(summaries))
		}
		storm(300)
		trail.Close()
		changes, summaries = lines()
		if len(changes) > 40 || len(summaries) != 1 {
			t.Errorf("at the end there were %d lines and the summaries %q", len(changes), summaries)
		}
		trail.Changed(changeAt())
		trail.Close()
		check("after the end", 0)
	})
}

// blockedLog is a log that nobody reads until it is closed.
type blockedLog chan struct{}

func (b blockedLog) Write(line []byte) (int, error) {
	<-b
	return len(line), nil
}

func TestNobodyWaitsForTheTrail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blocked := make(blockedLog)
		trail := NewTrail(log.NewLogfmtLogger(blocked))
		start := time.Now()
		for range 100 {
			for range 100 {
				trail.Changed(changeAt())
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took != 100*time.Second {
			t.Errorf("100 s of changes took %s", took)
		}
		if left := trail.leftOut.opened; left < 10_000-2*trailBurst {
			t.Errorf("%d of 10000 are left out", left)
		}
		close(blocked)
		trail.Close()
	})
}
