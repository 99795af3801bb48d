package collector

import (
	"bytes"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// Once returns the metrics of a single read in Prometheus's text format, for a program that ends then. It leaves out what only a program
// that goes on can know: counters would be 0 for ever, and whatever is wrong would always have just begun.
func Once(s *inventory.Snapshot) []byte {
	single := *s
	single.Memory = nil
	var text bytes.Buffer
	for _, f := range NewText(nil).Families(&single) {
		if !isCounter(f.Name) {
			text.Write(f.Text)
		}
	}
	return text.Bytes()
}

func isCounter(name string) bool {
	for n := range families {
		if families[n].name == name {
			return families[n].counter
		}
	}
	return false
}
