package holder

import (
	"slices"
	"time"
)

// maxNames is how many names of processes are remembered for a socket.
const maxNames = 32

// attribution is what is known of a socket's holders.
type attribution struct {
	socket    Socket
	holders   []Holder
	witnesses []witness
	pending   bool // it is among Finder.pending
	wanted    bool // a search through all processes looks for it, if the search begins when due or later
	due       time.Time
	searches  int       // how many searches found no process
	renames   int       // how often all holders were searched for again because a witness had a new name
	renamed   time.Time // when that was last
	byCgroup  bool      // the unit is that of the cgroup in which the socket was made, not that of the process
}

// witness is a process that was seen to have a socket open. There is one for each name.
type witness struct {
	pid  int
	link string // its descriptor: /proc/<pid>/fd/<fd>
	name string
}

// addWitness adds a witness, unless there is one of its name. Of two with one name the older process is kept, which most often
// outlives those that it started. PID 1 gives way: it opens sockets for others to serve.
func (a *attribution) addWitness(w witness) {
	for n, other := range a.witnesses {
		if other.name != w.name {
			continue
		}
		if other.pid == 1 || w.pid != 1 && w.pid < other.pid {
			a.witnesses[n] = w
		}
		return
	}
	if len(a.witnesses) < maxNames {
		a.witnesses = append(a.witnesses, w)
	}
}

// served reports whether a process other than PID 1 is known to have the socket open.
func (a *attribution) served() bool {
	return slices.ContainsFunc(a.witnesses, func(w witness) bool { return w.pid != 1 })
}

// maySearchAgain reports whether to search for all holders again because one of them has a new name: others may have the old
// one. The more often that happens, the longer it waits.
func (a *attribution) maySearchAgain(now time.Time) bool {
	passed := now.Sub(a.renamed)
	if passed > 2*retryAtMost {
		a.renames = 0
	}
	if a.renames > 0 && passed < delay(a.renames-1) {
		return false
	}
	a.renames, a.renamed = a.renames+1, now
	return true
}

// A socket without a process other than PID 1 is searched for again after retryAfter, then after twice as long each time, up to
// retryAtMost. It may have been on its way from one process to another, but most often it is one of the kernel's own, or waits
// for its service to be started.
const (
	retryAfter  = 15 * time.Second
	retryAtMost = time.Hour
	maxDelays   = 10 // retryAfter<<10 is more than retryAtMost
)

// delay returns how long to wait after a number of searches that found nothing.
func delay(searches int) time.Duration { return min(retryAfter<<min(searches, maxDelays), retryAtMost) }
