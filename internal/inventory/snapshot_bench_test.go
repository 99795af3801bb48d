//go:build linux

package inventory

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/socket"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// One snapshot of another process's sockets, TCP and UDP, while nothing changes.
func BenchmarkSnapshot(b *testing.B) {
	for _, load := range []struct{ listeners, connections int }{
		{100, 0},
		{10_000, 0},
		{100, 8_000},
	} {
		b.Run(fmt.Sprintf("listeners=%d,connections=%d", load.listeners, load.connections), func(b *testing.B) {
			procfs := netnstest.HoldMany(b, load.listeners, load.connections)
			// With the sysctls that are read on a host, though these are not that namespace's own.
			dir := filepath.Join(procfs, "1")
			source := socket.Sources{socket.TCP: socket.NewProcfs(dir, "/proc"), socket.UDP: socket.NewProcfs(dir, "/proc")}
			options := Options{TCP: true, UDP: true, EphemeralMinAge: time.Minute, MaxPorts: 20_000}
			i, _ := newInventory(sources{main: source, clock: readClock}, options, log.NewNopLogger(), time.Now)
			if got := len(i.Snapshot(b.Context()).Listeners); got < load.listeners {
				b.Fatalf("%d listeners, want %d", got, load.listeners)
			}
			b.ReportAllocs()
			for b.Loop() {
				i.Snapshot(b.Context())
			}
		})
	}
}
