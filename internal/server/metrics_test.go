//go:build linux

package server

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func TestAScrapeHasTheTimeThatPrometheusNamesLessHalfASecond(t *testing.T) {
	var left time.Duration // when a snapshot begins
	o := defaults()
	o.Snapshot = func(ctx context.Context) *inventory.Snapshot {
		deadline, has := ctx.Deadline()
		if !has {
			t.Error("a snapshot without a deadline")
		}
		left = time.Until(deadline)
		return new(inventory.Snapshot)
	}
	o.SnapshotWithProcesses = o.Snapshot
	s := newServer(t, o, io.Discard)
	get := func(path, timeout string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		if timeout != "none" {
			r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
		}
		s.handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	for timeout, want := range map[string]time.Duration{
		"10":    9500 * time.Millisecond,
		"2.25":  1750 * time.Millisecond,
		"1":     500 * time.Millisecond,
		"0.5":   250 * time.Millisecond,
		"40":    30 * time.Second, // of the 60 s after which a connection is closed
		"3600":  30 * time.Second,
		"none":  5 * time.Second,
		"":      5 * time.Second,
		"soon":  5 * time.Second,
		"10s":   5 * time.Second,
		"0":     5 * time.Second,
		"-3":    5 * time.Second,
		"NaN":   5 * time.Second,
		"+Inf":  5 * time.Second,
		"1e300": 5 * time.Second,
	} {
		get("/metrics", timeout)
		if left > want || left < want-5*time.Second {
			t.Errorf("timeout %q: %s left, want %s", timeout, left, want)
		}
		if got := budget(http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {timeout}}); timeout != "none" && got != want {
			t.Errorf("timeout %q: %s, want %s", timeout, got, want)
		}
	}
	for _, path := range []string{"/", listenersPath} {
		left = 0
		if get(path, "none"); left <= 0 || left > 5*time.Second {
			t.Errorf("%s: %s left, want 5 s", path, left)
		}
	}
}

// BenchmarkHandler shows what a scrape costs besides the reading.
func BenchmarkHandler(b *testing.B) {
	s := newServer(b, defaults(), io.Discard)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", http.NoBody)
	b.ReportAllocs()
	for b.Loop() {
		s.handler.ServeHTTP(httptest.NewRecorder(), r)
	}
}
