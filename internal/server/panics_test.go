//go:build linux

package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// A panic ends a request or a reload, and not the program. Its stack is logged once, however often it comes.
func TestAPanicIsLoggedOnceWithItsStack(t *testing.T) {
	var logged strings.Builder
	o := defaults()
	o.Reload = func() error { panic("a bad reload") }
	o.Snapshot = func(context.Context) *inventory.Snapshot { panic("a bad read") }
	s := newServer(t, o, &logged)
	server := httptest.NewServer(s.handler)
	defer server.Close()
	for range 3 {
		if err := s.Reload("SIGHUP"); err == nil || err.Error() != "panic: a bad reload" {
			t.Errorf("reload: %v", err)
		}
		if resp, err := http.Get(server.URL + "/metrics"); err == nil {
			resp.Body.Close()
			t.Errorf("a scrape has status %d, want none", resp.StatusCode)
		}
	}
	if resp, err := http.Get(server.URL + healthyPath); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %v, want an answer", err)
	} else {
		resp.Body.Close()
	}
	for what, want := range map[string]int{
		`msg="cannot reload the registry" err="panic: a bad reload" stack=`: 1,
		`msg="cannot answer a request" err="panic: a bad read" stack=`:      1,
		"panics_test.go": 2,
	} {
		if got := strings.Count(logged.String(), what); got < want || want == 1 && got > 1 {
			t.Errorf("%s is there %d times, want %d:\n%s", what, got, want, &logged)
		}
	}
}
