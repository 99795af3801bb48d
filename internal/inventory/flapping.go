//go:build linux

package inventory

import (
	"cmp"
	"slices"
	"time"
)

const (
	// flapWindow is how far back openings count.
	flapWindow = 15 * time.Minute
	// A listener flaps from its flapsFrom-th opening on, as long as there are flapsUntil of them: one that waits ever longer between its
	// starts goes on flapping.
	flapsFrom, flapsUntil = 4, 2
	// maxOpenings is how many openings of a listener are counted, and maxOpened of how many listeners.
	maxOpenings, maxOpened = 256, 4 * maxRemembered
)

// FlappingPort is a port that opens again and again.
type FlappingPort struct {
	Proto string
	Port  uint16
	// Service is the service that declares it, or empty.
	Service string
	// Openings is how often it opened in the last 15 minutes. On several addresses, that is of the one that opened most often: a program
	// that listens on two opens once.
	Openings int
	Last     Last
}

// openings are the recent openings of a listener.
type openings struct {
	*trace          // of the last one
	lease    string // under which it opened: see trace
	times    []instant
	flapping bool
}

// noteOpening notes that a listener opened. A client is expected to come and go.
func (m *memory) noteOpening(t *trace, now instant) {
	if t.client {
		return
	}
	o := m.openings[t.spot]
	if o == nil {
		o = new(openings)
		m.openings[t.spot] = o
	}
	if o.lease != t.lease { // its port is somebody else's now
		o.lease, o.times = t.lease, nil
	}
	o.trace = t
	o.times = append(o.times, now)
	o.times = o.times[max(0, len(o.times)-maxOpenings):]
}

// countOpenings forgets the openings that are too long ago.
func (m *memory) countOpenings(now instant) {
	for at, o := range m.openings {
		recent := slices.IndexFunc(o.times, func(t instant) bool { return now.since(t) < flapWindow })
		if recent < 0 {
			recent = len(o.times)
		}
		o.times = o.times[recent:]
		was := o.flapping
		o.flapping = len(o.times) >= flapsFrom || was && len(o.times) >= flapsUntil
		m.stale = m.stale || o.flapping != was || o.flapping && recent > 0
		if len(o.times) == 0 {
			delete(m.openings, at)
		}
	}
	if len(m.openings) > maxOpened {
		kept := fairly(m.mostOpened(), maxOpened, func(o *openings) uint32 { return o.user })
		clear(m.openings)
		for _, o := range kept {
			m.openings[o.spot] = o
		}
	}
}

// mostOpened returns the openings of all listeners, the most first.
func (m *memory) mostOpened() []*openings {
	all := make([]*openings, 0, len(m.openings))
	for _, o := range m.openings {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *openings) int {
		return cmp.Or(cmp.Compare(len(b.times), len(a.times)), cmp.Compare(a.proto, b.proto), a.addr.Compare(b.addr), cmp.Compare(a.device, b.device))
	})
	return all
}

// shownFlapping returns the ports that flap.
func (m *memory) shownFlapping() (shown []FlappingPort) {
	type flapping struct {
		FlappingPort
		traces []*trace
	}
	ports := make(map[portID]*flapping)
	var order []*flapping
	for _, o := range fairly(m.mostOpened(), maxRemembered, func(o *openings) uint32 { return o.user }) {
		if !o.flapping {
			continue
		}
		id := portID{o.proto, o.addr.Port()}
		if ports[id] == nil {
			ports[id] = &flapping{FlappingPort: FlappingPort{Proto: id.proto, Port: id.port, Openings: len(o.times)}}
			order = append(order, ports[id])
		}
		p := ports[id]
		p.Service = cmp.Or(p.Service, o.service)
		p.traces = append(p.traces, o.trace)
	}
	for _, p := range order {
		p.Last = last(p.traces)
		shown = append(shown, p.FlappingPort)
	}
	return shown
}
