package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
)

// writeBlock writes the fleet's two hours as one block, by Prometheus' own writers of chunks and of the index, and returns
// how many series it has. Its database's own way is through memory, where a million series take several gigabytes.
func (f fleet) writeBlock(data string) (count int, err error) {
	id := ulid.MustNew(ulid.Timestamp(f.end), rand.Reader)
	dir := filepath.Join(data, id.String())
	chunkWriter, err := chunks.NewWriter(filepath.Join(dir, "chunks"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, chunkWriter.Close()) }()
	indexWriter, err := index.NewWriter(context.Background(), filepath.Join(dir, "index"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, indexWriter.Close()) }()

	metrics, symbols := f.all()
	for _, symbol := range symbols {
		if err := indexWriter.AddSymbol(symbol); err != nil {
			return 0, err
		}
	}
	samples := 0
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		for _, s := range metrics[name] {
			chunk, err := f.chunk(s)
			if err != nil {
				return 0, err
			}
			if chunk.Chunk.NumSamples() == 0 {
				continue
			}
			metas := []chunks.Meta{chunk}
			if err := chunkWriter.WriteChunks(metas...); err != nil {
				return 0, err
			}
			if err := indexWriter.AddSeries(storage.SeriesRef(count), s.labels, metas...); err != nil {
				return 0, err
			}
			count++
			samples += chunk.Chunk.NumSamples()
		}
	}
	meta := map[string]any{
		"ulid": id, "version": 1,
		"minTime": f.timestamp(0, 0), "maxTime": f.end.UnixMilli(),
		"stats":      map[string]int{"numSamples": samples, "numSeries": count, "numChunks": count},
		"compaction": map[string]any{"level": 1, "sources": []ulid.ULID{id}},
	}
	text, err := json.Marshal(meta)
	if err != nil {
		return 0, err
	}
	return count, os.WriteFile(filepath.Join(dir, "meta.json"), text, 0o600)
}

// series is one series and how its value goes.
type series struct {
	labels labels.Labels
	host   int
	shape  shape
}

// all returns the series by their metric, in the order that the index wants, and every text of their labels, sorted.
func (f fleet) all() (metrics map[string][]series, symbols []string) {
	unique := map[string]bool{model.MetricNameLabel: true}
	metrics = make(map[string][]series)
	builder := labels.NewScratchBuilder(16)
	for host := range f.hosts {
		f.describe(host, func(name string, pairs []string, s shape) {
			builder.Reset()
			builder.Add(model.MetricNameLabel, name)
			unique[name] = true
			for n := 0; n < len(pairs); n += 2 {
				builder.Add(pairs[n], pairs[n+1])
				unique[pairs[n]], unique[pairs[n+1]] = true, true
			}
			builder.Sort()
			metrics[name] = append(metrics[name], series{builder.Labels(), host, s})
		})
	}
	for _, all := range metrics {
		slices.SortFunc(all, func(a, b series) int { return labels.Compare(a.labels, b.labels) })
	}
	return metrics, slices.Sorted(maps.Keys(unique))
}

// timestamp is when a scrape of a host was, in milliseconds. The hosts are spread over the minute, as Prometheus does it.
func (f fleet) timestamp(host, scrape int) int64 {
	const interval = 60_000
	before := int64(scrapes-1-scrape)*interval + int64(host*7919%interval)
	return f.end.UnixMilli() - 1 - before
}

// chunk has the samples of a series: those of two hours fit into one. A series that ends has a staleness mark.
func (f fleet) chunk(s series) (chunks.Meta, error) {
	chunk := chunkenc.NewXORChunk()
	appender, err := chunk.Appender()
	if err != nil {
		return chunks.Meta{}, err
	}
	meta := chunks.Meta{Chunk: chunk}
	there := false
	for scrape := range scrapes {
		v := s.shape(scrape)
		if math.IsNaN(v) {
			if !there {
				continue
			}
			v = math.Float64frombits(value.StaleNaN)
		}
		there = !value.IsStaleNaN(v)
		at := f.timestamp(s.host, scrape)
		if chunk.NumSamples() == 0 {
			meta.MinTime = at
		}
		meta.MaxTime = at
		appender.Append(at, v)
	}
	if chunk.NumSamples() > 0 && meta.MaxTime >= f.end.UnixMilli() {
		return meta, fmt.Errorf("%s: a sample at the end of the block", s.labels)
	}
	return meta, nil
}
