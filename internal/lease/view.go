//go:build linux

package lease

import (
	"slices"
	"time"
)

// View is the leases at one moment. It never changes, and may be shared.
type View struct {
	// Version changes whenever a lease begins, ends, expires, overstays, or is renewed after that.
	Version uint64
	// Time is when it was, on CLOCK_BOOTTIME.
	Time time.Duration
	// Leases are those of all hosts, sorted by their first port.
	Leases []Lease
	// Ended are those of this host that ended within the last EndedKept, each with a Deadline that is when it ended. A look, or an event
	// of the kernel, may be from before that.
	Ended []Lease
	// Teams are the teams with ranges from which somebody may lease, in the order of their first ports.
	Teams []Team
	// Err is why the store cannot be reached, or nil. The leases are then those that were last known: those of this host count as
	// alive, as nobody can renew them.
	Err error
	// Unwritable is why the store takes no leases although it can be reached, or nil. Leases that have not overstayed are renewed nevertheless, and all end.
	Unwritable error

	// byPort has the leases of this host. A View that was not made by a Manager has none.
	byPort map[uint16]*Lease
}

// EndedKept is for how long a View has a lease that ended.
const EndedKept = 10 * time.Second

// WasAlive reports whether a lease of the view is of this host, and was alive at some time since a time on CLOCK_BOOTTIME.
func (v View) WasAlive(l *Lease, since time.Duration) bool {
	return l.Deadline != 0 && (since < l.Deadline || v.Err != nil && l.Overstayed == 0)
}

// Team is how the ranges of a team are leased on this host.
type Team struct {
	Name string
	// Leased is how many ports are leased on this host, overstayed ones included. Available is how many could be leased now: not
	// leased on any host, not refused by the rules, and not listening at the last look.
	Leased, Available int
}

// State returns the state of a lease of the view: Held if it counts as alive. One of another host is held until it is overstayed or removed.
func (v View) State(l *Lease) string {
	switch {
	case l.Overstayed != 0:
		return Overstayed
	case l.Deadline == 0 || v.alive(l):
		return Held
	default:
		return Expired
	}
}

// Of returns the lease of this host that is alive and has a protocol and port.
func (v View) Of(proto string, port uint16) (*Lease, bool) {
	l := v.byPort[port]
	if v.byPort == nil {
		i := slices.IndexFunc(v.Leases, func(l Lease) bool { return l.Deadline != 0 && l.Has(proto, port) })
		if i < 0 {
			return nil, false
		}
		l = &v.Leases[i]
	}
	if l == nil || l.Proto != proto || !v.alive(l) {
		return nil, false
	}
	return l, true
}

// alive reports whether a lease of this host counts as alive.
func (v *View) alive(l *Lease) bool {
	return l.Deadline != 0 && (l.Alive(v.Time) || v.Err != nil && l.Overstayed == 0)
}

// look is what a look at the ports of the host found.
type look struct {
	at        time.Duration
	whole     bool
	listening portSet
}

// seen is what the last View was made of.
type seen struct {
	version uint64
	leases  []Lease
	states  []state
	byPort  map[uint16]*Lease
	leased  portSet        // by any host
	byTeam  map[string]int // ports that are leased on this host
}

// state is how a lease counts.
type state struct{ alive, overstayed bool }

// View returns all leases as they are known now.
func (m *Manager) View() View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view()
}

// Looked notes which ports of the host listened, of any protocol and in any order, at a look that began at a time on CLOCK_BOOTTIME. It
// returns the leases as they are known now. whole reports whether all protocols could be read: otherwise a port that did not listen may.
func (m *Manager) Looked(at time.Duration, listening []uint16, whole bool) View {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at >= m.look.at {
		m.look = look{at: at, whole: whole}
		m.look.listening.addAll(listening)
		if whole {
			m.listening = portSet{}
		}
		m.listening.join(&m.look.listening)
	}
	select {
	case m.wake <- struct{}{}:
	default: // it is woken
	}
	return m.view()
}

// view returns the leases. The caller has the lock.
func (m *Manager) view() View {
	v := View{Time: m.clock()}
	v.Leases, v.Err = m.options.Store.Leases()
	v.Unwritable = m.options.Store.Unwritable()
	m.seen.update(&v)
	v.Version, v.byPort = m.seen.version, m.seen.byPort
	for id, l := range m.ending {
		if kept := v.byPort[l.Ports[0]]; kept == nil || kept.ID != id {
			m.addEnded(l)
		}
	}
	for len(m.ended) > 0 && v.Time-m.ended[0].Deadline >= EndedKept {
		m.ended = m.ended[1:]
	}
	v.Ended = slices.Clip(m.ended)
	if m.ruled == nil {
		return v
	}
	taken := m.ruled.refused
	taken.join(&m.seen.leased)
	taken.join(&m.listening)
	for _, t := range m.ruled.teams {
		team := Team{Name: t.name, Leased: m.seen.byTeam[t.name]}
		for _, r := range t.ports {
			team.Available += r.Size() - taken.sizeIn(r)
		}
		v.Teams = append(v.Teams, team)
	}
	return v
}

// update notes what a View is made of.
func (s *seen) update(v *View) {
	unchanged := len(s.leases) == len(v.Leases) && (len(v.Leases) == 0 || &s.leases[0] == &v.Leases[0])
	states := make([]state, len(v.Leases))
	for i := range v.Leases {
		states[i] = state{v.alive(&v.Leases[i]), v.Leases[i].Overstayed != 0}
	}
	same := slices.Equal(s.states, states) &&
		(unchanged || slices.EqualFunc(s.leases, v.Leases, func(a, b Lease) bool { return a.ID == b.ID }))
	if !same {
		s.version++
	}
	s.states = states
	if unchanged && s.byPort != nil {
		return
	}
	s.leases, s.leased, s.byPort, s.byTeam = v.Leases, portSet{}, make(map[uint16]*Lease), make(map[string]int)
	for i := range v.Leases {
		l := &v.Leases[i]
		s.leased.addAll(l.Ports)
		if l.Deadline == 0 {
			continue
		}
		s.byTeam[l.Team] += len(l.Ports)
		for _, port := range l.Ports {
			s.byPort[port] = l
		}
	}
}
