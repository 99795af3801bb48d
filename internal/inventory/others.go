package inventory

import (
	"cmp"
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

// allNamespaces is the value of Options.Netns that asks for every network namespace.
const allNamespaces = "all"

// Limits of one round of reading the other network namespaces.
const (
	// maxNamespaces is how many are read in a round. The first one reads all of them.
	maxNamespaces = 64
	// roundTime is how long a round goes on to the next namespace, and how long a snapshot waits for the round's end.
	roundTime = 200 * time.Millisecond
	// firstRoundTime is the same of the very first round.
	firstRoundTime = 5 * time.Second
	// fairTime is what a namespace may take of each round. One that takes n times as long is read every nth round.
	fairTime = roundTime / 4
	// renameRounds is in how many rounds, after the first, a namespace that was young may still get its name.
	renameRounds = 3
)

// others reads the network namespaces beside the main one. They are read in rounds, a part of them in each, apart from the
// snapshots: a namespace with very many sockets keeps nobody waiting.
type others struct {
	options Options
	now     func() time.Time

	mu      sync.Mutex
	current *shared
	round   chan struct{} // closed at the end of the round under way; nil if there is none

	// What follows is written by the round alone.
	all    namespaces
	namer  *holder.Namer
	spaces map[uint64]*other // by serial number
	rounds int               // those that found them
}

// namespaces finds the network namespaces beside the main one: a *socket.Others.
type namespaces interface {
	// Find returns them, and how many more there are that are left out.
	Find() (found []socket.Other, omitted int, err error)
}

// shared is what a round came to. It is never changed.
type shared struct {
	version    int // another one where the listeners are others
	read       Read
	entries    []entry
	gone       []Listener
	namespaces int
	omitted    int
}

// other is a network namespace beside the main one.
type other struct {
	*space
	found     socket.Other
	admitted  int  // the round before the one in which it was found
	nameless  bool // nothing is known to call it after
	lastRound int  // in which it was read; 0 if it never was
	cost      time.Duration
	err       error
	entries   []entry
	gone      []Listener
}

func newOthers(all namespaces, o Options, now func() time.Time) *others {
	return &others{
		options: o, now: now, all: all, namer: holder.NewNamer(o.Procfs, o.Sysfs), spaces: make(map[uint64]*other),
		current: &shared{read: Read{Collector: CollectorNetns, Err: errFirstRound}, namespaces: 1},
	}
}

var errFirstRound = errors.New("the first round of reading them is not at its end yet")

// update starts a round, unless one is under way, and waits for its end, though not for long. It returns what the last round
// that ended came to.
func (o *others) update() *shared {
	o.mu.Lock()
	if o.round == nil {
		o.round = make(chan struct{})
		go o.run(o.round)
	}
	round, patience := o.round, roundTime
	if errors.Is(o.current.read.Err, errFirstRound) {
		patience = firstRoundTime
	}
	o.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-round:
	case <-timer.C:
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.current
}

// run is a round.
func (o *others) run(round chan struct{}) {
	start := time.Now()
	last := o.current // nobody else writes it
	next, err := o.readSome(last)
	if err != nil {
		next = &shared{version: last.version + 1, namespaces: len(o.spaces) + 1, read: Read{Err: err}}
	}
	next.read.Collector = CollectorNetns
	next.read.Duration = time.Since(start)

	o.mu.Lock()
	defer o.mu.Unlock()
	o.current = next
	o.round = nil
	close(round)
}

// readSome reads those namespaces whose turn it is.
func (o *others) readSome(last *shared) (next *shared, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read network namespaces: panic: %v", r)
		}
	}()
	found, more, err := o.all.Find()
	if err != nil {
		return nil, err
	}
	o.rounds++
	same := o.admit(found) && last.read.Err == nil // after an error last may lack what is there

	due := slices.Collect(maps.Values(o.spaces))
	due = slices.DeleteFunc(due, func(s *other) bool { return !s.isDue(o.rounds) })
	slices.SortFunc(due, func(a, b *other) int {
		return cmp.Or(cmp.Compare(a.waitsSince(), b.waitsSince()), cmp.Compare(a.cost, b.cost), cmp.Compare(a.name, b.name))
	})
	limit, patience := maxNamespaces, roundTime
	if o.rounds == 1 {
		limit, patience = len(due), firstRoundTime
	}
	start, reads := o.now(), 0 // where finding them takes long they must be read all the same
	for _, s := range due {
		if reads == limit || o.now().Sub(start) > patience {
			break
		}
		reads++
		same = s.readAgain(o.rounds) && same
	}

	next = &shared{
		version:    last.version,
		entries:    last.entries,
		gone:       last.gone,
		namespaces: 1 + len(o.spaces) + more,
		omitted:    len(o.spaces) - reads + more,
	}
	for _, s := range o.spaces {
		if s.err != nil && (next.read.Err == nil || s.err.Error() < next.read.Err.Error()) {
			next.read.Err = s.err
		}
	}
	if same {
		return next, nil
	}
	next.version++
	next.entries, next.gone = nil, nil
	for _, s := range o.spaces {
		next.entries = append(next.entries, s.entries...)
		next.gone = append(next.gone, s.gone...)
	}
	return next, nil
}

// admit makes the namespaces that were found those that are read, and tells whether they are so already.
func (o *others) admit(found []socket.Other) (same bool) {
	same = len(found) == len(o.spaces)
	// Of two that claim a name the one that was there first gets it, in whatever order they are found when the exporter starts.
	slices.SortFunc(found, func(a, b socket.Other) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), cmp.Compare(a.Serial, b.Serial))
	})
	next := make(map[uint64]*other, len(found))
	names := make(map[string]bool, len(found))
	var unnamed []socket.Other
	for _, f := range found {
		s := o.spaces[f.Serial]
		if s == nil {
			unnamed = append(unnamed, f)
			continue
		}
		names[s.name] = true
		next[f.Serial] = s
		if s.mayBeNamed(o.rounds) {
			unnamed = append(unnamed, f)
		}
	}
	for _, f := range unnamed {
		name, nameless := o.nameOf(f, names)
		s := next[f.Serial]
		if s != nil && nameless {
			continue // as it was
		}
		same = false
		names[name] = true
		if s != nil {
			s.name, s.nameless = name, false
			s.collect()
			continue
		}
		s = &other{space: newSpace(name, f.Source, &o.options, o.now), found: f, admitted: o.rounds - 1, nameless: nameless}
		s.brief = true
		for _, l := range s.ledgers {
			l.settled = o.rounds > 1 // what a namespace that is new listens on is new
		}
		next[f.Serial] = s
	}
	o.spaces = next
	return same
}

// nameOf returns the name of a namespace, which it keeps as long as it lives: its pod's, its container's or, where that is
// known, the one that ip-netns(8) gave it. No two have the same. nameless tells that it has none of these, and may get one soon.
func (o *others) nameOf(f socket.Other, taken map[string]bool) (name string, nameless bool) {
	inode := strconv.FormatUint(f.Inode, 10)
	name = cmp.Or(o.namer.Name(f.Members()), f.RunName)
	if nameless = name == ""; nameless {
		name = "unknown-" + inode
	}
	if taken[name] { // containers inside a pod's container
		name += "-" + inode
	}
	return name, nameless
}

// mayBeNamed tells whether a namespace may get another name in a round: some makers of containers move a process into its cgroup
// after it has made its namespace.
func (s *other) mayBeNamed(round int) bool {
	return s.nameless && s.found.Young && round-s.admitted-1 <= renameRounds
}

// waitsSince returns the round since which a namespace waits for its turn: that in which it was read last, or the one before it
// was found. A new one does not go before those that wait for longer: whoever makes new ones all the time would keep them waiting
// for ever.
func (s *other) waitsSince() int { return max(s.lastRound, s.admitted) }

// isDue tells whether a namespace may be read in a round.
func (s *other) isDue(round int) bool {
	return s.lastRound == 0 || s.lastRound+int(s.cost/fairTime) < round
}

// readAgain reads a namespace, and tells whether nothing changed.
func (s *other) readAgain(round int) (same bool) {
	start := s.now()
	defer s.found.Leave()
	got := s.update()
	hadErr := s.err != nil
	s.lastRound, s.err = round, nil
	for _, read := range got.reads {
		if read.Err != nil && s.found.Lives() { // that it ends meanwhile is no failure
			s.err = fmt.Errorf("network namespace %s: %w", s.name, read.Err)
		}
	}
	s.cost = s.now().Sub(start)
	if got.same && !hadErr {
		return true
	}
	s.collect()
	return false
}

// collect makes the entries of what the namespace was last read as.
func (s *other) collect() {
	s.entries, s.gone = s.appendTo(nil, nil)
	for n := range s.entries {
		s.entries[n].held = slices.Clone(s.entries[n].held) // the ledger writes it anew
	}
}
