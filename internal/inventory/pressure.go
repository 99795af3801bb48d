//go:build linux

package inventory

import (
	"slices"
	"time"
)

const (
	// looksOfQueue is at how many looks in a row it counts whether a queue is full, and fullLooks at how many of them it must be.
	looksOfQueue, fullLooks = 4, 3
	// leastSpacing is how far such looks are apart at least, when nothing but scrapes looks.
	leastSpacing = 2500 * time.Millisecond
	// crowdedFor is for how long it counts that the accept queue was more than half full.
	crowdedFor = 2 * time.Minute
	// dropWindow is over how long lost packets are counted, and dropSpacing how far the counts are apart at least.
	dropWindow, dropSpacing = time.Minute, 5 * time.Second
)

// pressure is what is remembered of a listener that gets more than it can take.
type pressure struct {
	fullAt   [looksOfQueue]instant // the last looks: each, or never where the queue was not full
	full     instant               // since when it is full, or never
	crowded  instant               // when the accept queue was last more than half full, or never
	counted  []dropCount
	dropping instant // since when it loses packets, or never
}

// newPressure returns a pressure whose queue has been full at all looks since full, or at none if that is never.
func newPressure(full, crowded, dropping instant) *pressure {
	p := &pressure{full: full, crowded: crowded, dropping: dropping}
	for n := range p.fullAt {
		p.fullAt[n] = full
	}
	return p
}

// dropCount is how many packets a listener had lost at a look.
type dropCount struct {
	at    instant
	drops uint64
}

// spacing is how far looks must be apart to count for queues: two that come at the same moment see the same connection wait.
func (m *memory) spacing() time.Duration {
	if m.options.Interval == 0 {
		return leastSpacing
	}
	return m.options.Interval / 2
}

// press notes how much a listener has to do, and reports whether it is news that it is too much. sample is set at a look that counts
// for queues.
func (m *memory) press(t *trace, l *Listener, now instant, sample bool) (changed bool) {
	crowded := l.AcceptQueueLimit > 0 && 2*l.AcceptQueueLength > l.AcceptQueueLimit
	if t.pressure == nil {
		if !l.Full() && !crowded && l.Drops == t.drops {
			return false
		}
		t.pressure = newPressure(never, never, never)
	}
	p := t.pressure
	full, dropping := p.full, p.dropping
	if sample {
		p.sampleQueue(l.Full(), now)
	}
	if crowded {
		p.crowded = now
	}
	if (l.Drops != t.drops || p.dropping != never) && len(p.counted) == 0 {
		before, known := m.read[t.proto]
		if !known {
			before = now
		}
		p.counted = append(p.counted, dropCount{before, t.drops})
	}
	t.drops = l.Drops
	p.countDrops(l.Drops, now, l.Proto == UDP || p.crowded != never && now.since(p.crowded) <= crowdedFor)
	changed = full != p.full || dropping != p.dropping
	if p.full == never && p.dropping == never && len(p.counted) == 0 && (p.crowded == never || now.since(p.crowded) > crowdedFor) &&
		!slices.ContainsFunc(p.fullAt[:], func(at instant) bool { return at != never }) {
		t.pressure = nil
	}
	return changed
}

// sampleQueue notes whether the queue is full at a look that counts.
func (p *pressure) sampleQueue(full bool, now instant) {
	copy(p.fullAt[:], p.fullAt[1:])
	p.fullAt[looksOfQueue-1] = never
	if full {
		p.fullAt[looksOfQueue-1] = now
	}
	count, first := 0, never
	for _, at := range p.fullAt {
		if at != never {
			count++
			if first == never {
				first = at
			}
		}
	}
	switch {
	case p.full == never && count >= fullLooks:
		p.full = first
	case p.full != never && p.fullAt[looksOfQueue-1] == never && p.fullAt[looksOfQueue-2] == never:
		p.full = never
	}
}

// countDrops counts the packets that were lost within dropWindow. counts is set if a loss means that the listener is too slow.
func (p *pressure) countDrops(drops uint64, now instant, counts bool) {
	if len(p.counted) == 0 {
		return
	}
	if n := len(p.counted); n > 1 && now.since(p.counted[n-2].at) < dropSpacing {
		p.counted = p.counted[:n-1]
	}
	p.counted = append(p.counted, dropCount{now, drops})
	for len(p.counted) > 1 && now.since(p.counted[1].at) >= dropWindow {
		p.counted = slices.Delete(p.counted, 0, 1)
	}
	first := p.counted[0]
	lost, over := drops-first.drops, max(dropWindow, now.since(first.at))
	switch {
	case counts && float64(lost) > over.Seconds():
		if p.dropping == never {
			p.dropping = first.at
		}
	case !counts || now.since(first.at) >= dropWindow:
		p.dropping = never
	}
	if lost == 0 && now.since(first.at) >= dropWindow {
		p.counted = nil
	}
}
