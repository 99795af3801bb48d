//go:build linux

package inventory

import (
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/holder"
)

// listing is the listeners of all namespaces, sorted. Nothing is filtered or cut off yet. The stages attribute and judge fill in
// their fields of each listener.
type listing struct {
	version    uint64 // of what was gathered
	open       []openListener
	sockets    []holder.Socket // of all listeners
	gone       []Listener      // those that pass the filters
	attributed bool            // the holders of the listeners are known
}

// gather lists the listeners of all namespaces, unless it has done so for this version of them.
func (l *listing) gather(version uint64, main *namespace, others *roundResult) {
	if l.version == version {
		return
	}
	l.version = 0       // until it is whole
	var gone []Listener // snapshots keep it
	l.open, gone = main.appendListeners(slices.Grow(l.open[:0], main.most()+len(others.open)), nil)
	l.open, gone = append(l.open, others.open...), append(gone, others.gone...)
	slices.SortFunc(l.open, func(a, b openListener) int { return byPort(&a.Listener, &b.Listener) })
	gone = slices.DeleteFunc(gone, func(l Listener) bool { return !main.options.passes(l.Key) })
	slices.SortFunc(gone, func(a, b Listener) int { return byPort(&a, &b) })
	l.gone = gone
	l.sockets = make([]holder.Socket, 0, len(l.open)) // a search may still read the last ones
	for n := range l.open {
		l.sockets = append(l.sockets, l.open[n].sockets...)
	}
	l.version = version
}
