package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

func TestTheProcessIsDescribedAsByTheLibrary(t *testing.T) {
	// What differs between two readings is not compared.
	steady := map[string]bool{
		"process_max_fds": true, "process_open_fds": true, "process_start_time_seconds": true, "process_virtual_memory_max_bytes": true,
	}
	gather := func(c prometheus.Collector) (texts []string) {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(c)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			m := family.GetMetric()[0]
			if value := m.GetGauge().GetValue() + m.GetCounter().GetValue(); value < 0 {
				t.Errorf("%s is %g", family.GetName(), value)
			}
			if !steady[family.GetName()] {
				family.Metric = []*dto.Metric{{}}
			}
			texts = append(texts, family.String())
		}
		return texts
	}
	library := gather(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{ReportErrors: true}))
	if diff := cmp.Diff(library, gather(newProcess())); diff != "" {
		t.Errorf("(-library +ours)\n%s", diff)
	}
	if problems, err := testutil.CollectAndLint(newProcess()); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
