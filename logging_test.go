package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-kit/log/level"
	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/server"
	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestEveryWayIntoTheLogWritesOneTimestampAndAtMostOneCaller(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		for _, test := range []struct {
			name      string
			log       func(server.Logs)
			wantLevel string
			wantMsg   string
		}{
			{"the program", func(l server.Logs) { _ = level.Info(l.Kit).Log("msg", "hello") }, "info", "hello"},
			{"the program, an error", func(l server.Logs) { _ = level.Error(l.Kit).Log("msg", "hello", "err", errors.New("two\nlines")) }, "error", "hello"},
			{"the toolkit", func(l server.Logs) { l.Toolkit.Info("Listening on", "address", "[::]:10190") }, "info", "Listening on"},
			{"the toolkit, an error", func(l server.Logs) { l.Toolkit.Error("Unable to parse", "err", "no \"such\" file") }, "error", "Unable to parse"},
			{"the toolkit, attributes", func(l server.Logs) { l.Toolkit.With("a", 1).Warn("hello", slog.Bool("http2", true)) }, "warn", "hello"},
			{"the toolkit, debug", func(l server.Logs) { l.Toolkit.Debug("hello") }, "debug", "hello"},
		} {
			t.Run(test.name+", "+format, func(t *testing.T) {
				var text bytes.Buffer
				test.log(newLogs(&text, "debug", format))
				lines := program.CheckLines(t, format, text.String())
				if len(lines) != 1 {
					t.Fatalf("%d lines, want 1:\n%s", len(lines), &text)
				}
				file, _, _ := strings.Cut(lines[0].Get("caller"), ":")
				want := []string{test.wantLevel, test.wantMsg, "logging_test.go"}
				if diff := cmp.Diff(want, []string{lines[0].Get("level"), lines[0].Get("msg"), file}); diff != "" {
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
			l := newLogs(&text, minimum, "logfmt")
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
				want = append(want, r+" kit", r+" slog")
			}
			var got []string
			for _, line := range program.CheckLines(t, "logfmt", text.String()) {
				got = append(got, line.Get("level")+" "+line.Get("msg"))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("lines differ (-want +got):\n%s", diff)
			}
		})
	}
}
