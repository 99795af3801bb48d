package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

const (
	// soakVariable asks for more scrapes than soakScrapes.
	soakVariable = "LISTEN_EXPORTER_SOAK_SCRAPES"
	soakScrapes  = 2000

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

// held is what a long-running process must not gather.
type held struct{ files, goroutines, memory, heap float64 }

func (e *exporter) held() held {
	e.t.Helper()
	page := samples(e.t, e.scrape())
	number := func(name string) float64 {
		value, err := strconv.ParseFloat(page[name], 64)
		if err != nil {
			e.t.Fatalf("%s: %v", name, err)
		}
		return value
	}
	return held{
		number("process_open_fds"), number("go_goroutines"), number("process_resident_memory_bytes"),
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
	binary := liveBinary(t)
	netnstest.Run(t, func(t *testing.T) {
		for n := range soakListeners {
			liveListen(t, []string{"tcp", "udp"}[n%5/4], fmt.Sprintf("127.0.0.1:%d", 7001+n))
		}
		e := liveStart(t, binary, "--collector.netns=self")
		// soak scrapes so many times, and returns what is held after that, with the least heap of late. Before each scrape one
		// listener has come and one has gone.
		come := -1
		soak := func(times int) held {
			least := math.Inf(1)
			for n := range times {
				if come >= 0 {
					_ = unix.Close(come)
				}
				var err error
				if come, err = netnstest.Listen([]string{"tcp", "udp"}[n%2], fmt.Sprintf("127.0.0.1:%d", 8001+n%soakNeighbours)); err != nil {
					t.Fatal(err)
				}
				if n < times-soakWindow {
					e.scrape()
				} else {
					least = min(least, e.held().heap)
				}
			}
			after := e.held()
			after.heap = least
			return after
		}
		early := soak(scrapes / 4) // until caches and buffers have their size
		late := soak(scrapes - scrapes/4)
		_ = unix.Close(come)
		t.Logf("after %d scrapes %+v, after %d %+v", scrapes/4, early, scrapes, late)

		if late.files != early.files {
			t.Errorf("open files: %.0f after %d scrapes, %.0f after %d", early.files, scrapes/4, late.files, scrapes)
		}
		if late.goroutines > early.goroutines+2 { // the HTTP server's come and go
			t.Errorf("goroutines: %.0f after %d scrapes, %.0f after %d", early.goroutines, scrapes/4, late.goroutines, scrapes)
		}
		if late.heap > early.heap+soakHeap {
			t.Errorf("heap: %.0f bytes after %d scrapes, %.0f after %d", early.heap, scrapes/4, late.heap, scrapes)
		}
		if late.memory > early.memory+soakMemory {
			t.Errorf("resident memory: %.0f bytes after %d scrapes, %.0f after %d", early.memory, scrapes/4, late.memory, scrapes)
		}
		if lines := e.errorLines(); len(lines) > 0 {
			t.Errorf("errors in the log: %q", lines)
		}
	})
}
