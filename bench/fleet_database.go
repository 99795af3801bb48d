package main

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// open makes a database of the fleet's two hours, all in the head, as Prometheus has the newest hours. It has the metrics that are
// named in the text of the rules.
func (f fleet) open(dir, rules string) (*tsdb.DB, error) {
	options := tsdb.DefaultOptions()
	options.WALSegmentSize = -1 // none
	// Series are written one after the other: the head must take samples that are two hours old.
	options.MinBlockDuration = (24 * time.Hour).Milliseconds()
	options.MaxBlockDuration = options.MinBlockDuration
	db, err := tsdb.Open(dir, nil, nil, options, nil)
	if err != nil {
		return nil, err
	}
	for host := range f.hosts {
		appender := db.Appender(context.Background())
		f.describe(host, func(name string, pairs []string, s shape) {
			if err == nil && strings.Contains(rules, name) {
				err = f.write(appender, host, labels.FromStrings(append([]string{model.MetricNameLabel, name}, pairs...)...), s)
			}
		})
		if err != nil {
			return nil, err
		}
		if err := appender.Commit(); err != nil {
			return nil, err
		}
	}
	return db, nil
}

// sample is the part of an appender that writes a sample.
type sample interface {
	Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error)
}

// write writes the samples of a series. A series that ends has a staleness mark. The hosts are spread over the minute, as
// Prometheus does it.
func (f fleet) write(to sample, host int, series labels.Labels, s shape) error {
	const interval = 60_000
	there := false
	var ref storage.SeriesRef
	for scrape := range fleetScrapes {
		v := s(scrape)
		if math.IsNaN(v) {
			if !there {
				continue
			}
			v = math.Float64frombits(value.StaleNaN)
		}
		there = !value.IsStaleNaN(v)
		var err error
		if ref, err = to.Append(ref, series, f.end.UnixMilli()-1-int64(fleetScrapes-1-scrape)*interval-int64(host*7919%interval), v); err != nil {
			return err
		}
	}
	return nil
}

// record writes the answer of a recording rule, for the rules that follow.
func record(db *tsdb.DB, name string, answer promql.Vector, at time.Time) error {
	appender := db.Appender(context.Background())
	for _, s := range answer {
		if _, err := appender.Append(0, labels.NewBuilder(s.Metric).Set(model.MetricNameLabel, name).Labels(), at.UnixMilli(), s.F); err != nil {
			return err
		}
	}
	return appender.Commit()
}
