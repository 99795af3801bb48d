//go:build linux

package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func TestTheJSONIsOfTheSameReadAsThePage(t *testing.T) {
	snapshot := listeners(3)
	o := defaults()
	o.SnapshotWithProcesses = func(context.Context) *inventory.Snapshot { return snapshot }
	s := newServer(t, o, io.Discard)
	answer := request(t, s, http.MethodGet, listenersPath)
	want := http.Header{
		"Content-Type":           {"application/json"},
		"Cache-Control":          {"no-store"},
		"Vary":                   {"Accept-Encoding"},
		"X-Content-Type-Options": {"nosniff"},
		"Content-Length":         answer.Header()["Content-Length"],
	}
	if diff := cmp.Diff(want, answer.Header()); diff != "" {
		t.Errorf("the header (-want +got):\n%s", diff)
	}
	var got inventory.Snapshot
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || len(got.Listeners) != 3 {
		t.Errorf("%d listeners, error %v, want 3", len(got.Listeners), err)
	}
}

// The page and its JSON have the same places: who asks for one takes those of the other.
func TestTooManyReadersOfThePageAreRefusedItsJSONToo(t *testing.T) {
	begun, proceed := make(chan struct{}), make(chan struct{})
	o := defaults()
	o.SnapshotWithProcesses = func(context.Context) *inventory.Snapshot {
		select {
		case begun <- struct{}{}:
			<-proceed
		case <-proceed: // read again for who came before another page was dropped
		}
		return new(inventory.Snapshot)
	}
	s := newServer(t, o, io.Discard)
	var asked sync.WaitGroup
	codes := make(chan int, maxPageReaders)
	for range maxPageReaders {
		asked.Go(func() {
			recorder := httptest.NewRecorder()
			s.handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?sort=port", http.NoBody))
			codes <- recorder.Code
		})
	}
	for range maxPageReaders {
		<-begun
	}
	if code := request(t, s, http.MethodGet, listenersPath).Code; code != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", code)
	}
	close(proceed)
	asked.Wait()
	for range maxPageReaders {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("status %d, want 200", code)
		}
	}
}
