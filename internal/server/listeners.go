//go:build linux

package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/prometheus/common/version"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/page"
)

// newListenersHandler returns the handler of the page for people, and of the same as JSON. Those who ask for either share a read and
// the places.
func newListenersHandler(o Options) http.Handler {
	l := &listenersPages{
		page:      page.New(page.Options{Host: o.Host, Version: version.Version, File: o.RegistryFile, Links: ownLinks(o)}),
		writeJSON: o.WriteJSON,
		making:    make(chan struct{}, 1),
	}
	return &shared{newPlaces(maxPageReaders), &pages{snapshot: o.SnapshotWithProcesses, transient: true, make: l.content}}
}

// listenersPages makes the pages that show listeners.
type listenersPages struct {
	page      *page.Page
	writeJSON func(io.Writer, *inventory.Snapshot) error
	making    chan struct{} // full while a body is made: what it is made of takes more memory than all bodies
}

// content returns the content of a snapshot. Its bodies are made when they are first asked for. The page as it is first shown and the
// JSON are shared. The page in another order or with a filter is not, as everybody may ask for another one.
func (l *listenersPages) content(s *inventory.Snapshot) (content, error) {
	var usual, asJSON *body // for who has a place in making
	return func(ctx context.Context, request *http.Request, header http.Header) (*body, error) {
		select {
		case l.making <- struct{}{}:
			defer func() { <-l.making }()
		case <-ctx.Done():
		}
		if ctx.Err() != nil { // what nobody waits for costs no time and no memory
			return nil, context.Cause(ctx)
		}
		if request.URL.Path == listenersPath {
			header.Set("Content-Type", "application/json")
			header.Set("Cache-Control", "no-store")
			return made(&asJSON, func(w io.Writer) error { return l.writeJSON(w, s) })
		}
		l.page.SetHeader(header)
		keep, query := &usual, page.ParseQuery(request.URL.Query())
		if query != (page.Query{}) {
			keep = new(*body)
		}
		return made(keep, func(w io.Writer) error { return l.page.Render(w, s, query) })
	}, nil
}

// made makes a body unless it is there.
func made(keep **body, write func(io.Writer) error) (_ *body, err error) {
	if *keep == nil {
		*keep, err = newPacked(func(w io.Writer) error {
			buffered := bufio.NewWriterSize(w, 64<<10)
			return errors.Join(write(buffered), buffered.Flush())
		})
	}
	return *keep, err
}
