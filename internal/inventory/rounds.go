//go:build linux

package inventory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/guard"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// Limits of one round.
const (
	// perRound is how many namespaces a round reads. The first round reads all of them.
	perRound = 64
	// newsShare is how much of that, and of a round's time, is for namespaces with news: one part of so many. The rest is for all in turn,
	// so that no news keeps another namespace waiting for more than a third longer.
	newsShare = 4
	// roundTime is the time within which a round may begin to read a namespace, and how long a snapshot waits for the round's end.
	roundTime = 200 * time.Millisecond
	// servedKept is for how many rounds it is remembered that an owner had its turn: owners come and go.
	servedKept = 1000
	// turnTime is how long a round waits for one namespace at most.
	turnTime = roundTime / 2
	// firstRoundTime is how long a snapshot without a deadline waits for the first round. It ends a little earlier.
	firstRoundTime = 5 * time.Second
)

// rounds reads the network namespaces other than the main one. Each round reads some of them, in the background: a namespace
// with very many sockets delays no snapshot. A round does not wait long for a namespace either: its reading goes on next to the
// following rounds.
type rounds struct {
	options *Options
	now     func() time.Time

	mu       sync.Mutex
	result   *roundResult  // of the last round
	end      chan struct{} // closed at the end of the round under way; nil if there is none
	finding  time.Time     // since when it looks for the namespaces; zero if it does not, or is known to be late
	findCost time.Duration // of the last search

	// Only the round uses the rest.
	finder     namespaceFinder
	namer      *holder.Namer
	namespaces map[uint64]*scheduled // by serial number
	running    []*reading            // those that a round did not wait for, also of namespaces that have ended meanwhile
	count      int                   // rounds that found the namespaces
	served     map[string]int        // by owner, the round that last began to read one of its namespaces because of news
}

// namespaceFinder finds the network namespaces other than the main one: a *socket.Namespaces.
type namespaceFinder interface {
	// Find returns the namespaces, and how many more it left out.
	Find() (found []socket.Namespace, omitted int, err error)
	// Close lets go of the namespaces, which nobody reads any more.
	Close()
}

// roundResult is what is known of the namespaces after a round. It is never changed.
type roundResult struct {
	version    uint64 // grows whenever the listeners may have changed
	read       Read
	failed     bool // nothing is known of any namespace
	open       []openListener
	gone       []Listener
	names      map[uint32]string // by number, as far as it is known
	namespaces int
	omitted    int // not read this time: what is known is from an earlier round
	neverRead  int
}

func newRounds(f namespaceFinder, o *Options, now func() time.Time) *rounds {
	return &rounds{
		options: o, now: now, finder: f, namer: holder.NewNamer(o.Procfs, o.Sysfs), namespaces: make(map[uint64]*scheduled), served: make(map[string]int),
		result: &roundResult{read: Read{Collector: CollectorNetns, Err: errStillReading}, failed: true, namespaces: 1},
	}
}

// observe starts a round, unless one is under way, and waits a short time for its end. It returns the result of the last round
// that has ended, or a failure if the one under way looks for the namespaces for too long.
func (r *rounds) observe(ctx context.Context) *roundResult {
	r.mu.Lock()
	patience := roundTime
	if r.result.version == 0 { // no round has ended yet
		patience = firstRoundTime
		if deadline, has := ctx.Deadline(); has {
			patience = time.Until(deadline) * 4 / 5 // holders and registry need time too
		}
	}
	if r.end == nil {
		r.end = make(chan struct{})
		go r.round(r.end, patience)
	}
	end := r.end
	r.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-end:
	case <-timer.C:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit := lateAfter(r.findCost); !r.finding.IsZero() && r.now().Sub(r.finding) > limit {
		r.result = r.failure(late("find network namespaces", limit))
		r.finding = time.Time{}
	}
	return r.result
}

// close closes the finder, unless something is still being read.
func (r *rounds) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == nil && len(r.running) == 0 {
		r.finder.Close()
	}
}

// late returns the error of a read that has taken longer than a limit.
func late(what string, limit time.Duration) error {
	return fmt.Errorf("%s: %w after %s", what, errStillReading, limit.Round(100*time.Millisecond))
}

// round reads some of the namespaces. The snapshot that started it waits for so long.
func (r *rounds) round(end chan struct{}, patience time.Duration) {
	start := time.Now()
	changed, more := false, 0
	err := guard.Do(func() (err error) {
		changed, more, err = r.readSome(patience)
		return err
	})
	r.publish(start, changed, more, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end, r.finding = nil, time.Time{}
	close(end)
}

// publish makes what is known the result of the round that began at start.
func (r *rounds) publish(start time.Time, changed bool, more int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.result = r.failure(err)
	} else {
		r.result = r.joined(changed, more)
	}
	r.result.read.Duration = time.Since(start)
}

// find finds the namespaces, and returns how many more there are.
func (r *rounds) find() (changed bool, more int, err error) {
	begun := r.now()
	r.mu.Lock()
	r.finding = begun
	r.mu.Unlock()
	found, more, err := r.finder.Find()
	if err != nil {
		return false, 0, err
	}
	r.count++
	changed = r.admit(found)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finding, r.findCost = time.Time{}, r.now().Sub(begun)
	return changed, more, nil
}

// readSome finds the namespaces, and reads those whose turn it is. It returns how many more there are.
func (r *rounds) readSome(patience time.Duration) (changed bool, more int, err error) {
	begun := time.Now()
	changed, more, err = r.find()
	if err != nil {
		return false, 0, err
	}
	changed = r.adopt() || changed
	if slices.ContainsFunc(r.running, func(reading *reading) bool { return reading.of.noteLate() }) {
		r.publish(begun, true, more, nil) // the round may end after the snapshot, which must not show these listeners
	}
	if len(r.running) > maxReaders {
		if last := r.running[maxReaders]; last.of.late { // no other is read any more
			return false, 0, late(fmt.Sprintf("network namespace %s and %d others", last.of.name, maxReaders), last.limit)
		}
	}
	due := r.due()
	start := r.now() // not begun: finding the namespaces may take long, and they must still be read
	if r.count == 1 {
		patience = max(patience*19/20-r.findCost, roundTime) // the snapshot should still see the end
		_, read := r.readEach(due, len(due), start, patience)
		changed = changed || read
		for n := 0; n < len(r.running); n++ {
			r.running[n].wait(patience - r.now().Sub(start))
		}
	} else {
		begun, news := r.readEach(r.news(due), perRound/newsShare, start, roundTime/newsShare)
		_, others := r.readEach(due, perRound-begun, start, roundTime)
		changed = changed || news || others
	}
	return r.adopt() || changed, more, nil
}

// readEach reads namespaces of a queue, at most so many, and begins none when its patience, from the start of the round, is over. It
// returns how many it has begun to read, and whether that changed anything.
func (r *rounds) readEach(queue []*scheduled, most int, start time.Time, patience time.Duration) (begun int, changed bool) {
	for _, s := range queue {
		spent := r.now().Sub(start)
		if begun == most || spent > patience {
			break
		}
		if s.reading != nil || s.lastRound == r.count || !r.mayBegin(s) {
			continue
		}
		begun++
		if s.hasNews() {
			r.served[s.found.Owner] = r.count
		}
		reading := s.begin(r.count)
		r.running = append(r.running, reading)
		reading.wait(min(turnTime, max(patience-spent, fairTime/2)))
		changed = r.adopt() || changed
	}
	return begun, changed
}

// adopt takes over what the readings that have ended found, and reports whether that changed anything.
func (r *rounds) adopt() (changed bool) {
	r.running = slices.DeleteFunc(r.running, func(reading *reading) bool {
		if !reading.wait(0) {
			return false
		}
		if s := reading.of; s.reading == reading && s.finish(r.count) {
			changed = true
		}
		return true
	})
	return changed
}

// mayBegin reports whether one more reading may begin, which may be slow or hang.
func (r *rounds) mayBegin(s *scheduled) bool {
	slow := 0
	for _, reading := range r.running {
		if reading.of.cost > turnTime {
			slow++
		}
	}
	switch {
	case s.cost > turnTime:
		return slow < maxSlowReaders && len(r.running) < maxReaders
	case s.lastRound == 0: // nobody knows
		return len(r.running) < maxReaders
	}
	return len(r.running) <= maxReaders
}

// failure returns the result if nothing is known of any namespace.
func (r *rounds) failure(err error) *roundResult {
	return &roundResult{
		version: r.result.version + 1, read: Read{Collector: CollectorNetns, Err: err}, failed: true, namespaces: r.result.namespaces,
	}
}

// joined returns what is known of all namespaces, and of the number that was left out.
func (r *rounds) joined(changed bool, more int) *roundResult {
	next := &roundResult{
		version: r.result.version, read: Read{Collector: CollectorNetns}, open: r.result.open, gone: r.result.gone, names: r.result.names,
		namespaces: 1 + len(r.namespaces) + more, neverRead: more,
	}
	var errs []error
	for _, s := range r.namespaces {
		changed = s.noteLate() || changed
		switch {
		case s.lastRound == 0:
			next.neverRead++
		case s.freshIn != r.count && !s.late:
			next.omitted++
		}
		if s.err != nil {
			errs = append(errs, s.err)
		}
	}
	next.read.Err = listed(errs)
	if !changed && !r.result.failed {
		return next
	}
	next.version++
	next.open, next.gone, next.names = nil, nil, make(map[uint32]string, len(r.namespaces))
	for _, s := range r.namespaces {
		next.names[s.number] = s.name
		if !s.late {
			next.open = append(next.open, s.open...)
			next.gone = append(next.gone, s.gone...)
		}
	}
	return next
}

// maxListed is how many namespaces an error names.
const maxListed = 5

// listed returns one error for several, or nil for none.
func listed(errs []error) (err error) {
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	if more := len(errs) - maxListed; more > 0 {
		errs = append(errs[:maxListed], fmt.Errorf("and %d more", more))
	}
	for _, next := range errs {
		if err == nil {
			err = next
		} else {
			err = fmt.Errorf("%w; %w", err, next)
		}
	}
	return err
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

// news returns those of the namespaces in which something new is likely to listen: first the new ones and then those with signs of
// a change, or the other way round in every other round. Among these, those come last whose signs were wrong several times, as
// where connections come and go. Then owners take turns, so that one who makes namespaces, processes or sockets all the time keeps
// none of the others waiting.
func (r *rounds) news(due []*scheduled) []*scheduled {
	maps.DeleteFunc(r.served, func(_ string, round int) bool { return r.count-round > servedKept })
	var news []*scheduled
	for _, s := range due {
		if s.hasNews() {
			news = append(news, s)
		}
	}
	first := r.count%2 == 0
	slices.SortStableFunc(news, func(a, b *scheduled) int { // due has sorted them by how long they wait
		if a.isNew() != b.isNew() {
			if a.isNew() == first {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.vain, b.vain), cmp.Compare(r.served[a.found.Owner], r.served[b.found.Owner]))
	})
	return news
}
