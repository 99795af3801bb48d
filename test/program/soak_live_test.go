//go:build linux

package program_test

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

const (
	// soakVariable asks for more scrapes than soakScrapes.
	soakVariable = "LISTEN_EXPORTER_SOAK_SCRAPES"
	soakScrapes  = 1000

	soakListeners = 100
	// soakNeighbours is how many ports those listeners have that come and go.
	soakNeighbours = 50
	// soakWindow is over how many scrapes the least use of the heap is sought, which is that after a collection: there is
	// one every dozen scrapes.
	soakWindow = 200
	// soakHeap and soakMemory are by how many bytes that and the resident memory may grow. The Go runtime returns memory
	// when it likes.
	soakHeap   = 1 << 20
	soakMemory = 6 << 20
)

// held is what a long-running process must not accumulate.
type held struct{ files, goroutines, threads, memory, heap float64 }

func heldBy(t *testing.T, e *program.Exporter) held {
	t.Helper()
	page := program.Samples(t, e.Scrape())
	number := func(name string) float64 {
		value, err := strconv.ParseFloat(page[name], 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return value
	}
	return held{
		number("process_open_fds"), number("go_goroutines"), number("go_threads"), number("process_resident_memory_bytes"),
		number("go_memstats_heap_alloc_bytes"),
	}
}

func TestThousandsOfScrapesLeaveDescriptorsGoroutinesAndMemoryLevel(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time")
	}
	scrapes := soakScrapes
	if text := os.Getenv(soakVariable); text != "" {
		var err error
		if scrapes, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", soakVariable, err)
		}
	}
	program.Path(t) // before the process changes
	netnstest.Run(t, func(t *testing.T) {
		for n := range soakListeners {
			program.Listen(t, []string{"tcp", "udp"}[n%5/4], fmt.Sprintf("127.0.0.1:%d", 7001+n))
		}
		e := program.StartLive(t, "--collector.netns=self", "--collector.interval=1s", "--collector.settled-after=0s")
		// soak scrapes so many times, and returns what is held after that, with the least heap of late. Before each scrape one
		// listener has come and one has gone.
		closeLast := func() {}
		soak := func(times int) held {
			least := math.Inf(1)
			for n := range times {
				closeLast()
				closeLast = program.Listen(t, []string{"tcp", "udp"}[n%2], fmt.Sprintf("127.0.0.1:%d", 8001+n%soakNeighbours))
				if n%3 == 0 { // Prometheus keeps its connections, others do not
					e.Client.CloseIdleConnections()
				}
				if n < times-soakWindow {
					e.Scrape()
				} else {
					least = min(least, heldBy(t, e).heap)
				}
			}
			after := heldBy(t, e)
			after.heap = least
			return after
		}
		early := soak(scrapes / 4) // until caches and buffers have their size
		late := soak(scrapes - scrapes/4)
		t.Logf("after %d scrapes %+v, after %d %+v", scrapes/4, early, scrapes, late)

		for _, of := range []struct {
			name                string
			early, late, growth float64
		}{
			{"open files", early.files, late.files, 2},                // connections that are being closed
			{"goroutines", early.goroutines, late.goroutines, 2},      // the HTTP server's come and go
			{"threads", early.threads, late.threads, 3},               // the runtime starts them as needed and keeps them
			{"bytes of heap", early.heap, late.heap, soakHeap},        // the least of late
			{"resident bytes", early.memory, late.memory, soakMemory}, // the runtime returns them when it likes
		} {
			if of.late > of.early+of.growth {
				t.Errorf("%s: %.0f after %d scrapes, %.0f after %d", of.name, of.early, scrapes/4, of.late, scrapes)
			}
		}
		if lines := e.ErrorLines(); len(lines) > 0 {
			t.Errorf("errors in the log: %q", lines)
		}
	})
}
