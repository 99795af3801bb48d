//go:build linux

package collector

import (
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// family is a metric family. It is about listeners, or it has host.
type family struct {
	name, help string
	note       string // what docs/metrics.md says besides help
	counter    bool   // not a gauge

	// about is what there is a series for, and value its value, or false if there is none after all. Without value it is always 1.
	// afterwards says that there is one for a while after the listener is gone.
	about      subject
	value      func(*inventory.Listener) (float64, bool)
	afterwards bool

	// host adds the series about the host as a whole, whose labels have these names. same, unless it is nil, reports whether those
	// of two snapshots are known to be the same.
	host  func(reading, add)
	names []string
	same  func(a, b *inventory.Snapshot) bool
}

// header returns what the family begins with in the text format.
func (f *family) header() string {
	kind := "gauge"
	if f.counter {
		kind = "counter"
	}
	return "# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + kind + "\n"
}

// valueOf returns the value for a listener, or false if there is no series.
func (f *family) valueOf(l *inventory.Listener) (float64, bool) {
	if f.value == nil {
		return 1, true
	}
	return f.value(l)
}

// reading is what one scrape has to show.
type reading struct {
	*inventory.Snapshot
	logLinesDropped func() uint64 // nil if none ever is
}

// add adds a series. labels are names and values in turns, sorted by name.
type add func(value float64, labels ...string)

// remembered returns the host function of families about what is remembered.
func remembered(host func(*inventory.Memory, add)) func(reading, add) {
	return func(r reading, add add) {
		if r.Memory != nil {
			host(r.Memory, add)
		}
	}
}

// changes returns the host function of a count of what has changed.
func changes(count func(inventory.Changes) uint64) func(reading, add) {
	return remembered(func(m *inventory.Memory, add add) {
		for _, c := range m.Changes {
			add(float64(count(c)), "proto", c.Proto)
		}
	})
}

// sameMemory reports whether two snapshots remember the same.
func sameMemory(a, b *inventory.Snapshot) bool { return a.Memory == b.Memory }

// declared returns the services for this host: none without a registry.
func declared(s *inventory.Snapshot) []inventory.ServiceInfo {
	if s.Compliance == nil {
		return nil
	}
	return s.Compliance.Declared
}

// inOneLine returns a text for people as a label: on one line, cut if it is long.
func inOneLine(text string) string {
	const longest = 200 // characters
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest-1]) + "…"
	}
	return text
}

// services returns the states of the required services: none without a registry.
func services(s *inventory.Snapshot) []inventory.ServiceState {
	if s.Compliance == nil {
		return nil
	}
	return s.Compliance.Services
}

// namespaces returns the host function of a count of network namespaces.
func namespaces(count func(*inventory.Snapshot) int) func(reading, add) {
	return func(r reading, add add) {
		if r.Asked(inventory.CollectorNetns) {
			add(float64(count(r.Snapshot)))
		}
	}
}

// traffic returns the host function of a count of the traffic of ports.
func traffic(count func(*inventory.PortTraffic) uint64) func(reading, add) {
	return func(r reading, add add) {
		for n := range r.Traffic {
			t := &r.Traffic[n]
			add(float64(count(t)), "port", portLabel(t.Port), "proto", t.Proto)
		}
	}
}

// compliance returns the host function of families about the registry.
func compliance(host func(*inventory.Compliance, add)) func(reading, add) {
	return func(r reading, add add) {
		if r.Compliance != nil {
			host(r.Compliance, add)
		}
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unixSeconds returns the Unix time in seconds, to the millisecond.
func unixSeconds(t time.Time) float64 {
	return float64(t.UnixMilli()) / float64(time.Second/time.Millisecond)
}
