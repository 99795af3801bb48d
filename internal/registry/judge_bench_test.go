//go:build linux

package registry_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// BenchmarkJudge judges 10 000 listeners, without holders, by 3 000 services of four ports each.
func BenchmarkJudge(b *testing.B) {
	const first = 10_000
	var text strings.Builder
	text.WriteString("services:\n")
	for n := range 3_000 {
		port := first + 4*n
		fmt.Fprintf(&text, "  - {name: service-%d, port: [%d, %d, %d, %d], proto: [tcp, udp], process: server-%d, required: false}\n", n, port, port+1, port+2, port+3, n)
	}
	r, err := registry.Parse("ports.yml", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	table := r.For("web-1")
	listeners := make([]registry.Listener, 10_000)
	for n := range listeners {
		listeners[n] = registry.Listener{Proto: "tcp", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(first+n)), Detailed: true}
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, l := range listeners {
			table.Judge(l)
		}
		table.Up(listeners, false)
	}
}
