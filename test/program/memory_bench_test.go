//go:build linux

package program_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// The memory of the real process after many scrapes. Its time means nothing.
func BenchmarkResidentMemory(b *testing.B) {
	for _, load := range []struct{ listeners, scrapes int }{
		{100, 1_000},
		{10_000, 100},
	} {
		b.Run(fmt.Sprintf("listeners=%d,scrapes=%d", load.listeners, load.scrapes), func(b *testing.B) {
			e := program.StartLive(b, "--path.procfs="+netnstest.HoldMany(b, load.listeners, 0))
			for b.Loop() {
				for range load.scrapes {
					e.Scrape()
				}
			}
			b.ReportMetric(statusBytes(b, e.Cmd.Process.Pid, "VmRSS"), "RSS-B")
			b.ReportMetric(statusBytes(b, e.Cmd.Process.Pid, "VmHWM"), "peak-RSS-B")
			b.ReportMetric(0, "ns/op") // not shown
		})
	}
}

// statusBytes returns a size from the status of a process.
func statusBytes(b *testing.B, pid int, name string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindSubmatch(status)
	if found == nil {
		b.Fatalf("no %s in the status of process %d", name, pid)
	}
	kibibytes, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kibibytes * 1024
}
