package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// Limits of one round.
const (
	// perRound is how many namespaces a round reads. The first round reads all of them.
	perRound = 64
	// roundTime is the time within which a round may begin to read a namespace, and how long a snapshot waits for the round's end.
	roundTime = 200 * time.Millisecond
	// firstRoundTime is the same for the first round.
	firstRoundTime = 5 * time.Second
)

// rounds reads the network namespaces other than the main one. Each round reads some of them, in the background: a namespace
// with very many sockets delays no snapshot.
type rounds struct {
	options *Options
	now     func() time.Time

	mu     sync.Mutex
	result *roundResult  // of the last round
	end    chan struct{} // closed at the end of the round under way; nil if there is none

	// Only the round uses the rest.
	finder     namespaceFinder
	namer      *holder.Namer
	namespaces map[uint64]*scheduled // by serial number
	count      int                   // rounds that found the namespaces
}

// namespaceFinder finds the network namespaces other than the main one: a *socket.Namespaces.
type namespaceFinder interface {
	// Find returns the namespaces, and how many more it left out.
	Find() (found []socket.Namespace, omitted int, err error)
}

// roundResult is what is known of the namespaces after a round. It is never changed.
type roundResult struct {
	version    uint64 // grows whenever the listeners may have changed
	read       Read
	open       []openListener
	gone       []Listener
	namespaces int
	omitted    int
}

func newRounds(f namespaceFinder, o *Options, now func() time.Time) *rounds {
	return &rounds{
		options: o, now: now, finder: f, namer: holder.NewNamer(o.Procfs, o.Sysfs), namespaces: make(map[uint64]*scheduled),
		result: &roundResult{read: Read{Collector: CollectorNetns, Err: errFirstRound}, namespaces: 1},
	}
}

var errFirstRound = errStillReading

// observe starts a round, unless one is under way, and waits a short time for its end. It returns the result of the last round
// that has ended.
func (r *rounds) observe(ctx context.Context) *roundResult {
	r.mu.Lock()
	if r.end == nil {
		r.end = make(chan struct{})
		go r.round(r.end)
	}
	end, patience := r.end, roundTime
	if errors.Is(r.result.read.Err, errFirstRound) {
		patience = firstRoundTime
	}
	r.mu.Unlock()

	select {
	case <-end:
	case <-time.After(patience):
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result
}

// round reads some of the namespaces.
func (r *rounds) round(end chan struct{}) {
	start := time.Now()
	last := r.result // nobody else writes it
	next, err := r.readSome(last)
	if err != nil {
		next = &roundResult{version: last.version + 1, namespaces: len(r.namespaces) + 1, read: Read{Err: err}}
	}
	next.read.Collector = CollectorNetns
	next.read.Duration = time.Since(start)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.result, r.end = next, nil
	close(end)
}

// readSome reads the namespaces whose turn it is.
func (r *rounds) readSome(last *roundResult) (next *roundResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read network namespaces: panic: %v", p)
		}
	}()
	found, more, err := r.finder.Find()
	if err != nil {
		return nil, err
	}
	r.count++
	changed := r.admit(found) || last.read.Err != nil // after an error the last result may lack listeners
	due := r.due()
	limit, patience := perRound, roundTime
	if r.count == 1 {
		limit, patience = len(due), firstRoundTime
	}
	start, reads := r.now(), 0 // not earlier: finding the namespaces may take long, and they must still be read
	for _, s := range due {
		if reads == limit || r.now().Sub(start) > patience {
			break
		}
		reads++
		changed = s.read(r.count) || changed
	}

	next = &roundResult{
		version:    last.version,
		open:       last.open,
		gone:       last.gone,
		namespaces: 1 + len(r.namespaces) + more,
		omitted:    len(r.namespaces) - reads + more,
	}
	for _, s := range r.namespaces {
		if s.err != nil && (next.read.Err == nil || s.err.Error() < next.read.Err.Error()) {
			next.read.Err = s.err
		}
	}
	if !changed {
		return next, nil
	}
	next.version++
	next.open, next.gone = nil, nil
	for _, s := range r.namespaces {
		next.open = append(next.open, s.open...)
		next.gone = append(next.gone, s.gone...)
	}
	return next, nil
}

// due returns the namespaces that may be read in this round: first those that have waited longest, then the cheapest.
func (r *rounds) due() []*scheduled {
	due := slices.Collect(maps.Values(r.namespaces))
	due = slices.DeleteFunc(due, func(s *scheduled) bool { return !s.isDue(r.count) })
	slices.SortFunc(due, func(a, b *scheduled) int {
		return cmp.Or(cmp.Compare(a.waitsSince(), b.waitsSince()), cmp.Compare(a.cost, b.cost), cmp.Compare(a.name, b.name))
	})
	return due
}

// admit schedules the namespaces that were found, drops those that were not, and reports whether that changed anything.
func (r *rounds) admit(found []socket.Namespace) (changed bool) {
	changed = len(found) != len(r.namespaces)
	// Of two that claim a name the older one gets it, in whatever order they are found when the exporter starts.
	slices.SortFunc(found, func(a, b socket.Namespace) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), cmp.Compare(a.Serial, b.Serial))
	})
	next := make(map[uint64]*scheduled, len(found))
	taken := make(map[string]bool, len(found)) // names
	var unnamed []socket.Namespace
	for _, f := range found {
		s := r.namespaces[f.Serial]
		if s != nil {
			taken[s.name] = true
			next[f.Serial] = s
		}
		if s == nil || s.mayBeNamed(r.count) {
			unnamed = append(unnamed, f)
		}
	}
	for _, f := range unnamed {
		name, nameless := r.nameOf(f, taken)
		s := next[f.Serial]
		if s != nil && nameless {
			continue // as before
		}
		changed, taken[name] = true, true
		if s != nil {
			s.name, s.nameless = name, false
			s.collect()
			continue
		}
		s = &scheduled{namespace: newNamespace(name, func(socket.Protocol) socket.Source { return f.Source }, r.options, r.now), found: f, firstRound: r.count, nameless: nameless}
		for _, l := range s.ledgers {
			l.settled = r.count > 1 // the listeners of a new namespace are new
		}
		next[f.Serial] = s
	}
	r.namespaces = next
	return changed
}

// nameOf returns the name of a namespace, which it keeps as long as it lives: that of its pod or its container, or the one that
// ip-netns(8) gave it. If it has none of these, it is called after its number and nameless is true. taken has the names of the
// others.
func (r *rounds) nameOf(f socket.Namespace, taken map[string]bool) (name string, nameless bool) {
	inode := strconv.FormatUint(f.Inode, 10)
	name = cmp.Or(r.namer.Name(f.Members()), f.RunName)
	if nameless = name == ""; nameless {
		name = "unknown-" + inode
	}
	if taken[name] { // containers inside a pod's container
		name += "-" + inode
	}
	return name, nameless
}
