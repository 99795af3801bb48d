//go:build linux

package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/go-kit/log/level"
	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// logged returns the one line that is logged, without its time.
func logged(t *testing.T, do func(slog.Handler)) string {
	t.Helper()
	var text bytes.Buffer
	do(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if strings.Count(text.String(), "\n") != 1 {
		t.Errorf("want one line:\n%s", &text)
	}
	_, line, _ := strings.Cut(strings.TrimSuffix(text.String(), "\n"), " ")
	return line
}

func TestErrorsOfTheHTTPServerAreLoggedAsTheyAre(t *testing.T) {
	for _, message := range []string{
		"http: TLS handshake error from 127.0.0.1:40000: EOF",
		"http: panic serving 127.0.0.1:1: boom\ngoroutine 1 [running]:\nmain.f()\n\t/src/main.go:12 +0x1d",
	} {
		got := logged(t, func(h slog.Handler) { (&Server{logs: Logs{Toolkit: slog.New(h)}}).httpServer().ErrorLog.Print(message) })
		if want := fmt.Sprintf("level=ERROR msg=%q", message); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAClientThatHangsUpIsNoError(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("write: %w", syscall.EPIPE), "DEBUG"},
		{fmt.Errorf("write: %w", syscall.ECONNRESET), "DEBUG"},
		{errors.New("inconsistent label names"), "ERROR"},
	} {
		got := logged(t, func(h slog.Handler) { scrapeLogger{h}.Println("error encoding and sending metric family:", test.err) })
		if want := fmt.Sprintf(`level=%s msg="error encoding and sending metric family: %v"`, test.want, test.err); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Each line has one timestamp and at most one caller, however it gets into the log.
func TestTheLogHoldsNothingBelowItsLevel(t *testing.T) {
	ranks := []string{"debug", "info", "warn", "error"}
	for rank, minimum := range ranks {
		for _, format := range []string{"logfmt", "json"} {
			var text bytes.Buffer
			l := NewLogs(&text, minimum, format)
			_ = level.Debug(l.Kit).Log("msg", "kit")
			l.Toolkit.Debug("slog")
			_ = level.Info(l.Kit).Log("msg", "kit")
			l.Toolkit.Info("slog")
			_ = level.Warn(l.Kit).Log("msg", "kit")
			l.Toolkit.Warn("slog")
			_ = level.Error(l.Kit).Log("msg", "kit")
			l.Toolkit.Error("slog")

			var want []string
			for _, r := range ranks[rank:] {
				want = append(want, r+" kit logs_test.go", r+" slog logs_test.go")
			}
			var got []string
			for _, line := range program.CheckLines(t, format, text.String()) {
				caller, _, _ := strings.Cut(line.Get("caller"), ":")
				got = append(got, line.Get("level")+" "+line.Get("msg")+" "+caller)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s: lines differ (-want +got):\n%s", minimum, format, diff)
			}
		}
	}
}
