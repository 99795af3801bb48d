package inventory

import (
	"iter"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/holder"
)

// listing is the listeners of all namespaces, sorted. Nothing is filtered or cut off yet. The stages attribute and judge fill in
// their fields of each listener.
type listing struct {
	version    uint64 // of what was gathered
	listeners  []Listener
	sockets    []holder.Socket // of all listeners
	ends       []int           // where in sockets those of each listener end
	gone       []Listener      // those that pass the filters
	attributed bool            // the holders of the listeners are known
}

// gather lists what the namespaces hold, unless it is what the listing has already. version is the namespaces'.
func (l *listing) gather(version uint64, main *namespace, others *roundResult) {
	if l.version == version {
		return
	}
	l.version = version
	open, gone := main.appendListeners(nil, nil)
	open, gone = append(open, others.open...), append(gone, others.gone...)
	slices.SortFunc(open, func(a, b openListener) int { return byPort(&a.Listener, &b.Listener) })
	gone = slices.DeleteFunc(gone, func(l Listener) bool { return !main.options.passes(l.Key) })
	slices.SortFunc(gone, func(a, b Listener) int { return byPort(&a, &b) })
	l.gone = gone
	l.listeners = slices.Grow(l.listeners[:0], len(open))
	l.sockets, l.ends = l.sockets[:0], l.ends[:0]
	for n := range open {
		l.listeners = append(l.listeners, open[n].Listener)
		l.sockets = append(l.sockets, open[n].sockets...)
		l.ends = append(l.ends, len(l.sockets))
	}
}

// all returns each listener with its sockets.
func (l *listing) all() iter.Seq2[*Listener, []holder.Socket] {
	return func(yield func(*Listener, []holder.Socket) bool) {
		first := 0
		for n, end := range l.ends {
			if !yield(&l.listeners[n], l.sockets[first:end]) {
				return
			}
			first = end
		}
	}
}
