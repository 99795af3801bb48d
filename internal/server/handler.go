//go:build linux

package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/page"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// newHandler returns the handler of all requests.
func (s *Server) newHandler() (http.Handler, error) {
	o := s.options
	metrics := newMetricsHandler(o, s.logs)
	mux := http.NewServeMux()
	pattern := "GET " + o.TelemetryPath
	if o.TelemetryPath == "/" {
		pattern += "{$}" // and not every path below it
	}
	mux.Handle(pattern, metrics)
	mux.HandleFunc("GET "+healthyPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "%s is healthy.\n", wording.Program)
	})
	mux.HandleFunc("GET "+readyPath, func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, wording.Program+" has not read the sockets yet.", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(w, "%s is ready.\n", wording.Program)
	})
	if o.TelemetryPath != "/" {
		root, err := newRootHandler(o)
		if err != nil {
			return nil, err
		}
		mux.Handle("GET /{$}", root)
	}
	if o.EnableLifecycle {
		mux.Handle(reloadPath, ownPagesOnly(hostNames(o.Host), http.HandlerFunc(s.serveReload)))
	}
	return mux, nil
}

// newRootHandler returns the handler of /: the page, or just links.
func newRootHandler(o Options) (http.Handler, error) {
	links := []page.Link{{Address: o.TelemetryPath, Text: "Metrics"}, {Address: healthyPath, Text: "Health"}, {Address: readyPath, Text: "Readiness"}}
	if o.Page {
		return newPageHandler(o.Snapshot, page.New(page.Options{Host: o.Host, Version: version.Version, File: o.RegistryFile, Links: links})), nil
	}
	landing := web.LandingConfig{
		Name:        wording.Program,
		Description: "TCP and UDP ports that listen on this host, for Prometheus.",
		Version:     version.Version,
		Profiling:   "false",
	}
	for _, link := range links {
		landing.Links = append(landing.Links, web.LandingLinks{Address: link.Address, Text: link.Text})
	}
	return web.NewLandingPage(landing)
}

// newPageHandler returns the handler of the page for people.
func newPageHandler(snapshot func(context.Context) *inventory.Snapshot, shown *page.Page) http.Handler {
	return &shared{newPlaces(maxPageReaders), &pages{
		snapshot:  snapshot,
		transient: true,
		make: func(s *inventory.Snapshot) (content, error) {
			page, err := newPacked(func(w io.Writer) error {
				buffered := bufio.NewWriterSize(w, 64<<10)
				return errors.Join(shown.Render(buffered, s), buffered.Flush())
			})
			return func(_ context.Context, _ *http.Request, header http.Header) (*body, error) {
				shown.SetHeader(header)
				return page, nil
			}, err
		},
	}}
}
