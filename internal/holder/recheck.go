package holder

import "time"

// Limits of the rechecks by a Find. The patrol finds out within a minute which other holders need one.
const (
	// recheckAtOnce is how many holders a Find rechecks, in turn. After a time without Finds, when no patrol went, it rechecks all.
	recheckAtOnce = 2
	// recheckPause is how long after these the next ones are rechecked at the earliest: Finds may follow each other closely.
	recheckPause = 100 * time.Millisecond
	// recheckAtMost bounds the time that this takes.
	recheckAtMost = 50 * time.Millisecond
)

// recheck looks at some of the known holders again, and reports whether one changed. A socket that lost a witness becomes pending.
func (f *Finder) recheck(start time.Time) (changed bool, err error) {
	n := len(f.order)
	count := min(n, recheckAtOnce)
	switch passed := start.Sub(f.lastRecheck); {
	case passed < recheckPause:
		return false, nil
	case passed > patrolEnds:
		count = n
	}
	f.lastRecheck = start
	for range count {
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
		if unlessUnfinished(err) != nil {
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
