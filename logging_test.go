package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-kit/log/level"
	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// Each line has one timestamp and at most one caller, however it gets into the log.
func TestTheLogHoldsNothingBelowItsLevel(t *testing.T) {
	ranks := []string{"debug", "info", "warn", "error"}
	for rank, minimum := range ranks {
		for _, format := range []string{"logfmt", "json"} {
			var text bytes.Buffer
			l := newLogs(&text, minimum, format)
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
				want = append(want, r+" kit logging_test.go", r+" slog logging_test.go")
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
