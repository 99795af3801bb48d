//go:build linux

package inventory

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// fill takes in the events that have happened until now, and fills in the connections of each listener. input is the version of the
// listing without them; it returns the version of the listing with them, and how many events were lost.
func (e *events) fill(ctx context.Context, input uint64, l *listing, others *roundResult, c *clock) (version, lost uint64, _ Read) {
	start := time.Now()
	read := Read{Collector: CollectorEvent}
	read.Err = func() error {
		if err := e.drain(ctx); err != nil {
			return err
		}
		e.agree(l, others)
		return e.readConnections()
	}()
	if read.Err == nil {
		read.Err = e.forgetUnused(l)
	}
	if e.fillIn(l, c, read.Err == nil) {
		e.version++
	}
	read.Duration = time.Since(start)
	return input + e.version, e.lost, read
}

// agree compares what is known by events with a look. At first, and when events were lost, looks know better: a listener whose event
// was lost is as they say.
func (e *events) agree(l *listing, others *roundResult) {
	lost, err := e.source.Lost()
	trusts := err == nil && lost == e.lost && e.adopted
	e.lost, e.adopted = max(lost, e.lost), true
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names = others.names
	if trusts {
		return
	}
	open := make(map[event.Place]bool, len(l.open))
	for n := range l.open {
		o := &l.open[n]
		open[o.at] = true
		if o.at.Proto != socket.TCP || o.at.Netns == 0 || e.announced[o.at] != nil || len(e.announced) >= maxAnnounced {
			continue
		}
		a := &announced{change: Change{Key: o.Key, State: o.State(), Service: o.Verdict.Service}}
		a.change.Holder.UIDUnknown = true
		if len(o.Holders) > 0 {
			a.change.Holder.Holder = o.Holders[0]
		}
		e.announced[o.at] = a
	}
	maps.DeleteFunc(e.announced, func(at event.Place, a *announced) bool {
		return !open[at] && time.Since(a.change.At) > drainTime+e.options.Interval
	})
}

// readConnections reads the connections of all places.
func (e *events) readConnections() error {
	clear(e.connections)
	err := e.source.Connections(func(at event.Place, c event.Connections) {
		if !e.detailed {
			at.Interface = 0
		}
		all := e.connections[at]
		e.connections[at] = event.Connections{Count: all.Count + c.Count, Last: max(all.Last, c.Last)}
	})
	if err != nil {
		return fmt.Errorf("read the connections of listeners: %w", err)
	}
	return nil
}

// fillIn fills in the connections of each TCP listener, and reports whether any has changed. The kernel counts them from the listen() on.
// Only for a listener that was open before, and for one for which there was no room, the place must be watched. One that has closed must
// not be: the kernel would take the next one there for a second socket of it.
func (e *events) fillIn(l *listing, c *clock, known bool) (changed bool) {
	placed := make(map[event.Place]bool, len(e.placed))
	for n := range l.open {
		o := &l.open[n]
		if o.at.Proto != socket.TCP {
			continue
		}
		var now Connections
		if known && o.at.Netns != 0 {
			found, counts := e.connections[o.at]
			if !counts && !e.placed[o.at] && e.mayWatch(o.at) {
				counts = e.source.Watch(o.at, o.Sockets) == nil
			}
			placed[o.at] = counts || e.placed[o.at]
			now = Connections{Counts: counts, Count: found.Count}
			if found.Last > 0 {
				now.Last = c.wall(instant(found.Last))
			}
		}
		if o.Connections != now {
			o.Connections, changed = now, true
		}
	}
	if known {
		e.placed = placed
	}
	return changed
}

// forgetUnused has the connections of a place no longer counted that no listener of two looks had. Nearly all places go by themselves.
func (e *events) forgetUnused(l *listing) error {
	unused := make(map[event.Place]bool)
	for at := range e.connections {
		unused[at] = true
	}
	for n := range l.open {
		delete(unused, l.open[n].at)
	}
	e.mu.Lock()
	maps.DeleteFunc(unused, func(at event.Place, _ bool) bool {
		return at.Netns != e.main && e.options.Netns != "all" || e.announced[at] != nil
	})
	e.mu.Unlock()
	for at := range unused {
		if e.unused[at] {
			if err := e.source.Forget(at); err != nil {
				return fmt.Errorf("forget the connections of port %d: %w", at.Addr.Port(), err)
			}
		}
	}
	e.unused = unused
	return nil
}
