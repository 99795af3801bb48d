package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/listen-exporter/listen_exporter/collector"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/page"
)

// The server's patience. Nobody may hold a connection, or one of the few places for a scrape, by being slow.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = time.Minute     // longer than any scrape timeout in use
	idleTimeout       = 5 * time.Minute // longer than the scrape intervals in use, so that connections are kept
	shutdownTimeout   = 20 * time.Second
)

// serve answers scrapes until SIGTERM or SIGINT comes; those under way then are finished.
func serve(c *config, logs loggers) error {
	// A service manager may ask for a reload as soon as the program runs, however long its registry takes to be read.
	hangups := catchHangups()
	level.Info(logs.kit).Log("msg", "starting "+program, "version", version.Info(), "build_context", version.BuildContext())
	runtime.GOMAXPROCS(c.gomaxprocs)
	if err := web.Validate(*c.web.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	ports, err := inventory.Open(c.inventory, logs.kit)
	if err != nil {
		return err
	}

	var ready atomic.Bool
	handler, err := newHandler(c, ports.Snapshot, ready.Load, logs)
	if err != nil {
		return err
	}
	reload := reloader{logger: logs.kit}
	if c.inventory.RegistryFile != "" {
		reload.read = ports.ReloadRegistry
	}
	if c.enableLifecycle {
		handler = withReload(handler, reload)
	}
	defer reloadOnHangup(hangups, reload)()
	server := newServer(handler, logs)
	// What listens when the exporter starts is the ground on which later news rests: it is read at once, not at the first
	// scrape, and after the exporter's own port is open.
	var first sync.Once
	server.BaseContext = func(net.Listener) context.Context {
		first.Do(func() {
			go func() {
				ports.Snapshot()
				ready.Store(true)
			}()
		})
		return context.Background()
	}

	signalled, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(server, c.web, logs.slog) }()
	select {
	case err := <-served:
		return err
	case <-signalled.Done():
		stop() // a second signal ends the program at once
	}
	level.Info(logs.kit).Log("msg", "stopping: no new scrapes, those under way are finished")
	timeout, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(timeout); err != nil {
		return fmt.Errorf("stop within %s: %w", shutdownTimeout, err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newServer returns the server, with its limits.
func newServer(handler http.Handler, logs loggers) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          logs.std,
	}
}

// newHandler returns the handler of all requests.
func newHandler(c *config, snapshot func() *inventory.Snapshot, ready func() bool, logs loggers) (http.Handler, error) {
	metrics, err := newMetricsHandler(c, snapshot, logs)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	metricsPattern := "GET " + c.telemetryPath
	if c.telemetryPath == "/" {
		metricsPattern += "{$}" // and not every path below it
	}
	mux.Handle(metricsPattern, compressed(metrics))
	mux.HandleFunc("GET "+healthyPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "%s is healthy.\n", program)
	})
	mux.HandleFunc("GET "+readyPath, func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, program+" has not read the sockets yet.", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(w, "%s is ready.\n", program)
	})
	if c.telemetryPath != "/" {
		root, err := newRootHandler(c, snapshot)
		if err != nil {
			return nil, err
		}
		mux.Handle("GET /{$}", compressed(root))
	}
	return mux, nil
}

// newRootHandler returns what stands at /: the page, or links alone.
func newRootHandler(c *config, snapshot func() *inventory.Snapshot) (http.Handler, error) {
	links := []page.Link{{Address: c.telemetryPath, Text: "Metrics"}, {Address: healthyPath, Text: "Health"}, {Address: readyPath, Text: "Readiness"}}
	if c.page {
		return page.New(snapshot, page.Options{
			Host: c.inventory.RegistryHost, Version: version.Version, File: c.inventory.RegistryFile, Links: links,
		})
	}
	landing := web.LandingConfig{
		Name:        program,
		Description: "Which TCP and UDP ports this host listens on, for Prometheus.",
		Version:     version.Version,
		Profiling:   "false",
	}
	for _, link := range links {
		landing.Links = append(landing.Links, web.LandingLinks{Address: link.Address, Text: link.Text})
	}
	return web.NewLandingPage(landing)
}

// newMetricsHandler returns the handler of scrapes.
func newMetricsHandler(c *config, snapshot func() *inventory.Snapshot, logs loggers) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(versioncollector.NewCollector(program)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	options := promhttp.HandlerOpts{
		ErrorLog:            logs.http,
		ErrorHandling:       promhttp.ContinueOnError, // one bad family must not blank the page
		MaxRequestsInFlight: c.maxRequests,
		DisableCompression:  true, // compressed does it, in a fifth of the time
	}
	metrics := gatherers{collector.New(snapshot), prometheus.ToTransactionalGatherer(registry)}
	if c.disableExporterMetrics {
		return promhttp.HandlerForTransactional(metrics, options), nil
	}
	if err := errors.Join(
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
		registry.Register(collectors.NewGoCollector()),
	); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	options.Registry = registry
	return promhttp.InstrumentMetricHandler(registry, promhttp.HandlerForTransactional(metrics, options)), nil
}

// gatherers gives the families of all, sorted by name. No two give one of the same name: prometheus.Gatherers would make
// sure of that anew at each scrape, sample by sample.
type gatherers []prometheus.TransactionalGatherer

// Gather implements prometheus.TransactionalGatherer.
func (g gatherers) Gather() (families []*dto.MetricFamily, done func(), err error) {
	var dones []func()
	for _, one := range g {
		more, doneOne, errOne := one.Gather()
		families = append(families, more...)
		dones = append(dones, doneOne)
		err = errors.Join(err, errOne)
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families, func() {
		for _, doneOne := range dones {
			doneOne()
		}
	}, err
}
