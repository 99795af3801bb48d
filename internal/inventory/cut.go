//go:build linux

package inventory

import (
	"slices"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// selection is the listeners that are reported: those that pass the filters, at most Options.MaxPorts.
type selection struct {
	options *Options
	logger  log.Logger

	version      uint64 // of the listing that was cut
	listeners    []Listener
	omitted      int
	unattributed int
}

// cut selects what is reported of the listing. version is the listing's.
func (s *selection) cut(version uint64, l *listing) {
	if s.version == version {
		return
	}
	s.version = 0                                 // until it is whole
	listeners := make([]Listener, 0, len(l.open)) // snapshots keep it
	for n := range l.open {
		if s.options.passes(l.open[n].Key) {
			listeners = append(listeners, l.open[n].Listener)
		}
	}
	omittedBefore := s.omitted
	s.listeners, s.omitted = cutTo(s.options.MaxPorts, listeners)
	s.unattributed = 0
	if l.attributed {
		for n := range s.listeners {
			if len(s.listeners[n].Holders) == 0 {
				s.unattributed++
			}
		}
	}
	s.version = version
	switch {
	case s.omitted > 0 && omittedBefore == 0:
		level.Warn(s.logger).Log("msg", "more listeners than --collector.max-ports: some are left out",
			"max_ports", s.options.MaxPorts, "omitted", s.omitted)
	case s.omitted == 0 && omittedBefore > 0:
		level.Info(s.logger).Log("msg", "no listener is left out any more")
	}
}

// cutTo returns at most limit of the listeners, in their order, and how many it left out. It keeps declared listeners first, then
// those that other machines can reach: otherwise whoever opens ports on loopback without end could hide one that is open to the
// world. Of the rest it keeps the lowest ports of the main namespace.
func cutTo(limit int, listeners []Listener) (_ []Listener, omitted int) {
	omitted = len(listeners) - limit
	if omitted <= 0 {
		return listeners, 0
	}
	var room [3]int // by rank
	for n := range listeners {
		room[rank(&listeners[n])]++
	}
	left := limit
	for r := range room {
		room[r] = min(room[r], left)
		left -= room[r]
	}
	return slices.DeleteFunc(listeners, func(l Listener) bool {
		r := rank(&l)
		room[r]--
		return room[r] < 0
	}), omitted
}

// rank orders listeners by how much it matters that they are reported.
func rank(l *Listener) int {
	switch {
	case l.Declared(), l.Verdict.Reason == ReasonForbidden:
		return 0
	case l.Netns == "" && l.Scope != ScopeLoopback:
		return 1
	default:
		return 2
	}
}
