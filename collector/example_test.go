//go:build linux

package collector_test

import (
	"fmt"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/listen-exporter/listen_exporter/collector"
)

// Another program exports the listening ports with its own metrics.
func ExampleOpen() {
	ports, err := collector.Open(collector.DefaultOptions(), log.NewNopLogger())
	if err != nil {
		fmt.Println(err)
		return
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(ports, prometheus.NewGauge(prometheus.GaugeOpts{Name: "my_program_up", Help: "Always 1."}))
	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
	}
	for _, family := range families {
		if name := family.GetName(); name == "host_listen_source_info" || name == "my_program_up" {
			fmt.Println(name)
		}
	}
	// Output:
	// host_listen_source_info
	// my_program_up
}
