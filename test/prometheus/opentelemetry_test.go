//go:build linux

package prometheus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// collector is OpenTelemetry's, with its prometheus receiver. It sends what it scrapes as OTLP in JSON.
const collector = "otelcol"

func TestOpenTelemetryCollectorSendsThePage(t *testing.T) {
	path := host.Program(t, "test-opentelemetry")
	tools.Look(t, collector)
	netnstest.Run(t, func(t *testing.T) {
		exporter := launch(t, path)
		received := make(chan export, 1)
		sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var e export
			if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "application/json")
			if _, err := io.WriteString(w, "{}"); err != nil {
				t.Error(err)
			}
			select {
			case <-received: // only the newest counts
			default:
			}
			received <- e
		}))
		t.Cleanup(sink.Close)
		log := startCollector(t, exporter.URL, sink.URL)
		if err := host.Await(patience, func() error {
			select {
			case e := <-received:
				return e.content().compare(parse(t, exporter.Get("/metrics").Body))
			case <-time.After(patience):
				return errors.New("it sends nothing")
			}
		}); err != nil {
			t.Fatal(err)
		}
		if log.String() != "" {
			t.Errorf("it warns:\n%s", log)
		}
	})
}

// startCollector starts the collector, which the end of the test ends, and returns its log.
func startCollector(t *testing.T, from, to string) *program.Output {
	t.Helper()
	file := filepath.Join(t.TempDir(), "collector.yml")
	configuration := fmt.Sprintf(`
receivers:
  prometheus:
    config:
      global: {scrape_interval: 1s}
      scrape_configs: [{job_name: default, static_configs: [{targets: [%q]}]}]
exporters:
  otlp_http: {endpoint: %q, encoding: json, compression: none}
service:
  telemetry: {logs: {level: warn}, metrics: {level: none}}
  pipelines: {metrics: {receivers: [prometheus], exporters: [otlp_http]}}
`, strings.TrimPrefix(from, "http://"), to)
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	_, log := startLogged(t, exec.Command(collector, "--config="+file), configuration)
	return log
}

// export is what the collector sends: OTLP's ExportMetricsServiceRequest.
type export struct {
	ResourceMetrics []struct {
		ScopeMetrics []struct {
			Metrics []struct {
				Name, Description   string
				Gauge, Sum, Summary struct{ DataPoints []point }
			}
		}
	}
}

// point is a data point. Its value is in AsDouble, or for a summary in the quantiles.
type point struct {
	Attributes []struct {
		Key   string
		Value struct{ StringValue string }
	}
	AsDouble       float64
	QuantileValues []struct{ Quantile float64 }
}

func (p point) labels() map[string]string {
	labels := make(map[string]string)
	for _, a := range p.Attributes {
		labels[a.Key] = a.Value.StringValue
	}
	return labels
}

// content returns what was scraped, without what the receiver adds.
func (e export) content() content {
	all := newContent()
	for _, resource := range e.ResourceMetrics {
		for _, scope := range resource.ScopeMetrics {
			for _, m := range scope.Metrics {
				if m.Name == "up" || strings.HasPrefix(m.Name, "scrape_") {
					continue
				}
				kind := "gauge"
				for _, p := range append(m.Gauge.DataPoints, m.Sum.DataPoints...) {
					all.add(m.Name, p.labels(), p.AsDouble)
				}
				if len(m.Sum.DataPoints) > 0 {
					kind = "counter"
				}
				for _, p := range m.Summary.DataPoints {
					kind = "summary"
					var quantiles []float64
					for _, q := range p.QuantileValues {
						quantiles = append(quantiles, q.Quantile)
					}
					all.addSummary(m.Name, p.labels(), quantiles)
				}
				all.families[m.Name] = kind + ": " + m.Description
			}
		}
	}
	return all
}
