package server

import (
	"context"
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
	if !s.places.take(r) {
		http.Error(w, fmt.Sprintf("Limit of concurrent requests reached (%d), try again later.", s.places.limit), http.StatusServiceUnavailable)
		return
	}
	defer s.places.giveBack(r)
	ctx, cancel := context.WithTimeout(request.Context(), budget(request.Header))
	defer cancel()
	page, err := s.pages.open(ctx, r)
	if page != nil {
		defer s.pages.close(page, r)
	}
	if request.Context().Err() != nil {
		return // the client has gone
	}
	if err != nil {
		code := http.StatusInternalServerError
		if errors.Is(err, errBusy) {
			code = http.StatusServiceUnavailable
		}
		http.Error(w, err.Error(), code)
		return
	}
	header := w.Header()
	body := page.content(request, header)
	header.Add("Vary", "Accept-Encoding")
	pieces := body.text()
	if takesGzip(request.Header) {
		header.Set("Content-Encoding", "gzip")
		pieces = body.gzipped()
	}
	r.send(w, request, pieces, min(timeout(request.Header, maxPatience), maxPatience))
}
