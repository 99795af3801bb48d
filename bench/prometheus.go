package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// client is who scrapes: the headers that a Prometheus sends, as one of that version with the default scrape timeout printed them.
type client struct {
	name   string
	header http.Header
}

var (
	prometheus2 = client{"Prometheus 2.42", http.Header{
		"User-Agent": {"Prometheus/2.42.0"},
		"Accept": {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75," +
			"text/plain;version=0.0.4;q=0.5,*/*;q=0.1"},
		"X-Prometheus-Scrape-Timeout-Seconds": {"10"},
	}}
	prometheus3 = client{"Prometheus 3.5", http.Header{
		"User-Agent": {"Prometheus/3.5.3"},
		"Accept": {"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5," +
			"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"},
		"X-Prometheus-Scrape-Timeout-Seconds": {"10"},
	}}
	// protobuf3 is one that scrapes native histograms.
	protobuf3 = client{"Prometheus 3.5, protobuf", http.Header{
		"User-Agent": {"Prometheus/3.5.3"},
		"Accept": {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6," +
			"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4," +
			"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"},
		"X-Prometheus-Scrape-Timeout-Seconds": {"10"},
	}}
)

// The values of Accept-Encoding: a Prometheus asks for gzip unless enable_compression is false.
const (
	identity = "identity"
	gzip     = "gzip"
)

var encodings = []string{identity, gzip}

// request returns a scrape of the exporter.
func (c client) request(ctx context.Context, e *exporter, encoding string) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header = c.header.Clone()
	request.Header.Set("Accept-Encoding", encoding)
	return request, nil
}

// get scrapes over a connection that is kept open, as Prometheus does, and returns the page as it came. Like Prometheus, it reads
// into a buffer that is as large as the last page: the page is good until the next scrape.
func (e *exporter) get(c client, encoding string) ([]byte, error) {
	request, err := c.request(context.Background(), e, encoding)
	if err != nil {
		return nil, err
	}
	response, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET /metrics: %s", response.Status)
	}
	if got := response.Header.Get("Content-Encoding"); encoding != identity && got != encoding {
		return nil, fmt.Errorf("GET /metrics: the encoding is %q, want %s", got, encoding)
	}
	e.buffer.Reset()
	_, err = io.Copy(&e.buffer, response.Body)
	return e.buffer.Bytes(), err
}

// scrapeAs is a scrape as a side.
func (e *exporter) scrapeAs(c client, encoding string) side {
	return side{fmt.Sprintf("%s, %s, %s", e.name, c.name, encoding), timed(func() error {
		_, err := e.get(c, encoding)
		return err
	})}
}
