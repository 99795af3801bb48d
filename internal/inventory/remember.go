//go:build linux

package inventory

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// Memory is what happened before a snapshot, in the main network namespace. It never changes.
type Memory struct {
	// Changes has the openings and closings of each protocol that is read.
	Changes []Changes
	// Services are the required ports that are down, or have changed.
	Services []ServiceMemory
	// Gone are the ports that had been open for Options.SettledAfter and no longer are. There are none with a registry, which says what
	// must listen.
	Gone []GonePort
	// Flapping are the ports that open again and again.
	Flapping []FlappingPort
	// Violations are how many listeners have begun to violate the registry, by reason. There are none without a registry.
	Violations []ViolationCount
	// Loaded reports whether the memory goes back before the start of the exporter.
	Loaded bool
}

// Changes is how many listeners opened and closed since the exporter started.
type Changes struct {
	Proto          string
	Opened, Closed uint64
}

// ViolationCount is how many listeners have begun to violate the registry for a reason since the exporter started. Those on loopback
// that are not declared, or not there, do not count.
type ViolationCount struct {
	Reason string
	Count  uint64
}

// Last is where something last listened, and who held it, as far as that is known. Each value is there once.
type Last struct {
	Addresses, Processes, Units []string
}

// memory remembers from look to look what listens: each snapshot is a look. A protocol that could not be read is unknown, so all
// that is about it stays.
type memory struct {
	options *Options
	clock   clock
	// processes returns the exact holders of a listener of a listing that is attributed.
	processes func(*openListener) []Process

	mu       sync.Mutex // for those who export it; the rest is the flight's
	input    uint64     // the version of the listing that was last compared
	gathered uint64     // listing.version of it
	changes  uint64     // how often the listing got other times
	look     uint64
	read     map[string]instant // the last look that read each protocol
	sampled  instant            // the last look that counts for queues

	listeners   map[spot]*trace
	order       []*trace // those of the last look, in the listing's order
	pressed     int      // how many of them have a pressure
	ports       map[portID]*port
	gone        map[portID]*port
	nextSettled instant // when the next of the ports is settled, or never
	services    map[serviceID]*service
	table       *registry.Table // that has them
	openings    map[spot]*openings
	counts      map[string]*Changes
	violations  map[string]uint64 // by reason
	events      *events           // what they count, looks do not; nil without
	taken       uint64            // how many of them were taken in at the last look

	boot        string // see Remembered.Boot
	hasRegistry bool
	loaded, cut bool // see Remembered.Cut

	stale   bool // current is not what is remembered
	started bool // the host is no longer starting: current shows all
	current *Memory
	saved   *Remembered // nil if it is not what is remembered
}

// newMemory returns a memory that goes back as far as Options.Remembered.
func newMemory(o *Options, read func() (time.Duration, time.Time)) *memory {
	m := &memory{
		options: o, clock: clock{read: read}, read: make(map[string]instant), sampled: never,
		listeners: make(map[spot]*trace), ports: make(map[portID]*port), gone: make(map[portID]*port),
		services: make(map[serviceID]*service), openings: make(map[spot]*openings), counts: make(map[string]*Changes), stale: true,
		violations: make(map[string]uint64),
		boot:       bootID(o.Procfs), hasRegistry: len(o.RegistryFiles) > 0, nextSettled: never,
	}
	for _, proto := range o.protocols() {
		m.counts[proto.String()] = &Changes{Proto: proto.String()}
	}
	m.clock.now()
	if o.Remembered != nil {
		m.recall(o.Remembered)
	}
	return m
}

// remember compares the listing with that of the look before, and fills in since when its listeners are what they are. input is the
// version of the listing without these times. It returns the version with them, and the time of the look.
func (m *memory) remember(input uint64, l *listing, main *namespace, others *roundResult, j *judge, s *Snapshot) (version uint64, wall time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, wall, wasSet := m.clock.now()
	m.look++
	var unread map[string]bool // protocols
	for _, ledger := range main.ledgers {
		if ledger.failed {
			if unread == nil {
				unread = make(map[string]bool)
			}
			unread[ledger.proto.String()] = true
		}
	}
	if wasSet {
		m.change()
		m.changes++
	}
	m.settle(now)
	if input != m.input || m.pressed > 0 || wasSet {
		m.input = 0 // until it is whole
		m.compare(now, l, unread, others.read.Err != nil)
		if s.Compliance != nil {
			m.compareServices(now, s.Compliance.Services, j.table)
		}
		m.comparePorts(now, unread)
		m.input = input
	}
	for proto := range m.counts {
		if !unread[proto] {
			m.read[proto] = now
		}
	}
	m.forgetGone(now)
	m.countOpenings(now)
	counted, violations, taken := m.events.counted()
	m.stale = m.stale || taken != m.taken
	m.taken = taken
	if started := now >= bootTimeOver; m.stale || started != m.started {
		m.started, m.stale = started, false
		last := m.current
		m.current = m.publish(counted, violations)
		if len(m.current.Flapping) > 0 || last != nil && len(last.Flapping) > 0 {
			m.saved = nil
		}
	}
	return input + m.changes, wall
}

// change notes that what is remembered has changed, and is to be shown and saved.
func (m *memory) change() { m.stale, m.saved = true, nil }

// publish returns what is remembered, for those who show it, with what events have counted.
func (m *memory) publish(counted map[string]Changes, violations map[string]uint64) *Memory {
	p := &Memory{Loaded: m.loaded, Services: m.shownServices(), Flapping: m.shownFlapping()}
	for proto, c := range m.counts {
		by := counted[proto]
		p.Changes = append(p.Changes, Changes{Proto: proto, Opened: c.Opened + by.Opened, Closed: c.Closed + by.Closed})
	}
	if m.hasRegistry {
		for _, reason := range []string{ReasonBind, ReasonForbidden, ReasonProcess, ReasonReserved, ReasonUnregistered} {
			p.Violations = append(p.Violations, ViolationCount{reason, m.violations[reason] + violations[reason]})
		}
	}
	slices.SortFunc(p.Changes, func(a, b Changes) int { return cmp.Compare(a.Proto, b.Proto) })
	if m.started {
		p.Gone = m.shownGone()
	}
	return p
}

// last returns where listeners last were, and who held them.
func last(traces []*trace) (last Last) {
	add := func(to *[]string, value string) {
		if value != "" && !slices.Contains(*to, value) {
			*to = append(*to, value)
		}
	}
	for _, t := range traces {
		add(&last.Addresses, t.addr.Addr().String())
		for _, h := range t.holders {
			add(&last.Processes, h.Process)
			add(&last.Units, h.Unit)
		}
	}
	slices.Sort(last.Addresses)
	slices.Sort(last.Processes)
	slices.Sort(last.Units)
	return last
}
