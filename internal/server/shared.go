//go:build linux

package server

import (
	"errors"
	"fmt"
	"net/http"
)

// maxPageReaders is how many people can open the page at the same time.
const maxPageReaders = 40

// shared serves pages to readers who share them.
type shared struct {
	places *places
	pages  *pages
}

// ServeHTTP implements http.Handler.
func (s *shared) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r := newReader(request)
	defer r.cancel(nil)
	if !s.places.take(r) {
		http.Error(w, fmt.Sprintf("Limit of concurrent requests reached (%d), try again later.", s.places.limit), http.StatusServiceUnavailable)
		return
	}
	defer s.places.giveBack(r)
	page, err := s.pages.open(r, budget(request.Header))
	if page != nil {
		defer s.pages.close(page, r)
	}
	header := w.Header()
	var body *body
	if err == nil {
		body, err = page.content(r.ctx, request, header)
	}
	switch {
	case request.Context().Err() != nil:
		return // the client has gone
	case errors.Is(err, errBusy) || errors.Is(err, errCut):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header.Add("Vary", "Accept-Encoding")
	content := body.text()
	if takesGzip(request.Header) {
		header.Set("Content-Encoding", "gzip")
		content = body.gzipped()
	}
	r.send(w, request, content, min(timeout(request.Header, maxPatience), maxPatience))
}
