//go:build linux

package holder

import (
	"cmp"
	"slices"
	"strings"
)

// maxWitnesses is how many different processes are remembered for a socket.
const maxWitnesses = 32

// attribution is what is known of a socket's holders.
type attribution struct {
	socket    Socket
	holders   []Holder
	witnesses []witness
	guess     string // the name of all processes of its cgroup, if there are no witnesses
	pending   bool   // it is among Finder.pending
	wanted    bool   // the next search through all processes is to look for it, unless its cgroup's processes serve it
}

// witness is a process that was seen to have a socket open. There is one for each identity.
type witness struct {
	pid  int
	task string // the directory of the task in whose descriptor table it is: /proc/<pid> or /proc/<pid>/task/<tid>
	fd   string
	identity
}

// addWitness adds a witness, unless there is one of its identity. Of two the older process is kept, which most often outlives those
// that it started. PID 1 gives way: it opens sockets for others to serve. Of too many the oldest processes are kept.
func (a *attribution) addWitness(w witness) {
	older := func(other witness) bool { return other.pid == 1 || w.pid != 1 && w.pid < other.pid }
	n := slices.IndexFunc(a.witnesses, func(other witness) bool { return other.identity == w.identity })
	if n < 0 && len(a.witnesses) < maxWitnesses {
		a.witnesses = append(a.witnesses, w)
		return
	}
	if n < 0 {
		youngest := slices.MaxFunc(a.witnesses, func(x, y witness) int { return cmp.Compare(x.pid, y.pid) })
		n = slices.Index(a.witnesses, youngest)
	}
	if older(a.witnesses[n]) {
		a.witnesses[n] = w
	}
}

// origin returns what to say of a witness's origin, where the socket was made in the cgroup of an origin that may be unknown. A
// service keeps the name of the socket unit that it was started by: it is the one that those see who may not look into processes.
func (w witness) origin(made origin) origin {
	activated := strings.TrimSuffix(made.unit, ".socket")
	switch {
	case w.pid == 1, activated != made.unit && w.of.unit == activated+".service":
		return made
	case w.placed || made == origin{} || made.unit == initScope: // PID 1 opens sockets for others to serve
		return w.of
	default:
		return made
	}
}

// exact returns the processes that hold the socket. PID 1 is one only if there is no other.
func (a *attribution) exact() []witness {
	if !a.served() {
		return a.witnesses
	}
	return slices.DeleteFunc(slices.Clone(a.witnesses), func(w witness) bool { return w.pid == 1 })
}

// served reports whether a process other than PID 1 is known to have the socket open.
func (a *attribution) served() bool {
	return slices.ContainsFunc(a.witnesses, func(w witness) bool { return w.pid != 1 })
}
