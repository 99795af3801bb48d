//go:build linux

package inventory

import (
	"slices"
	"time"
)

// spot is where a listener is.
type spot struct {
	proto, netns string
	place
}

// trace is what is remembered of a listener.
type trace struct {
	spot
	counts    bool // it is of the main namespace, and passes the filters
	ephemeral bool // its port is
	client    bool
	port      *port    // that it is of, or nil
	user      uint32   // who owns its sockets
	holders   []Holder // the last ones that were known
	service   string   // that declares it; empty if none does
	lease     string   // the ID of the lease that does, or empty

	covered   bool      // events counted that it opened, or know it from before: see memory.covered
	look      uint64    // the last one that had it
	restarted uint64    // the last one at which it had restarted
	restarts  uint64    // see openListener
	firstSeen time.Time // as the ledger has it
	opened    instant   // Listener.FirstSeen, or never
	starts    *Starts   // Listener.Starts

	reason, violated string  // of the violation: why, and its service; empty if there is none
	violation        instant // since when, or never

	drops     uint64 // at the last look
	*pressure        // nil while there is nothing to remember

	// With Options.Changed:
	last     *Change  // what the next change says
	reported bool     // its changes are, unless it is a client
	followed []Holder // of which last.Holder is one
	since    instant  // when its present sockets opened, or never
}

// compare brings the traces up to date with the listing.
func (m *memory) compare(now instant, l *listing, unread map[string]bool, othersUnread bool) {
	sample := m.sampled == never || now.since(m.sampled) >= m.spacing()
	if sample {
		m.sampled = now
	}
	changed, fresh := false, l.version != m.gathered // else its times are those of the last look
	m.pressed = 0
	before := m.order
	m.order = m.order[:0]
	for n := range l.open {
		o := &l.open[n]
		at := spot{o.Proto, o.Netns, place{o.Addr, o.Device}}
		var t *trace
		if n < len(before) && before[n].spot == at { // most often, and sooner than the map says it
			t = before[n]
		} else {
			t = m.listeners[at]
		}
		isNew := t == nil
		if isNew {
			t = &trace{spot: at, restarts: o.restarts, opened: never, violation: never, drops: o.Drops, since: never}
			m.listeners[at] = t
		}
		m.order = append(m.order, t)
		t.look = m.look
		if fresh && !o.FirstSeen.Equal(t.firstSeen) {
			t.firstSeen, t.opened = o.FirstSeen, m.clock.instant(o.FirstSeen)
		}
		m.describe(t, o, l.attributed)
		isOther := o.restarts != t.restarts
		if isOther {
			m.closed(t, now)
			t.last, t.followed = nil, nil // another process may have the same name
		}
		m.follow(t, o, l.attributed)
		if _, known := m.read[o.Proto]; isNew || isOther || !known {
			t.covered = m.events.covers(o.at)
		}
		if isNew {
			m.meet(t, now)
		}
		if isOther {
			t.restarts, t.restarted = o.restarts, m.look
			m.restart(t, now)
		}
		changed = m.judgeTrace(t, &o.Listener, now, isNew) || changed
		changed = m.press(t, &o.Listener, now, sample) || changed
		if t.pressure != nil {
			m.pressed++
		}
		m.show(t, &o.Listener)
	}
	for at, t := range m.listeners {
		if len(m.listeners) == len(m.order) {
			break
		}
		if t.look == m.look || at.netns == "" && unread[at.proto] || at.netns != "" && othersUnread {
			continue
		}
		delete(m.listeners, at)
		m.closed(t, now)
		if t.counts && !t.client {
			m.change()
		}
		m.stale = m.stale || t.counts
	}
	m.gathered = l.version
	l.bound(func(s *Starts) *time.Time { return &s.Violation })
	l.bound(func(s *Starts) *time.Time { return &s.Full })
	l.bound(func(s *Starts) *time.Time { return &s.Dropping })
	if changed {
		m.changes++
		m.saved = nil
	}
}

// describe notes what a listener is now.
func (m *memory) describe(t *trace, o *openListener, attributed bool) {
	// A UDP socket that was read while it closed has the port 0.
	t.counts = o.Netns == "" && o.Addr.Port() != 0 && m.options.passes(o.Key)
	t.ephemeral, t.client = o.Range == RangeEphemeral, o.Client
	for n, s := range o.sockets {
		if n == 0 || s.UID < t.user {
			t.user = s.UID
		}
	}
	if attributed && len(o.Holders) > 0 && !slices.Equal(t.holders, o.Holders) {
		t.holders = o.Holders
		if t.counts && !t.client {
			m.change()
		}
	}
	if o.Judged {
		t.service, t.lease = "", ""
		if o.Declared() {
			t.service = o.Verdict.Service
			if o.Lease != nil {
				t.lease = o.Lease.ID
			}
		}
	}
}

// covered reports whether events count what becomes of a listener, and report it.
func (m *memory) covered(t *trace) bool { return t.covered && !m.events.failed() }

// meet notes that a listener was not there at the look before.
func (m *memory) meet(t *trace, now instant) {
	if t.counts && !t.client {
		m.change()
	}
	if _, known := m.read[t.proto]; !known {
		p := m.ports[portID{t.proto, t.addr.Port()}]
		unsaved := p != nil && len(p.traces) == maxSavedListeners // perhaps it was one too many to save
		if m.loaded && !m.cut && t.counts && !t.client && !unsaved {
			t.opened = now // it appeared while nobody watched
		}
		return
	}
	if t.opened != never { // else it was there at the start
		m.reportOpened(t, t.opened)
	}
	if !t.counts {
		return
	}
	if !m.covered(t) {
		m.counts[t.proto].Opened++
	}
	m.stale = true
	m.noteOpening(t, now)
}

// closed notes that a listener closed, unless events did.
func (m *memory) closed(t *trace, now instant) {
	m.reportClosed(t, now)
	if _, known := m.read[t.proto]; known && t.counts && !m.covered(t) {
		m.counts[t.proto].Closed++
	}
}

// restart notes that a listener opened that had closed since the last look.
func (m *memory) restart(t *trace, now instant) {
	m.reportOpened(t, now)
	if !t.counts {
		return
	}
	if !m.covered(t) {
		m.counts[t.proto].Opened++
	}
	m.stale = true
	m.noteOpening(t, now)
}

// judgeTrace notes since when a listener violates the registry, and reports whether that is news. If it is not judged, that is not known.
// What a new listener violates is counted by events where these cover it, unless it is left to looks.
func (m *memory) judgeTrace(t *trace, l *Listener, now instant, isNew bool) (changed bool) {
	if !l.Judged {
		return false
	}
	reason, service := l.Verdict.Reason, l.Verdict.Service
	if reason == "" {
		service = ""
	}
	if reason == t.reason && service == t.violated {
		return false
	}
	t.reason, t.violated, t.violation = reason, service, now
	if reason == "" {
		t.violation = never
	} else if _, known := m.read[t.proto]; known && t.counts && countsAs(reason, l.Scope) && (!isNew || !t.covered || leftToLooks(t.proto, reason)) {
		m.violations[reason]++
		m.stale = true
	}
	return true
}

// show fills in a listener's times.
func (m *memory) show(t *trace, l *Listener) {
	l.FirstSeen = m.clock.wall(t.opened)
	var starts Starts
	if l.Judged && l.Verdict.Reason != "" {
		starts.Violation = m.clock.wall(t.violation)
	}
	if t.pressure != nil {
		starts.Full, starts.Dropping = m.clock.wall(t.full), m.clock.wall(t.dropping)
	}
	switch {
	case starts == Starts{}:
		t.starts = nil
	case t.starts == nil || *t.starts != starts:
		other := starts // a snapshot may have the last ones
		t.starts = &other
	}
	l.Starts = t.starts
}

// bound leaves out one of the Starts of listeners where there are too many.
func (l *listing) bound(of func(*Starts) *time.Time) {
	var with []*openListener
	for n := range l.open {
		if o := &l.open[n]; o.Starts != nil && !of(o.Starts).IsZero() {
			with = append(with, o)
		}
	}
	if len(with) <= maxRemembered {
		return
	}
	kept := make(map[*openListener]bool)
	for _, o := range fairly(with, maxRemembered, func(o *openListener) uint32 { return o.sockets[0].UID }) {
		kept[o] = true
	}
	for _, o := range with {
		if !kept[o] {
			starts := *o.Starts
			*of(&starts) = time.Time{}
			o.Starts = &starts
		}
	}
}
