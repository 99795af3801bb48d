package main

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// metricName is the label that has the name of the metric.
const metricName = "__name__"

// memory has the series of a fleet by their metric, as chunks, as Prometheus has the last two hours in its memory. It has no
// index besides: a selector is compared with every series of its metric.
type memory map[string][]storage.Series

// load returns the fleet's two hours and how many series there are.
func (f fleet) load() (data memory, count int, err error) {
	data = make(memory)
	builder := labels.NewScratchBuilder(16)
	for host := range f.hosts {
		f.describe(host, func(name string, pairs []string, s shape) {
			chunk, e := f.chunk(host, s)
			if e != nil || chunk.NumSamples() == 0 {
				err = e
				return
			}
			builder.Reset()
			builder.Add(metricName, name)
			for n := 0; n < len(pairs); n += 2 {
				builder.Add(pairs[n], pairs[n+1])
			}
			builder.Sort()
			data[name] = append(data[name], &storage.SeriesEntry{Lset: builder.Labels(), SampleIteratorFn: chunk.Iterator})
			count++
		})
	}
	return data, count, err
}

// chunk has the samples of a series: those of two hours fit into one. A series that ends has a staleness mark. The hosts are
// spread over the minute, as Prometheus does it.
func (f fleet) chunk(host int, s shape) (*chunkenc.XORChunk, error) {
	const interval = 60_000
	chunk := chunkenc.NewXORChunk()
	appender, err := chunk.Appender()
	if err != nil {
		return nil, err
	}
	there := false
	for scrape := range fleetScrapes {
		v := s(scrape)
		if math.IsNaN(v) {
			if !there {
				continue
			}
			v = math.Float64frombits(value.StaleNaN)
		}
		there = !value.IsStaleNaN(v)
		appender.Append(f.end.UnixMilli()-1-int64(fleetScrapes-1-scrape)*interval-int64(host*7919%interval), v)
	}
	chunk.Compact()
	return chunk, nil
}

// Querier implements [storage.Queryable].
func (m memory) Querier(int64, int64) (storage.Querier, error) {
	return memoryQuerier{storage.NoopQuerier(), m}, nil
}

type memoryQuerier struct {
	storage.Querier
	data memory
}

func (q memoryQuerier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	metric := ""
	var others []*labels.Matcher
	for _, m := range matchers {
		if m.Name == metricName && m.Type == labels.MatchEqual {
			metric = m.Value
		} else {
			others = append(others, m)
		}
	}
	found := &seriesSet{}
series:
	for _, s := range q.data[metric] {
		for _, m := range others {
			if !m.Matches(s.Labels().Get(m.Name)) {
				continue series
			}
		}
		found.series = append(found.series, s)
	}
	return found
}

// seriesSet implements [storage.SeriesSet].
type seriesSet struct {
	series []storage.Series
	next   int
}

func (s *seriesSet) Next() bool                        { s.next++; return s.next <= len(s.series) }
func (s *seriesSet) At() storage.Series                { return s.series[s.next-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }
