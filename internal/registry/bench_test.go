package registry

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// large returns a file with 5 000 services, and listeners on some of them.
func large(listening int) ([]byte, []Listener) {
	var file strings.Builder
	file.WriteString("services:\n")
	for port := 1; port <= 5000; port++ {
		fmt.Fprintf(&file, "  - name: service-%d\n    purpose: a service of its own\n    port: %[1]d\n    bind: [loopback, private]\n    process: server-%[1]d\n", port)
	}
	listeners := make([]Listener, listening)
	for i := range listeners {
		port := uint16(i%5000 + 1)
		listeners[i] = heldBy(Listener{Proto: "tcp", Addr: netip.AddrPortFrom(netip.MustParseAddr("192.168.1.1"), port)}, Holder{Process: fmt.Sprintf("server-%d", port)})
	}
	return []byte(file.String()), listeners
}

func BenchmarkJudge5000ServicesBy10000Listeners(b *testing.B) {
	file, listeners := large(10000)
	r, err := Parse("ports.yml", file)
	if err != nil {
		b.Fatal(err)
	}
	table := r.For("web-1")
	b.Run("judge", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i := range listeners {
				if table.Judge(listeners[i]).Reason != "" {
					b.Fatal(listeners[i])
				}
			}
		}
	})
	b.Run("up", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			table.Up(listeners, false, nil)
		}
	})
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.For("web-1")
		}
	})
}

func BenchmarkParse5000Services(b *testing.B) {
	file, _ := large(0)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("ports.yml", file); err != nil {
			b.Fatal(err)
		}
	}
}
