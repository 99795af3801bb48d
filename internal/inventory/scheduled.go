package inventory

import (
	"fmt"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

const (
	// fairTime is what a namespace may take of each round: a quarter of its time. One that takes n times as long is read every
	// nth round.
	fairTime = 50 * time.Millisecond
	// renameRounds is for how many rounds after the first a namespace that was young may still get its name.
	renameRounds = 3
)

// scheduled is a namespace that is read in rounds.
type scheduled struct {
	*namespace
	found      socket.Namespace
	firstRound int  // the round that found it
	nameless   bool // it has no name of its own, and is called after its number
	lastRound  int  // the round that last read it; 0 if none did
	cost       time.Duration
	err        error
	open       []openListener
	gone       []Listener
}

// mayBeNamed reports whether a round may give the namespace another name: some container runtimes move a process into its
// cgroup after they have made its namespace.
func (s *scheduled) mayBeNamed(round int) bool {
	return s.nameless && s.found.Young && round-s.firstRound <= renameRounds
}

// waitsSince returns the round since which the namespace waits for its turn: the one that last read it, or the one before it was
// found. A new namespace does not overtake those that wait longer: otherwise whoever makes new ones all the time would keep
// them waiting for ever.
func (s *scheduled) waitsSince() int { return max(s.lastRound, s.firstRound-1) }

// isDue reports whether a round may read the namespace.
func (s *scheduled) isDue(round int) bool {
	return s.lastRound == 0 || s.lastRound+int(s.cost/fairTime) < round
}

// read reads the namespace, and reports whether that may have changed its listeners.
func (s *scheduled) read(round int) (changed bool) {
	start := s.now()
	defer s.found.Leave()
	before := s.version
	reads := s.observeInTurn(nil)
	hadErr := s.err != nil
	s.lastRound, s.err = round, nil
	for _, read := range reads {
		if read.Err != nil && s.found.Lives() { // a namespace that ends meanwhile is no failure
			s.err = fmt.Errorf("network namespace %s: %w", s.name, read.Err)
		}
	}
	s.cost = s.now().Sub(start)
	if s.version == before && !hadErr {
		return false
	}
	s.collect()
	return true
}

// collect lists what the namespace held when it was last read.
func (s *scheduled) collect() {
	s.open, s.gone = s.appendListeners(nil, nil)
	for n := range s.open {
		s.open[n].sockets = slices.Clone(s.open[n].sockets) // the ledger overwrites its own
	}
}
