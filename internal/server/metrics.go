package server

import (
	"errors"
	"fmt"
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
func newMetricsHandler(o Options, errorLog promhttp.Logger) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(versioncollector.NewCollector(wording.Program)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	options := promhttp.HandlerOpts{
		ErrorLog:            errorLog,
		ErrorHandling:       promhttp.ContinueOnError, // one bad family must not blank the page
		MaxRequestsInFlight: o.MaxRequests,
		DisableCompression:  true, // compressed does it in a fifth of the time
	}
	metrics := gatherers{collector.New(o.Snapshot), prometheus.ToTransactionalGatherer(registry)}
	if o.DisableExporterMetrics {
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

// gatherers joins the families of several gatherers, sorted by name. The gatherers share no family: prometheus.Gatherers would
// check that again in each scrape, sample by sample.
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
