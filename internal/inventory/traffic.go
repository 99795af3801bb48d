//go:build linux

package inventory

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// PortTraffic is how much traffic a port of the main network namespace has had since its listener was first reported.
type PortTraffic struct {
	Proto string
	Port  uint16
	event.Counters
}

// trafficCounter counts the traffic of ports: an [event.Traffic].
type trafficCounter interface {
	SetPorts(ports iter.Seq[event.Port]) error
	Read(yield func(event.Port, event.Counters)) error
	Close() error
}

// traffic reads how much traffic the ports have that are reported.
type traffic struct {
	counter trafficCounter
	err     error // why there is none

	version uint64              // of the selection that the ports are of, or 0
	ports   map[event.Port]bool // that are watched; the value is whether a listener is reported
}

// maxWatched is how many ports there are: TCP's and UDP's.
const maxWatched = 2 << 16

// openTraffic begins to count. An error is one of each read.
func openTraffic(o *Options, observed socket.Observed) *traffic {
	t := newTraffic(nil)
	t.err = func() error {
		root, err := holder.FindCgroup2(o.Procfs, o.Sysfs)
		if err != nil {
			return err
		}
		number, err := observed.Number()
		if err != nil {
			return fmt.Errorf("find the main network namespace: %w", err)
		}
		counter, err := event.OpenTraffic(root, number, min(o.MaxPorts, maxWatched))
		if err != nil {
			return err
		}
		t.counter = counter
		return nil
	}()
	return t
}

func newTraffic(counter trafficCounter) *traffic {
	return &traffic{counter: counter, ports: make(map[event.Port]bool)}
}

// read returns the traffic of the ports of the selection, and how reading it went. version is the selection's. The snapshot says which
// protocols could be read.
func (t *traffic) read(version uint64, s *selection, snapshot *Snapshot) ([]PortTraffic, Read) {
	began := time.Now()
	of, err := t.count(version, s.listeners, snapshot)
	return of, Read{Collector: CollectorTraffic, Err: err, Duration: time.Since(began)}
}

func (t *traffic) count(version uint64, listeners []Listener, snapshot *Snapshot) ([]PortTraffic, error) {
	if t.err != nil {
		return nil, t.err
	}
	if t.version != version {
		t.version = 0 // unless all of them are watched
		for port := range t.ports {
			if snapshot.Succeeded(port.Proto.String()) {
				delete(t.ports, port)
			} else { // nobody knows whether it still listens
				t.ports[port] = false
			}
		}
		for n := range listeners {
			if l := &listeners[n]; l.Netns == "" {
				t.ports[event.Port{Proto: protocols[l.Proto], Number: l.Addr.Port()}] = true
			}
		}
		if err := t.counter.SetPorts(maps.Keys(t.ports)); err != nil {
			return nil, err
		}
		t.version = version
	}
	of := make([]PortTraffic, 0, len(t.ports))
	err := t.counter.Read(func(port event.Port, counters event.Counters) {
		if t.ports[port] {
			of = append(of, PortTraffic{port.Proto.String(), port.Number, counters})
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(of, func(a, b PortTraffic) int { return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto)) })
	return of, nil
}

var protocols = map[string]socket.Protocol{TCP: socket.TCP, UDP: socket.UDP}

// close stops counting.
func (t *traffic) close() {
	if t.counter != nil {
		_ = t.counter.Close()
	}
}
