//go:build linux

// Package collector turns an inventory of listening sockets into Prometheus metrics. Every metric's name, help and labels
// are here and nowhere else.
package collector

import (
	"context"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// collectTime is how long Collect waits for what is still being read. It is less than Prometheus's default scrape timeout of 10 s.
const collectTime = 5 * time.Second

// Collector is a prometheus.Collector of the listening ports. Each Collect reads them afresh.
//
// A label that would be empty is left out, so the series of a family differ in the labels that they have. To Prometheus that is the
// same.
type Collector struct {
	families        []family
	snapshot        func(context.Context) *inventory.Snapshot
	logLinesDropped func() uint64
}

// Options say what a Collector observes. They are the flags of listen_exporter.
type Options = inventory.Options

// DefaultOptions returns the options of a listen_exporter without flags.
func DefaultOptions() Options { return inventory.DefaultOptions() }

// Open returns a collector of this host for a program other than listen_exporter, which logs to logger. The program needs no
// privilege. It fails if the listening sockets, or a registry that is asked for, cannot be read.
func Open(o Options, logger log.Logger) (*Collector, error) {
	listeners, err := inventory.Open(o, logger)
	if err != nil {
		return nil, err
	}
	return New(listeners.Snapshot, nil), nil
}

// New returns a collector that calls snapshot once for each Collect. logLinesDropped returns how many lines of the exporter's log
// were dropped; it is nil if none ever is. Both must be safe for concurrent use.
func New(snapshot func(context.Context) *inventory.Snapshot, logLinesDropped func() uint64) *Collector {
	return &Collector{families, snapshot, logLinesDropped}
}

// ByFamily returns collectors of one family each, for those who do not want to hold the metrics of all of them at once.
func (c *Collector) ByFamily() []*Collector {
	var all []*Collector
	for n := range c.families {
		all = append(all, &Collector{c.families[n : n+1], c.snapshot, c.logLinesDropped})
	}
	return all
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for n := range c.families {
		f := &c.families[n]
		names := f.names
		if f.host == nil {
			names = f.about.names()
		}
		descs <- f.desc(names)
	}
}

// Collect implements prometheus.Collector. What cannot be read within 5 s is a failed read.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTime)
	defer cancel()
	r := reading{c.snapshot(ctx), c.logLinesDropped}
	for n := range c.families {
		f := &c.families[n]
		kind := prometheus.GaugeValue
		if f.counter {
			kind = prometheus.CounterValue
		}
		descs := make(map[string]*prometheus.Desc) // by the labels that a series has
		f.each(r, func(value float64, l labels) {
			id := strings.Join(l.names, ",")
			if descs[id] == nil {
				descs[id] = f.desc(l.names)
			}
			metrics <- prometheus.MustNewConstMetric(descs[id], kind, value, l.values...)
		})
	}
}

// desc describes the series with labels of these names. Those of a family have the same identity for a registry, whatever they are.
func (f *family) desc(names []string) *prometheus.Desc {
	return prometheus.NewDesc(f.name, f.help, names, nil)
}

// each calls add for each series of a family.
func (f *family) each(r reading, add func(float64, labels)) {
	if f.host != nil {
		f.host(r, func(value float64, pairs ...string) { add(value, newLabels(pairs...)) })
		return
	}
	of := func(listeners []inventory.Listener) {
		for i := range listeners {
			if value, has := f.valueOf(&listeners[i]); has {
				for _, l := range f.about.labels(&listeners[i]) {
					add(value, l)
				}
			}
		}
	}
	of(r.Listeners)
	if f.afterwards {
		of(r.Gone)
	}
}
