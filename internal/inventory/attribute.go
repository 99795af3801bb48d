package inventory

import (
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
}

// attribution finds the holders of listeners.
type attribution struct {
	finder  holderFinder
	input   uint64 // the version of the listing whose holders are known
	changes uint64 // how often a search changed the holders
}

// attribute fills in the holders of each listener. input is the version of the listing without holders; it returns the version of
// the listing with them.
func (a *attribution) attribute(input uint64, l *listing) (version uint64, _ Read) {
	start := time.Now()
	same := a.input == input
	changed, err := a.finder.Find(l.sockets, same)
	read := Read{Collector: CollectorHolder, Err: err, Duration: time.Since(start)}
	if known := err == nil; changed || known != l.attributed {
		l.attributed = known
		a.changes++
	} else if same {
		return input + a.changes, read
	}
	a.input = input
	for n := range l.open {
		listener := &l.open[n]
		listener.holders, listener.Exact = nil, false
		if l.attributed {
			listener.holders = a.holdersOf(listener.sockets)
			listener.Exact = !slices.ContainsFunc(listener.sockets, func(s holder.Socket) bool { return !a.finder.Exact(s) })
		}
		listener.ManyHolders = len(listener.holders) > maxHolders
		listener.Holders = listener.holders[:min(len(listener.holders), maxHolders)]
	}
	return input + a.changes, read
}

// holdersOf returns the holders of a listener's sockets, each once.
func (a *attribution) holdersOf(sockets []holder.Socket) []holder.Holder {
	if len(sockets) == 1 {
		return a.finder.Holders(sockets[0])
	}
	var holders []holder.Holder
	for _, s := range sockets {
		holders = append(holders, a.finder.Holders(s)...)
	}
	slices.SortFunc(holders, holder.Compare)
	return slices.Compact(holders)
}
