package server

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/listen-exporter/listen_exporter/collector"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// The time in which an answer must have been read, see budget.
const (
	usualBudget = 5 * time.Second
	maxBudget   = writeTimeout / 2 // the rest is for sending it
	maxTimeout  = time.Hour        // more is not a scrape timeout
)

// newMetricsHandler returns the handler of scrapes.
func newMetricsHandler(o Options, logs Logs) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(versioncollector.NewCollector(wording.Program))
	options := promhttp.HandlerOpts{
		ErrorLog:           scrapeLogger{logs.Toolkit.Handler()},
		ErrorHandling:      promhttp.ContinueOnError, // one bad family must not blank the page
		DisableCompression: true,                     // compressed does it in a fifth of the time
	}
	// promhttp gives a gatherer no context, so each scrape has a handler of its own.
	scrape := limited(o.MaxRequests, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), budget(r.Header))
		defer cancel()
		promhttp.HandlerForTransactional(gatherer{ctx, o, logs, registry}, options).ServeHTTP(w, r)
	})
	if o.DisableExporterMetrics {
		return scrape
	}
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	options.Registry = registry
	return promhttp.InstrumentMetricHandler(registry, scrape)
}

// limited refuses requests while as many as limit are in progress, as promhttp does. 0 is no limit.
func limited(limit int, next http.HandlerFunc) http.HandlerFunc {
	if limit == 0 {
		return next
	}
	places := make(chan struct{}, limit)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			next(w, r)
		default:
			http.Error(w, fmt.Sprintf("Limit of concurrent requests reached (%d), try again later.", limit), http.StatusServiceUnavailable)
		}
	}
}

// budget returns the time in which a scrape must have been read: its timeout, which Prometheus sends, less half a second for the
// way, but at least half of it.
func budget(request http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(request.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || !(seconds > 0 && seconds <= maxTimeout.Seconds()) { // which NaN is not
		return usualBudget
	}
	timeout := time.Duration(seconds * float64(time.Second))
	return min(timeout-min(timeout/2, time.Second/2), maxBudget)
}

// gatherer joins the families of the listeners and of the exporter itself, sorted by name.
type gatherer struct {
	ctx      context.Context // of the one scrape that it is for
	options  Options
	logs     Logs
	exporter prometheus.Gatherer
}

// Gather implements prometheus.TransactionalGatherer.
func (g gatherer) Gather() (families []*dto.MetricFamily, done func(), err error) {
	snapshot := g.options.Snapshot(g.ctx)
	listeners := prometheus.NewRegistry()
	listeners.MustRegister(collector.New(func(context.Context) *inventory.Snapshot { return snapshot }, g.logs.Dropped))
	families, err = prometheus.Gatherers{listeners, g.exporter}.Gather()
	return families, func() {}, err
}
