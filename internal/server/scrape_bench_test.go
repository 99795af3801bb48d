//go:build linux

package server

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// One scrape as Prometheus makes it: over a kept connection, compressed. The client's share is in it.
func BenchmarkScrape(b *testing.B) {
	for _, load := range []struct{ listeners, connections int }{
		{100, 0},
		{10_000, 0},
		{100, 8_000},
	} {
		b.Run(fmt.Sprintf("listeners=%d,connections=%d", load.listeners, load.connections), func(b *testing.B) {
			procfs := netnstest.HoldMany(b, load.listeners, load.connections)
			options := inventory.DefaultOptions()
			options.Procfs = procfs
			ports, err := inventory.Open(options, log.NewNopLogger())
			if err != nil {
				b.Fatal(err)
			}
			o := defaults()
			o.Snapshot = ports.Snapshot
			server := httptest.NewServer(newServer(b, o, io.Discard).handler)
			b.Cleanup(server.Close)
			url := server.URL + o.TelemetryPath
			size := scrapeOnce(b, url)
			b.ReportAllocs()
			for b.Loop() {
				scrapeOnce(b, url)
			}
			b.ReportMetric(float64(size), "wire-B")
		})
	}
}

// scrapeOnce returns how many bytes came.
func scrapeOnce(b *testing.B, url string) int64 {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "gzip") // explicit, so that the client does not decompress
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	size, err := io.Copy(io.Discard, response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		b.Fatalf("GET %s: status %d, %v", url, response.StatusCode, err)
	}
	return size
}
