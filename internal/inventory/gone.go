//go:build linux

package inventory

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// bootTimeOver is how long after its boot a host is taken to be still starting: what is not there yet is not missing.
const bootTimeOver = instant(5 * time.Minute)

// replacedWithin is how long before the loss of an ephemeral port its holder may have opened another one in its place.
const replacedWithin = 5 * time.Minute

// GonePort is a port that is no longer open.
type GonePort struct {
	Proto string
	Port  uint16
	Since time.Time
	Last  Last
}

// portID identifies a port of the main namespace.
type portID struct {
	proto string
	port  uint16
}

// port is what is remembered of a port that is open, or is gone.
type port struct {
	portID
	look     uint64  // the last one at which it was open
	since    instant // when it opened; a settled port that comes back is settled
	settled  bool    // it has been open for Options.SettledAfter
	opened   instant // when it last opened
	gone     instant // or never
	returned bool    // it went and came back, so it is not a port by chance
	replaces bool    // a port that is gone, by chance
	traces   []*trace
}

// comparePorts brings the ports up to date with the traces.
func (m *memory) comparePorts(now instant, unread map[string]bool) {
	open := 0
	for _, t := range m.order {
		if !t.counts || t.client {
			continue
		}
		if t.port == nil {
			t.port = m.portOf(t, now)
		}
		if p := t.port; p.look != m.look {
			p.look, p.traces = m.look, p.traces[:0]
			open++
		}
		t.port.traces = append(t.port.traces, t)
	}
	for id, p := range m.ports {
		if len(m.ports) == open {
			break
		}
		if p.look == m.look || unread[id.proto] {
			continue
		}
		listens := false // but is no longer reported, as other flags than before the start may say
		for _, t := range p.traces {
			t.port = nil
			listens = listens || t.look == m.look
		}
		delete(m.ports, id)
		m.change()
		if !m.hasRegistry && p.settled && !p.inPod() && !listens {
			p.gone = now
			m.gone[id] = p
		}
	}
	m.forgetReplaced()
	if len(m.gone) > maxRemembered {
		kept := fairly(m.goneInOrder(), maxRemembered, (*port).user)
		clear(m.gone)
		for _, p := range kept {
			m.gone[p.portID] = p
		}
	}
}

// portOf returns the port of a listener, which has just opened unless another listener has it open.
func (m *memory) portOf(t *trace, now instant) *port {
	id := portID{t.proto, t.addr.Port()}
	p := m.ports[id]
	if p != nil {
		return p
	}
	if p = m.gone[id]; p != nil {
		p.opened, p.gone, p.returned = now, never, true
		delete(m.gone, id)
	} else {
		p = &port{portID: id, since: now, opened: now, gone: never}
		m.settles(p)
	}
	m.ports[id] = p
	m.change()
	return p
}

// settles notes when a port will have been open for long enough.
func (m *memory) settles(p *port) {
	if at := p.since + instant(m.options.SettledAfter); m.nextSettled == never || at < m.nextSettled {
		m.nextSettled = at
	}
}

// settle notes which ports have been open for long enough.
func (m *memory) settle(now instant) {
	if m.nextSettled == never || now < m.nextSettled {
		return
	}
	m.nextSettled = never
	for _, p := range m.ports {
		switch {
		case p.settled:
		case now.since(p.since) >= m.options.SettledAfter:
			p.settled = true
			m.saved = nil
		default:
			m.settles(p)
		}
	}
}

// forgetGone forgets the ports that have been gone for long enough.
func (m *memory) forgetGone(now instant) {
	for id, p := range m.gone {
		if now.since(p.gone) >= m.options.Remember {
			delete(m.gone, id)
			m.change()
		}
	}
}

// goneInOrder returns the ports that are gone, the first one first.
func (m *memory) goneInOrder() []*port {
	all := make([]*port, 0, len(m.gone))
	for _, p := range m.gone {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *port) int {
		return cmp.Or(cmp.Compare(a.gone, b.gone), cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	})
	return all
}

// shownGone returns the ports that are gone.
func (m *memory) shownGone() (gone []GonePort) {
	for _, p := range m.goneInOrder() {
		gone = append(gone, GonePort{p.proto, p.port, m.clock.wall(p.gone), last(p.traces)})
	}
	return gone
}

// forgetReplaced forgets ports that are gone because the kernel chose another one: an ephemeral port whose holder has opened an
// ephemeral port since. Each of these replaces one.
func (m *memory) forgetReplaced() {
	if len(m.gone) == 0 {
		return
	}
	all := m.goneInOrder()
	candidates := make(map[string][]*port)
	for _, p := range m.ports {
		if p.opened.since(all[0].gone) > -replacedWithin && p.byChance() && !p.replaces {
			for _, name := range p.holderNames() {
				candidates[name] = append(candidates[name], p)
			}
		}
	}
	if len(candidates) == 0 {
		return
	}
	for _, g := range all {
		if !g.byChance() {
			continue
		}
		for _, name := range g.holderNames() {
			at := slices.IndexFunc(candidates[name], func(p *port) bool {
				return p.proto == g.proto && !p.replaces && p.opened.since(g.gone) > -replacedWithin
			})
			if at >= 0 {
				candidates[name][at].replaces = true
				delete(m.gone, g.portID)
				m.change()
				break
			}
		}
	}
}

// byChance reports whether the kernel may have chosen the port.
func (p *port) byChance() bool {
	return !p.returned && p.ephemeral()
}

func (p *port) ephemeral() bool {
	return !slices.ContainsFunc(p.traces, func(t *trace) bool { return !t.ephemeral })
}

// holderNames returns what a restart of the port's holder leaves as it is: its unit, or the name of a process without one. A scope is
// another one after a restart.
func (p *port) holderNames() (names []string) {
	for _, t := range p.traces {
		for _, h := range t.holders {
			name := "unit " + h.Unit
			if h.Unit == "" || strings.HasSuffix(h.Unit, ".scope") {
				name = "process " + h.Process
			}
			if name != "process " && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// inPod reports whether a pod held the port: Kubernetes moves pods to other hosts.
func (p *port) inPod() bool {
	return slices.ContainsFunc(p.traces, func(t *trace) bool {
		return slices.ContainsFunc(t.holders, func(h Holder) bool { return h.PodUID != "" })
	})
}

// user returns who owns the sockets of the port.
func (p *port) user() uint32 {
	if len(p.traces) == 0 {
		return 0
	}
	return slices.MinFunc(p.traces, func(a, b *trace) int { return cmp.Compare(a.user, b.user) }).user
}
