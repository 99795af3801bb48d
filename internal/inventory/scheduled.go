//go:build linux

package inventory

import (
	"fmt"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/guard"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

const (
	// fairTime is what a namespace may take of each round: a quarter of its time. One that takes n times as long is read every
	// nth round.
	fairTime = 50 * time.Millisecond
	// renameRounds is for how many rounds after the first a namespace that was young may still get its name.
	renameRounds = 3

	// minLate is how long a reading may take at least. A busy host, or a limit of the exporter's CPU time, can hold up a reading that
	// takes milliseconds for a second.
	minLate = 3 * time.Second
	// lateFactor is how many times longer than the last time a reading may take: a namespace may have got more sockets since, and
	// readings that run at the same time slow each other down.
	lateFactor = 5

	// maxReaders is how many readings may run at the same time. Each one that hangs costs a thread, two descriptors and 100 KB.
	// When so many hang, only namespaces whose last reading was quick are still read, one at a time. If such a one hangs too, none is.
	maxReaders = 32
	// maxSlowReaders is how many of them may be of namespaces whose last reading was slow: these have very many sockets, and reading
	// takes memory for each.
	maxSlowReaders = 4
	// maxVain is how many degrees of distrust there are in a namespace's signs of a change.
	maxVain = 3
)

// lateAfter returns how long a read may take that took so long the last time, or 0 if there was none.
func lateAfter(cost time.Duration) time.Duration { return max(minLate, lateFactor*cost) }

// scheduled is a namespace that is read in rounds.
type scheduled struct {
	*namespace
	found      socket.Namespace
	survey     func() holder.Inhabitants // nil unless holders are asked for
	firstRound int                       // the round that found it
	nameless   bool                      // it has no name of its own, and is called after its number
	signs      uint64                    // of the last search, see [socket.Namespace]
	vain       int                       // how often in a row signs of a change were wrong, up to maxVain
	reading    *reading                  // under way, or nil. Until it ends, nobody else uses the namespace

	lastRound int    // the round that began the last reading that has ended; 0 if none has
	freshIn   int    // the round in which that was
	readSigns uint64 // when the last reading began
	cost      time.Duration
	err       error
	late      bool // a reading takes too long: what is known is too old
	open      []openListener
	gone      []Listener
}

// reading is one reading of a namespace, in a goroutine of its own.
type reading struct {
	of      *scheduled
	start   time.Time
	limit   time.Duration // after which it is late
	round   int           // in which it began
	hadNews bool          // when it began
	end     chan struct{}

	// The rest is known when end is closed.
	took    time.Duration
	err     error
	changed bool // the following has to be taken over
	open    []openListener
	gone    []Listener
}

// wait waits for the end of the reading, and reports whether it has come.
func (r *reading) wait(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.end:
	case <-timer.C:
	}
	select {
	case <-r.end:
		return true
	default:
		return false
	}
}

// mayBeNamed reports whether a round may give the namespace another name: some container runtimes move a process into its
// cgroup after they have made its namespace.
func (s *scheduled) mayBeNamed(round int) bool {
	return s.reading == nil && s.nameless && s.found.Young && round-s.firstRound <= renameRounds
}

// waitsSince returns the round since which the namespace waits for its turn: the one that last read it, or the one before it was
// found. A new namespace does not overtake those that wait longer: otherwise whoever makes new ones all the time would keep
// them waiting for ever.
func (s *scheduled) waitsSince() int { return max(s.lastRound, s.firstRound-1) }

// isDue reports whether a round may read the namespace.
func (s *scheduled) isDue(round int) bool {
	return s.reading == nil && (s.lastRound == 0 || s.late || s.lastRound+int(s.cost/fairTime) < round)
}

// isNew reports whether the namespace was never read.
func (s *scheduled) isNew() bool { return s.lastRound == 0 }

// hasNews reports whether something may listen in the namespace that did not when it was last read.
func (s *scheduled) hasNews() bool { return s.isNew() || s.signs != s.readSigns }

// begin begins to read the namespace.
func (s *scheduled) begin(round int) *reading {
	r := &reading{of: s, start: s.now(), limit: lateAfter(s.cost), round: round, hadNews: s.hasNews(), end: make(chan struct{})}
	s.reading, s.readSigns = r, s.signs
	collect := s.err != nil // what is known may be older than the ledgers
	go func() {
		defer close(r.end)
		if err := guard.Do(func() error { return r.read(collect) }); err != nil {
			r.err, r.changed, r.open, r.gone = err, true, nil, nil
		}
		r.took = s.now().Sub(r.start)
	}()
	return r
}

// read reads the namespace, and collects what it holds, unless that has not changed.
func (r *reading) read(collect bool) error {
	n, found := r.of.namespace, r.of.found
	defer found.Leave()
	before := n.version
	for _, read := range n.observeInTurn(nil) {
		if read.Err != nil && found.Lives() { // a namespace that ends meanwhile is no failure
			r.err = read.Err
		}
	}
	if r.of.survey != nil && !found.Source.Detailed() {
		if now := r.of.survey(); now != n.inhabitants {
			n.inhabitants, collect = now, true
		}
	}
	if r.changed = n.version != before || collect; r.changed {
		r.open, r.gone = n.collect()
	}
	return nil
}

// finish takes over the result of a reading that has ended, and reports whether that may have changed the listeners. If the reading
// was late, a part of the result may be as old as its begin: it is read again.
func (s *scheduled) finish(round int) (changed bool) {
	r := s.reading
	s.reading, s.lastRound, s.cost = nil, r.round, r.took
	if s.late && r.took > r.limit {
		return false
	}
	changed = r.changed || s.late || s.err != nil
	switch {
	case !r.hadNews:
	case r.changed && len(r.open) != len(s.open):
		s.vain = 0
	default:
		s.vain = min(s.vain+1, maxVain)
	}
	s.freshIn, s.late, s.err = round, false, nil
	if r.err != nil {
		s.err = fmt.Errorf("network namespace %s: %w", s.name, r.err)
	}
	if r.changed {
		s.open, s.gone = r.open, r.gone
	}
	return changed
}

// noteLate notes whether the reading that is under way is late, and reports whether that is new.
func (s *scheduled) noteLate() bool {
	r := s.reading
	if s.late || r == nil || s.now().Sub(r.start) <= r.limit {
		return false
	}
	s.late, s.err = true, late("network namespace "+s.name, r.limit)
	return true
}

// collect lists what the namespace held when it was last read.
func (n *namespace) collect() (open []openListener, gone []Listener) {
	open, gone = n.appendListeners(nil, nil)
	for i := range open {
		open[i].sockets = slices.Clone(open[i].sockets) // the ledger overwrites its own
	}
	return open, gone
}
