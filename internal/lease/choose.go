//go:build linux

package lease

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// choice is how the ports of a lease are chosen.
type choice struct {
	*wanted
	// leases are those of all hosts, those that are just given too.
	leases []Lease
	rules  *ruled
	now    time.Duration
	chosen []uint16
	// why says of ports why they could not be bound.
	why map[uint16]string
}

// choose chooses the ports of the lease that is wanted, and keeps them from others until settle. It returns the expired leases that still
// have some of them.
func (m *Manager) choose(ctx context.Context, w *wanted, rules *ruled) (expired []Lease, err error) {
	end, err := m.mayBind(ctx, w.lease.UID)
	if err != nil {
		return nil, err
	}
	defer end()
	m.settle(w)
	m.mu.Lock()
	pending := slices.Collect(maps.Values(m.pending))
	listening := m.listening
	start, tried := m.next[w.lease.Team]
	m.mu.Unlock()
	stored, away := m.options.Store.Leases() // after the pending ones: what is settled is stored
	c := &choice{wanted: w, rules: rules, now: m.clock(), leases: slices.Concat(stored, w.taken), why: make(map[uint16]string)}
	var given portSet
	for _, l := range pending {
		given.addAll(l.Ports)
		if !slices.ContainsFunc(stored, func(of Lease) bool { return of.ID == l.ID }) {
			l.Deadline = c.now + l.TTL
			c.leases = append(c.leases, l)
		}
	}
	if err := m.limits(c); err != nil {
		return nil, err
	}

	if !tried {
		start = w.ports.nth(rand.IntN(w.ports.size()))
	}
	free := w.ports
	free.without(&rules.refused)
	free.without(&listening)
	for _, l := range c.leases {
		free.removeAll(l.Ports)
	}
	for port := range free.from(start) {
		if len(c.chosen) == w.count || ctx.Err() != nil {
			break
		}
		if err := prove(port); err != nil {
			c.why[port] = whyNot(err)
			continue
		}
		c.chosen = append(c.chosen, port)
	}
	if len(c.chosen) < w.count {
		listening.join(&given)
		expired = c.reclaimable(stored, &listening)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(c.chosen) == w.count:
	case away != nil:
		return nil, away // which may have ended leases
	default:
		return nil, c.exhausted()
	}
	w.lease.Ports = c.chosen
	w.lease.AnyUser = !slices.ContainsFunc(c.chosen, func(port uint16) bool { return !w.anyUser.has(port) })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending[w] = w.lease
	m.next[w.lease.Team] = c.chosen[w.count-1] + 1
	return expired, nil
}

// mayBind waits until ports may be bound for a user. Two who bind a port are in each other's way. Whoever asks often waits for the own
// requests first: to find none of many ports free takes long.
func (m *Manager) mayBind(ctx context.Context, uid uint32) (end func(), err error) {
	endOf, err := m.bindingOf[uid%uint32(len(m.bindingOf))].take(ctx)
	if err != nil {
		return nil, err
	}
	endBinding, err := m.binding.take(ctx)
	if err != nil {
		endOf()
		return nil, err
	}
	return func() { endBinding(); endOf() }, nil
}

// settle lets others have the ports that were chosen, unless the store has given them by then.
func (m *Manager) settle(w *wanted) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pending, w)
}

// reclaimable adds ports of leases that have expired and are not swept yet, if all their ports are free and not in a set. It returns these
// leases, those that expired first before others, whose owners may only be late.
func (c *choice) reclaimable(stored []Lease, not *portSet) (expired []Lease) {
	for _, l := range slices.SortedFunc(slices.Values(stored), func(a, b Lease) int { return cmp.Compare(a.Deadline, b.Deadline) }) {
		if len(c.chosen) == c.count {
			break
		}
		if l.Deadline == 0 || l.Alive(c.now) || slices.ContainsFunc(c.taken, func(of Lease) bool { return of.ID == l.ID }) {
			continue
		}
		wants := func(port uint16) bool { return c.ports.has(port) && !c.rules.refused.has(port) }
		if !slices.ContainsFunc(l.Ports, wants) || slices.ContainsFunc(l.Ports, not.has) || !proven(&l) {
			continue
		}
		expired = append(expired, l)
		for _, port := range l.Ports {
			if len(c.chosen) < c.count && wants(port) {
				c.chosen = append(c.chosen, port)
			}
		}
	}
	return expired
}

// maxHolders is how many holders an ExhaustedError has.
const maxHolders = 20

// exhausted returns the error of ranges in which too few ports are left.
func (c *choice) exhausted() error {
	e := &ExhaustedError{Team: c.lease.Team, Count: c.count, Left: len(c.chosen), Size: c.ports.size()}
	rest := c.ports
	for _, port := range c.chosen {
		rest.remove(port)
	}
	by := make(map[uint16]*Lease)
	for i := range c.leases {
		for _, port := range c.leases[i].Ports {
			by[port] = &c.leases[i]
		}
	}
	for port := range rest.from(0) {
		l := by[port]
		if l == nil {
			continue
		}
		rest.remove(port)
		if len(e.Holders) == maxHolders {
			e.More++
			continue
		}
		h := PortHolder{Port: port, Why: "leased", Name: l.Name, User: l.User, Host: l.Host, Expires: l.Deadline}
		switch {
		case l.Overstayed != 0:
			h.Why = "overstayed"
		case l.Deadline != 0 && !l.Alive(c.now):
			h.Why = "expired, but in use"
		}
		e.Holders = append(e.Holders, h)
	}
	closed := sync.OnceValue(closedConnections) // which reads up to 8 MiB
	for port := range rest.from(0) {
		if len(e.Holders) == maxHolders {
			e.More += rest.size()
			break
		}
		rest.remove(port)
		h := PortHolder{Port: port, Why: cmp.Or(c.why[port], c.rules.Refuse(port), inUse)}
		if h.Why == inUse && closed().has(port) {
			h.Why = "in use by connections that were closed within the last minute"
		}
		e.Holders = append(e.Holders, h)
	}
	return e
}
