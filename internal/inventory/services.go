//go:build linux

package inventory

import (
	"cmp"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// ServiceMemory is what is remembered of a required port.
type ServiceMemory struct {
	Name, Proto, Ports string
	// DownSince is since when it has not been up. It is zero if it is, and while the host is still starting.
	DownSince time.Time
	// LastChange is when it last went up or down, or zero if that is not remembered. Changes is how often it has since the exporter
	// started.
	LastChange time.Time
	Changes    uint64
	// Last is where it last listened as declared.
	Last Last
}

// serviceID identifies a required port, or several of which one is required.
type serviceID struct{ name, proto, ports string }

// service is what is remembered of a required port.
type service struct {
	serviceID
	up      bool
	down    instant // since when it is not, or never
	change  instant // the last one, or never
	changes uint64
	look    uint64   // the last one that had its traces
	traces  []*trace // of the listeners that were last as declared
}

// compareServices brings the services up to date with their states. Those that are absent are not known.
func (m *memory) compareServices(now instant, states []ServiceState, table *registry.Table) {
	if table != m.table {
		m.table = table
		required := make(map[serviceID]bool)
		for _, s := range table.Required() {
			required[serviceID{s.Name, s.Proto, s.Ports}] = true
		}
		for id := range m.services {
			if !required[id] {
				delete(m.services, id)
				m.change()
			}
		}
	}
	listeners := make(map[serviceID][]*trace) // by name and protocol
	for _, t := range m.order {
		if t.netns == "" && t.service != "" && t.reason == "" {
			of := serviceID{name: t.service, proto: t.proto}
			listeners[of] = append(listeners[of], t)
		}
	}
	for _, state := range states {
		id := serviceID{state.Name, state.Proto, state.Ports}
		s := m.services[id]
		first := s == nil
		if first {
			s = &service{serviceID: id, up: state.Up, down: never, change: never}
			m.services[id] = s
			if !s.up {
				s.down = now
			}
			m.change()
		}
		for _, t := range listeners[serviceID{name: id.name, proto: id.proto}] {
			if state.OnePort || t.addr.Port() == state.Port {
				if s.look != m.look {
					s.look, s.traces = m.look, s.traces[:0]
				}
				s.traces = append(s.traces, t)
			}
		}
		switch {
		case first:
		case state.Up != s.up:
			s.up, s.down = state.Up, never
			if !s.up {
				s.down = now
			}
			s.changed(now, 1)
			m.change()
		case s.up && s.restarted(m.look):
			s.changed(now, 2)
			m.change()
		}
	}
}

func (s *service) changed(now instant, times uint64) {
	s.change = now
	s.changes += times
}

// restarted reports whether each listener of the service restarted between the look before and this one.
func (s *service) restarted(look uint64) bool {
	return s.look == look && !slices.ContainsFunc(s.traces, func(t *trace) bool { return t.restarted != look })
}

// shownServices returns the services that are down or have changed.
func (m *memory) shownServices() (shown []ServiceMemory) {
	for _, s := range m.services {
		of := ServiceMemory{Name: s.name, Proto: s.proto, Ports: s.ports, LastChange: m.clock.wall(s.change), Changes: s.changes}
		if m.started && !s.up {
			of.DownSince, of.Last = m.clock.wall(s.down), last(s.traces)
		}
		if !of.DownSince.IsZero() || !of.LastChange.IsZero() {
			shown = append(shown, of)
		}
	}
	slices.SortFunc(shown, func(a, b ServiceMemory) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Ports, b.Ports))
	})
	return shown
}
