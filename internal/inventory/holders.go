package inventory

import (
	"cmp"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
)

// maxHolders is how many holders of a listener are told one by one.
const maxHolders = 4

// attribute finds out who holds each listener, and tells whether that changed anything. same tells that the listeners are those
// of the last snapshot.
func (i *Inventory) attribute(snapshot *Snapshot, same bool) (changed bool) {
	start := time.Now()
	changed, err := i.holders.Find(i.held, same)
	snapshot.Reads = append(snapshot.Reads, Read{Collector: CollectorHolder, Err: err, Duration: time.Since(start)})
	i.report("holders", err)
	if same && !changed && err == nil && i.attributed {
		return false
	}
	i.attributed = err == nil
	first := 0
	for n, end := range i.heldEnds {
		l := &i.all[n]
		l.holders, l.Exact = nil, false
		if err == nil {
			l.holders = i.holdersOf(i.held[first:end])
			l.Exact = i.areExact(i.held[first:end])
		}
		l.ManyHolders = len(l.holders) > maxHolders
		l.Holders = l.holders[:min(len(l.holders), maxHolders)]
		first = end
	}
	return true
}

// areExact tells whether the processes that hold sockets are known for certain.
func (i *Inventory) areExact(sockets []holder.Socket) bool {
	return !slices.ContainsFunc(sockets, func(s holder.Socket) bool { return !i.holders.Exact(s) })
}

// holdersOf returns the holders of a listener's sockets, each once.
func (i *Inventory) holdersOf(sockets []holder.Socket) []holder.Holder {
	if len(sockets) == 1 {
		return i.holders.Holders(sockets[0])
	}
	var holders []holder.Holder
	for _, s := range sockets {
		for _, h := range i.holders.Holders(s) {
			if !slices.Contains(holders, h) {
				holders = append(holders, h)
			}
		}
	}
	slices.SortFunc(holders, byProcess)
	return holders
}

func byProcess(a, b holder.Holder) int {
	return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.Unit, b.Unit),
		cmp.Compare(a.ContainerID, b.ContainerID), cmp.Compare(a.PodUID, b.PodUID), cmp.Compare(a.UID, b.UID))
}
