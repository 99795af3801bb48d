package server

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/listen-exporter/listen_exporter/collector"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// newMetricsHandler returns the handler of scrapes.
func newMetricsHandler(o Options, errorLog promhttp.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(versioncollector.NewCollector(wording.Program))
	options := promhttp.HandlerOpts{
		ErrorLog:            errorLog,
		ErrorHandling:       promhttp.ContinueOnError, // one bad family must not blank the page
		MaxRequestsInFlight: o.MaxRequests,
		DisableCompression:  true, // compressed does it in a fifth of the time
	}
	metrics := gatherers{collector.New(o.Snapshot), registry}
	if o.DisableExporterMetrics {
		return promhttp.HandlerForTransactional(metrics, options)
	}
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	options.Registry = registry
	return promhttp.InstrumentMetricHandler(registry, promhttp.HandlerForTransactional(metrics, options))
}

// gatherers joins the families of the listeners and of the exporter itself, sorted by name. They share no family:
// prometheus.Gatherers would check that again in each scrape, sample by sample.
type gatherers struct {
	listeners prometheus.TransactionalGatherer
	exporter  prometheus.Gatherer
}

// Gather implements prometheus.TransactionalGatherer.
func (g gatherers) Gather() (families []*dto.MetricFamily, done func(), err error) {
	listeners, done, err := g.listeners.Gather()
	exporter, exporterErr := g.exporter.Gather()
	families = slices.Concat(listeners, exporter)
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families, done, errors.Join(err, exporterErr)
}
