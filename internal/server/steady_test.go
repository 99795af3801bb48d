//go:build linux

package server

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func TestASteadyScrapeAllocatesTheSameHoweverManyListen(t *testing.T) {
	for _, encoding := range []string{"identity", "gzip"} {
		t.Run(encoding, func(t *testing.T) {
			few, many := steadyAllocations(t, 100, encoding), steadyAllocations(t, 10_000, encoding)
			t.Logf("%.0f allocations for 100 listeners, %.0f for 10 000", few, many)
			// What the runtime and the process say of themselves varies.
			if many > few+50 {
				t.Errorf("%.0f allocations for 10 000 listeners, %.0f for 100: want as many", many, few)
			}
		})
	}
}

// steadyAllocations returns how often a scrape allocates, at least, while as many ports listen and nothing changes but the time.
func steadyAllocations(t *testing.T, listeners int, encoding string) float64 {
	t.Helper()
	open := make([]inventory.Listener, listeners)
	for n := range open {
		open[n] = inventory.Listener{Key: inventory.Key{
			Proto: inventory.TCP, Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(1+n)), Scope: inventory.ScopeAny, Range: inventory.RangeUser,
		}, Sockets: 1, Detailed: true, Holders: []inventory.Holder{{Process: "nginx", Unit: "nginx.service"}}, Exact: true}
	}
	o := defaults()
	o.Snapshot = func(context.Context) *inventory.Snapshot {
		took := time.Duration(time.Now().UnixNano() % 1e6)
		return &inventory.Snapshot{Source: "netlink", Listeners: open, Reads: []inventory.Read{{Collector: inventory.TCP, Duration: took}}}
	}
	s := newServer(t, o, io.Discard)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	r.Header.Set("Accept-Encoding", encoding)
	scrape := func() { s.handler.ServeHTTP(discard{make(http.Header)}, r) }
	scrape()
	least := testing.AllocsPerRun(1, scrape)
	for range 20 {
		least = min(least, testing.AllocsPerRun(1, scrape))
	}
	return least
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header             { return d.header }
func (discard) WriteHeader(int)                   {}
func (discard) Write(content []byte) (int, error) { return len(content), nil }
