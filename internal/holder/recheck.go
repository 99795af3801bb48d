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
	lost, renamed := f.checkWitnesses(a)
	if lost || renamed && a.maySearchAgain(now) {
		// Where the cgroup is known, the search through its processes finds who has taken over, and the patrol all others.
		if at, err := f.cgroups.path(a.socket.Cgroup); err != nil || at == "" {
			a.witnesses = nil
		}
		a.due = time.Time{}
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

// checkWitnesses forgets the witnesses that no longer have a socket open, and reports whether there were any. It also reports
// whether one is known by something else now, which it notes.
func (f *Finder) checkWitnesses(a *attribution) (lost, renamed bool) {
	kept := a.witnesses[:0]
	for _, w := range a.witnesses {
		now, ok := f.holds(w, a.socket.Inode)
		if !ok {
			lost = true
			continue
		}
		renamed = renamed || now != w.identity
		w.identity = now
		kept = append(kept, w)
	}
	a.witnesses = kept
	return lost, renamed
}
