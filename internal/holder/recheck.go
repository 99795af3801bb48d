//go:build linux

package holder

import (
	"errors"
	"time"
)

// Limits of the rechecks by a Find. The patrol finds out within a minute which other holders need one.
const (
	// recheckAtOnce is how many holders a Find rechecks, in turn.
	recheckAtOnce = 2
	// recheckPause is how long after these the next ones are rechecked at the earliest: Finds may follow each other closely.
	recheckPause = 100 * time.Millisecond
)

// recheck looks at some of the known holders again, and reports whether one changed. After a time without Finds, when no patrol went,
// all sockets become pending.
func (f *Finder) recheck(start time.Time) (changed bool, err error) {
	passed := start.Sub(f.lastRecheck)
	if passed < recheckPause {
		return false, nil
	}
	f.lastRecheck = start
	if passed > patrolEnds {
		for _, a := range f.order {
			f.checkWitnesses(a)
			a.wanted = true
			f.setPending(a)
		}
		return false, nil
	}
	for range min(len(f.order), recheckAtOnce) {
		if f.next >= len(f.order) {
			f.next = 0
		}
		a := f.order[f.next]
		f.next++
		updated, err := f.recheckOne(a)
		changed = changed || updated
		if err != nil && !errors.Is(err, errUnfinished) {
			return changed, err
		}
	}
	return changed, nil
}

func (f *Finder) recheckOne(a *attribution) (changed bool, err error) {
	if a.pending {
		return false, nil
	}
	if f.checkWitnesses(a) {
		f.setPending(a) // its holders stay until the new ones are known
		return false, nil
	}
	if len(a.witnesses) > 0 && !a.served() {
		// Only PID 1 had it open. systemd starts the service when somebody connects.
		service, err := f.serviceOf(a.socket.Cgroup)
		if err != nil {
			return false, err
		}
		if len(service) > 0 {
			f.setPending(a)
		}
	}
	return f.update(a)
}

// checkWitnesses forgets the witnesses that no longer have a socket open, and notes who the others are now. It reports whether that
// changed anything. Then others may have the socket, too: a search through the processes of its cgroup finds them at once, and the
// patrols find all others. Without any witness left, all processes are searched at once.
func (f *Finder) checkWitnesses(a *attribution) (changed bool) {
	kept := a.witnesses[:0]
	for _, w := range a.witnesses {
		now, ok := f.holds(w, a.socket.Inode)
		changed = changed || !ok || now != w.identity
		if ok {
			w.identity = now
			kept = append(kept, w)
		}
	}
	a.witnesses = kept
	a.wanted = a.wanted || changed
	return changed
}
