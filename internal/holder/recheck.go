package holder

import (
	"errors"
	"time"
)

// Limits of the rechecks of holders whose sockets have not changed.
const (
	// recheckTime is the time in which every holder is rechecked.
	recheckTime = time.Minute
	// recheckAtLeast is how many of them a Find rechecks, however soon it comes after the last one.
	recheckAtLeast = 2
	// recheckAtMost bounds the time that a Find takes for that.
	recheckAtMost = 50 * time.Millisecond
)

// recheck looks at some of the known holders again, and reports whether one changed. A socket that lost a witness becomes pending.
func (f *Finder) recheck(start time.Time) (changed bool, err error) {
	n := len(f.order)
	passed := min(start.Sub(f.lastRecheck), recheckTime)
	f.lastRecheck = start
	share := (time.Duration(n)*passed + recheckTime - 1) / recheckTime
	for range min(n, max(recheckAtLeast, int(share))) {
		if f.now().Sub(start) > recheckAtMost {
			break
		}
		if f.next >= n {
			f.next = 0
		}
		a := f.order[f.next]
		f.next++
		updated, err := f.recheckOne(a, start)
		changed = changed || updated
		if err != nil && !errors.Is(err, errUnfinished) {
			return changed, err
		}
	}
	return changed, nil
}

func (f *Finder) recheckOne(a *attribution, now time.Time) (changed bool, err error) {
	if a.pending {
		return false, nil
	}
	if len(a.witnesses) == 0 || a.byCgroup && !f.cgroups.exists(a.socket.Cgroup) {
		return f.update(a)
	}
	lost, renamed := f.checkWitnesses(a)
	if lost || renamed && a.maySearchAgain(now) {
		a.witnesses, a.due = nil, time.Time{}
		f.setPending(a) // its holders stay until the new ones are known
		return false, nil
	}
	if !a.served() {
		// Only PID 1 had it open. systemd starts the service when somebody connects.
		service, err := f.serviceOf(a.socket.Cgroup)
		if err != nil {
			return false, err
		}
		if len(service) > 0 {
			f.setPending(a)
		}
	}
	if renamed || !a.byCgroup { // without byCgroup, the unit is that of the process's cgroup, which may have changed
		return f.update(a)
	}
	return false, nil
}

// checkWitnesses reports whether a witness of a socket no longer has it open, and whether one has a new name, which it notes.
func (f *Finder) checkWitnesses(a *attribution) (lost, renamed bool) {
	for n, w := range a.witnesses {
		name, ok := f.holds(w, a.socket.Inode)
		lost = lost || !ok
		if ok && name != w.name {
			a.witnesses[n].name, renamed = name, true
		}
	}
	return lost, renamed
}
