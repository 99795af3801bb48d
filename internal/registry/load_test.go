//go:build linux

package registry

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkLoad loads registries of 5 000 services as the watcher does, for a host: with the keys that most have, with every key,
// with a range each, and on ten ports that their hosts tell apart.
func BenchmarkLoad(b *testing.B) {
	for name, service := range map[string]string{
		"usual":     "  - name: service-%[1]d\n    purpose: what it is for\n    port: %[2]d\n    process: p%[1]d\n    unit: s%[1]d.service\n",
		"every-key": "  - name: service-%[1]d\n    purpose: what it is for\n    owner: team %[3]d\n    port: %[2]d\n    bind: private\n    process: [p%[1]d, \"q%[1]d*\"]\n    unit: s%[1]d.service\n    hosts: [\"h%[3]d-*\", \"!h%[3]d-test-*\"]\n",
		"ranges":    "  - {name: service-%[1]d, port: %[2]d0-%[2]d9, proto: [tcp, udp], process: p%[1]d}\n",
		"ten-ports": "  - {name: service-%[1]d, port: 800%[4]d, hosts: [\"host-%[1]d\", \"!host-%[1]d-*\"]}\n",
	} {
		var text strings.Builder
		text.WriteString("services:\n")
		for i := range 5000 {
			fmt.Fprintf(&text, service, i, i+100, i%100, i%10)
		}
		path := filepath.Join(b.TempDir(), "ports.yml")
		write(b, path, text.String())
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := NewWatcher([]string{path}, "h1-1", nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
