//go:build linux

package collector

import (
	"bytes"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/expfmt"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Once returns the metrics of a single read in Prometheus's text format, for a program that ends then. They are those of a scrape but for
// what only a program that goes on can know: counters would be 0 for ever, and whatever is wrong would always have just begun. Metrics of
// the process are those of whoever serves the text.
func Once(s *inventory.Snapshot) ([]byte, error) {
	single := *s
	single.Memory = nil
	var text bytes.Buffer
	for _, f := range NewText(nil).Families(&single) {
		if !isCounter(f.Name) {
			text.Write(f.Text)
		}
	}
	build := prometheus.NewRegistry()
	if err := build.Register(versioncollector.NewCollector(wording.Program)); err != nil {
		return nil, err
	}
	all, err := build.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather the version: %w", err)
	}
	for _, f := range all {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			return nil, fmt.Errorf("write the version: %w", err)
		}
	}
	return text.Bytes(), nil
}

func isCounter(name string) bool {
	for n := range families {
		if families[n].name == name {
			return families[n].counter
		}
	}
	return false
}
