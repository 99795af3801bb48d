//go:build linux

package inventory

import (
	"slices"
	"time"
)

// Change is a listener that opened or closed.
type Change struct {
	Key
	// Opened reports whether it opened. Otherwise it closed.
	Opened bool
	// At is when, by the host's wall clock. Without Exact, it is when a look found it so.
	At time.Time
	// Holder is who held it: of several, the oldest process. What is not known is empty, or 0.
	Holder Process
	// State is what Listener.State returns for it, and Service is the service or team of the verdict.
	State, Service string
	// Lifetime is how long a listener that closed had been open, or 0 if that is not known: it was open when the exporter started.
	Lifetime time.Duration
	// Exact reports whether the kernel reported the change at once. Otherwise two looks differed.
	Exact bool
}

// countsAs reports whether a listener that violates the registry for a reason counts in ViolationCount: one of which an alert warns. On
// loopback, where each developer's server listens, that is only one that is forbidden or held by another program.
func countsAs(reason string, scope Scope) bool {
	switch reason {
	case ReasonForbidden, ReasonProcess:
		return true
	case ReasonUnregistered, ReasonReserved, ReasonBind:
		return scope != ScopeLoopback
	default:
		return false
	}
}

// leftToLooks reports whether a violation counts only once a look has seen it. Who opens a socket may hand it on to another program. And
// resolvers, such as Unbound and dnsmasq, bind a UDP socket to a random port for each query.
func leftToLooks(proto, reason string) bool {
	return reason == ReasonProcess || proto == UDP && (reason == ReasonUnregistered || reason == ReasonReserved)
}

// reports reports whether the changes of a listener are reported.
func (m *memory) reports(t *trace) bool {
	return t.last != nil && t.reported && !t.client && !m.covered(t)
}

// reportOpened reports that a listener opened, and remembers since when it has been open.
func (m *memory) reportOpened(t *trace, at instant) {
	t.since = at
	if m.reports(t) {
		c := *t.last
		c.Opened, c.At = true, m.clock.wall(at)
		m.options.Changed(c)
	}
}

// reportClosed reports that a listener closed.
func (m *memory) reportClosed(t *trace, now instant) {
	if m.reports(t) {
		c := *t.last
		c.At = m.clock.wall(now)
		if t.since != never {
			c.Lifetime = now.since(t.since)
		}
		m.options.Changed(c)
	}
}

// follow notes what the next change of a listener says of it.
func (m *memory) follow(t *trace, o *openListener, attributed bool) {
	switch {
	case m.options.Changed == nil:
		return
	case t.last == nil:
		t.last = &Change{Key: o.Key}
		t.last.Holder.UIDUnknown = true
	}
	t.reported = o.Addr.Port() != 0 && m.options.passes(o.Key)
	t.last.State, t.last.Service = o.State(), o.Verdict.Service
	if !attributed || len(o.Holders) == 0 || slices.Equal(t.followed, o.Holders) && (t.last.Holder.PID != 0 || !o.Exact) {
		return
	}
	t.followed, t.last.Holder = o.Holders, Process{Holder: o.Holders[0]}
	if exact := m.processes(o); len(exact) > 0 {
		t.last.Holder = exact[0]
	}
}
