//go:build linux

package server

import (
	"fmt"
	"net/http"

	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

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
	var listeners http.Handler
	if o.Page {
		listeners = newListenersHandler(o)
		mux.Handle("GET "+listenersPath, listeners)
	}
	if o.TelemetryPath != "/" {
		root := listeners
		if root == nil {
			var err error
			if root, err = newLandingPage(o); err != nil {
				return nil, err
			}
		}
		mux.Handle("GET /{$}", root)
	}
	if o.EnableLifecycle {
		mux.Handle(reloadPath, ownPagesOnly(hostNames(o.Host), http.HandlerFunc(s.serveReload)))
	}
	return mux, nil
}

// newLandingPage returns the handler of / without the page: it has just links.
func newLandingPage(o Options) (http.Handler, error) {
	landing := web.LandingConfig{
		Name:        wording.Program,
		Description: "TCP and UDP ports that listen on this host, for Prometheus.",
		Version:     version.Version,
		Profiling:   "false",
	}
	for _, link := range ownLinks(o) {
		landing.Links = append(landing.Links, web.LandingLinks{Address: link.Address, Text: link.Text})
	}
	return web.NewLandingPage(landing)
}

// ownLinks returns links to what the exporter serves besides the page.
func ownLinks(o Options) (links []page.Link) {
	if o.Page {
		links = append(links, page.Link{Address: listenersPath, Text: "JSON"})
	}
	return append(links, page.Link{Address: o.TelemetryPath, Text: "Metrics"},
		page.Link{Address: healthyPath, Text: "Health"}, page.Link{Address: readyPath, Text: "Readiness"})
}
