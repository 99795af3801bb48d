//go:build linux

package inventory

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
)

// maxHolders is how many holders of a listener are reported one by one.
const maxHolders = 4

// holderFinder finds the holders of sockets: a *holder.Finder.
type holderFinder interface {
	// Find brings the finder up to date. same reports that the sockets are those of the last call, and changed that their holders
	// are others.
	Find(sockets []holder.Socket, same bool) (changed bool, err error)
	// Holders returns the holders of a socket, and Exact reports whether they are known for certain.
	Holders(s holder.Socket) []holder.Holder
	Exact(s holder.Socket) bool
	// Processes returns the exact holders of a socket.
	Processes(s holder.Socket) []holder.Process
}

// attribution finds the holders of listeners.
type attribution struct {
	finder holderFinder
	search background
	sought uint64 // the version of the listing whose holders were last searched for
	found  bool   // a search since the last attribution changed the holders

	input   uint64 // the version of the listing whose holders are filled in
	changes uint64 // how often the holders have changed
}

// attribute fills in the holders of each listener. input is the version of the listing without holders; it returns the version of
// the listing with them.
func (a *attribution) attribute(ctx context.Context, input uint64, l *listing) (version uint64, _ Read) {
	start := time.Now()
	err := a.find(ctx, input, l.sockets)
	read := Read{Collector: CollectorHolder, Err: err, Duration: time.Since(start)}
	changed := false
	if !errors.Is(err, errStillReading) {
		changed, a.found = a.found, false
	}
	if known := err == nil; changed || known != l.attributed {
		l.attributed = known
		a.changes++
	} else if a.input == input {
		return input + a.changes, read
	}
	a.input = 0 // until it is whole
	for n := range l.open {
		listener := &l.open[n]
		var holders []Holder
		listener.held, listener.creators, listener.Exact = nil, nil, l.attributed
		if l.attributed {
			holders = a.holdersOf(listener)
			for _, s := range listener.sockets {
				if !a.finder.Exact(s) {
					listener.held, listener.Exact = append(listener.held, nil), false
					for _, h := range a.finder.Holders(s) {
						if h.Unit != "" {
							listener.creators = append(listener.creators, h.Unit)
						}
					}
					continue
				}
				listener.held = append(listener.held, a.finder.Holders(s))
			}
		}
		listener.Holders, listener.ManyHolders = shown(holders)
	}
	a.input = input
	return input + a.changes, read
}

// find searches for the holders of the listing's sockets.
func (a *attribution) find(ctx context.Context, input uint64, sockets []holder.Socket) error {
	// A search that an earlier snapshot did not wait for was for other sockets. Only whether it ended counts.
	if err := a.search.wait(ctx); errors.Is(err, errStillReading) {
		return err
	}
	same := a.sought == input
	a.sought = input
	return a.search.do(ctx, func() error {
		changed, err := a.finder.Find(sockets, same)
		a.found = a.found || changed
		return err
	})
}

// holdersOf returns the holders of a listener's sockets, each once.
func (a *attribution) holdersOf(l *openListener) (holders []holder.Holder) {
	for _, s := range l.sockets {
		of := a.finder.Holders(s)
		if len(of) == 0 {
			of = l.inhabitants.Holders(s)
		}
		if len(l.sockets) == 1 {
			return of
		}
		holders = append(holders, of...)
	}
	slices.SortFunc(holders, holder.Compare)
	return slices.Compact(holders)
}

// processes returns the exact holders of each listener, by their PIDs.
func (a *attribution) processes(l *listing) map[Key][]Process {
	all := make(map[Key][]Process)
	for n := range l.open {
		o := &l.open[n]
		all[o.Key] = a.processesOf(o)
	}
	return all
}

// processesOf returns the exact holders of a listener, the one with the lowest PID first.
func (a *attribution) processesOf(l *openListener) (processes []Process) {
	for _, s := range l.sockets {
		processes = append(processes, a.finder.Processes(s)...)
	}
	slices.SortFunc(processes, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return slices.Compact(processes)
}

// shown returns the first maxHolders holders, each once, and whether there are more. Their executables, and
// whether they are known to be in no unit, are only for judging.
func shown(holders []holder.Holder) (first []holder.Holder, many bool) {
	for _, h := range holders {
		h.Executable, h.NoUnit = "", false
		switch {
		case slices.Contains(first, h):
		case len(first) == maxHolders:
			return first, true
		default:
			first = append(first, h)
		}
	}
	return first, false
}
