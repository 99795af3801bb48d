//go:build linux

package server

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// askedWith returns a handler's answer to a GET request with the header Accept-Encoding.
func askedWith(t *testing.T, handler http.Handler, acceptEncoding ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	request.Header["Accept-Encoding"] = acceptEncoding
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

// handlerOf returns a handler that serves what page makes.
func handlerOf(page func(*inventory.Snapshot) (*body, error)) http.Handler {
	return &shared{newPlaces(0), &pages{snapshot: defaults().Snapshot, make: func(s *inventory.Snapshot) (content, error) {
		b, err := page(s)
		return func(context.Context, *http.Request, http.Header) (*body, error) { return b, nil }, err
	}}}
}

// bodyOf returns an answer's body, uncompressed.
func bodyOf(t *testing.T, answer *httptest.ResponseRecorder) string {
	t.Helper()
	if answer.Header().Get("Content-Encoding") == "" {
		return answer.Body.String()
	}
	reader, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestThePageIsCompressedForClientsThatAcceptGzip(t *testing.T) {
	page := strings.Repeat("a page, ", 100_000)
	handler := handlerOf(func(*inventory.Snapshot) (*body, error) {
		b := new(body)
		for rest := page; rest != ""; rest = rest[min(4000, len(rest)):] {
			b.parts = append(b.parts, &part{text: []byte(rest[:min(4000, len(rest))])})
		}
		return b, nil
	})
	for _, test := range []struct {
		accept []string
		want   bool
	}{
		{nil, false},
		{[]string{"GZip"}, true},
		{[]string{"x-gzip"}, true},
		{[]string{"deflate", "br;q=1.0 , gzip;q=0.1"}, true},
		{[]string{"gzippy"}, false},
		{[]string{"gzip;q=0"}, false},
		{[]string{"gzip;q=0, *"}, false},
		{[]string{"gzip;q=-1"}, false},
		{[]string{"gzip;q=0.5, identity"}, false},
		{[]string{"gzip;q=0.5, identity;q=0.2"}, true},
		{[]string{"*"}, true},
		{[]string{"identity;q=0, *;q=0.1"}, true},
		{[]string{"identity;q=0.5, *;q=0.1"}, false},
		{[]string{",;=,q=1;,"}, false},
	} {
		t.Run(strings.Join(test.accept, "+"), func(t *testing.T) {
			answer := askedWith(t, handler, test.accept...)
			if got := answer.Header().Get("Content-Encoding") == "gzip"; got != test.want {
				t.Errorf("compressed: %t, want %t", got, test.want)
			}
			if got := answer.Header().Get("Vary"); got != "Accept-Encoding" {
				t.Errorf("Vary %q", got)
			}
			if size := answer.Body.Len(); test.want && size > len(page)/20 {
				t.Errorf("%d bytes of %d", size, len(page))
			}
			if got := bodyOf(t, answer); got != page || answer.Code != http.StatusOK {
				t.Errorf("status %d, and a page of %d bytes, want %d", answer.Code, len(got), len(page))
			}
		})
	}
}

func TestErrorsAreNeverCompressed(t *testing.T) {
	answer := askedWith(t, handlerOf(func(*inventory.Snapshot) (*body, error) { return nil, errors.New("no page") }), "gzip")
	if got := answer.Header().Get("Content-Encoding") + answer.Header().Get("Vary"); answer.Code != http.StatusInternalServerError || got != "" || answer.Body.String() != "no page\n" {
		t.Errorf("status %d, header %v, %q; want 500", answer.Code, answer.Header(), answer.Body)
	}
}

func TestMoreScrapesThanAllowedAreRefusedInPlainText(t *testing.T) {
	const scrapes = 50 // more than the default limit
	for limit, refused := range map[int]int{1: scrapes - 1, 0: 0} {
		begun, end := make(chan struct{}, scrapes), make(chan struct{})
		o := defaults()
		o.MaxRequests, o.Snapshot = limit, func(context.Context) *inventory.Snapshot {
			begun <- struct{}{}
			<-end
			return new(inventory.Snapshot)
		}
		handler := newServer(t, o, io.Discard).handler
		answers := make(chan *httptest.ResponseRecorder, scrapes)
		for range scrapes {
			go func() { answers <- askedWith(t, handler, "gzip") }()
		}
		for range scrapes - refused {
			<-begun
		}
		for range refused {
			answer := <-answers
			want := fmt.Sprintf("Limit of concurrent requests reached (%d), try again later.\n", limit)
			if answer.Code != http.StatusServiceUnavailable || answer.Body.String() != want {
				t.Errorf("limit %d: status %d, want 503; %q, want %q", limit, answer.Code, answer.Body, want)
			}
		}
		close(end)
		for range scrapes - refused {
			answer := <-answers
			encoding, vary := answer.Header().Get("Content-Encoding"), slices.Sorted(slices.Values(answer.Header().Values("Vary")))
			if answer.Code != http.StatusOK || encoding != "gzip" || !slices.Equal(vary, []string{"Accept", "Accept-Encoding"}) {
				t.Errorf("limit %d: status %d, Content-Encoding %q, Vary %q", limit, answer.Code, encoding, vary)
			}
			if page := bodyOf(t, answer); !strings.Contains(page, "\nlisten_exporter_build_info{") {
				t.Errorf("limit %d: the page is %q", limit, page)
			}
		}
		if answer := askedWith(t, handler); answer.Code != http.StatusOK {
			t.Errorf("limit %d: a scrape afterwards has status %d, want 200", limit, answer.Code)
		}
	}
}
