package main

import (
	"errors"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// writeLog writes the fleet's two hours as a write-ahead log, by Prometheus' own writer, and returns how many series it has.
// Prometheus reads such a log at its start into what it calls the head, where the last hours always are in service.
func (f fleet) writeLog(data string) (count int, err error) {
	log, err := wlog.New(nil, nil, filepath.Join(data, "wal"), compression.Snappy)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	metrics, _ := f.all()
	var all []series
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		all = append(all, metrics[name]...)
	}
	var encoder record.Encoder
	const batch = 1000
	var refs []record.RefSeries
	for n, s := range all {
		refs = append(refs, record.RefSeries{Ref: chunks.HeadSeriesRef(n + 1), Labels: s.labels})
		if len(refs) == batch || n == len(all)-1 {
			if err := log.Log(encoder.Series(refs, nil)); err != nil {
				return 0, err
			}
			refs = refs[:0]
		}
	}
	there := make([]bool, len(all))
	var samples []record.RefSample
	for scrape := range scrapes {
		for n, s := range all {
			v := s.shape(scrape)
			ended := math.IsNaN(v) && there[n]
			there[n] = !math.IsNaN(v)
			if ended {
				v = math.Float64frombits(value.StaleNaN)
			}
			if ended || there[n] {
				samples = append(samples, record.RefSample{Ref: chunks.HeadSeriesRef(n + 1), T: f.timestamp(s.host, scrape), V: v})
			}
			if len(samples) == batch || n == len(all)-1 {
				if err := log.Log(encoder.Samples(samples, nil)); err != nil {
					return 0, err
				}
				samples = samples[:0]
			}
		}
	}
	return len(all), nil
}
