package server

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
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
	handler := compressed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for rest := page; rest != ""; rest = rest[min(4000, len(rest)):] {
			_, _ = io.WriteString(w, rest[:min(4000, len(rest))])
		}
	}))
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
	for _, code := range []int{http.StatusNotFound, http.StatusInternalServerError, http.StatusServiceUnavailable} {
		answer := askedWith(t, compressed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no page", code)
		})), "gzip")
		if got := answer.Header().Get("Content-Encoding") + answer.Header().Get("Vary"); answer.Code != code || got != "" || answer.Body.String() != "no page\n" {
			t.Errorf("status %d, header %v, %q; want %d", answer.Code, answer.Header(), answer.Body, code)
		}
	}
	answer := askedWith(t, compressed(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), "gzip")
	if answer.Header().Get("Content-Encoding") != "" || answer.Body.Len() != 0 {
		t.Errorf("nothing is written as %v, %q", answer.Header(), answer.Body)
	}
}

// Writers are reused: nothing of one page may get into another, even if the first one was never finished.
func TestPagesAtTheSameTimeStayApart(t *testing.T) {
	handler := compressed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 1000 {
			_, _ = fmt.Fprintf(w, "page %s\n", r.Header.Get("Page"))
		}
		if r.Header.Get("Page") == "torn" {
			panic(http.ErrAbortHandler)
		}
	}))
	server := httptest.NewServer(handler)
	defer server.Close()
	get := func(page string, header http.Header) (body string, err error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			return "", err
		}
		request.Header = header
		request.Header.Set("Page", page)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return "", err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		return string(text), err
	}
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			for i := range 20 {
				if _, err := get("torn", http.Header{}); err == nil {
					t.Error("a page that was not finished reads as one that was")
				}
				page, header := fmt.Sprintf("%d-%d", n, i), http.Header{} // the client asks for gzip by itself
				if i%2 == 0 {
					header.Set("Accept-Encoding", "identity")
				}
				body, err := get(page, header)
				if err != nil || body != strings.Repeat("page "+page+"\n", 1000) {
					t.Errorf("page %s: %.40q, %v", page, body, err)
				}
			}
		})
	}
	clients.Wait()
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
