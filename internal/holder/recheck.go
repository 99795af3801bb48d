package holder

import (
	"errors"
	"time"
)

// Limits of looking again at holders though nothing about their sockets has changed.
const (
	// recheckTime is the time in which every holder is looked at again.
	recheckTime = time.Minute
	// recheckAtLeast is how many of them a Find looks at, however soon it comes after the last one.
	recheckAtLeast = 2
	// recheckAtMost bounds the time that a Find takes for that.
	recheckAtMost = 50 * time.Millisecond
)

// recheck looks again at a part of the sockets, and tells whether a holder changed. What lost its witness is fresh again.
func (f *Finder) recheck(start time.Time) (changed bool, err error) {
	n := len(f.order)
	passed := min(start.Sub(f.last), recheckTime)
	f.last = start
	share := (time.Duration(n)*passed + recheckTime - 1) / recheckTime
	for range min(n, max(recheckAtLeast, int(share))) {
		if f.now().Sub(start) > recheckAtMost {
			break
		}
		if f.turn >= n {
			f.turn = 0
		}
		a := f.order[f.turn]
		f.turn++
		renamed, err := f.recheckOne(a, start)
		changed = changed || renamed
		if err != nil && !errors.Is(err, errUnfinished) {
			return changed, err
		}
	}
	return changed, nil
}

func (f *Finder) recheckOne(a *attribution, now time.Time) (changed bool, err error) {
	if a.fresh {
		return false, nil
	}
	if len(a.witnesses) == 0 || a.byCgroup && !f.cgroups.has(a.socket.Cgroup) {
		return f.name(a)
	}
	lost, renamed := f.ask(a)
	if lost || renamed && a.mayLose(now) {
		a.witnesses, a.due, a.fresh = nil, time.Time{}, true
		f.fresh = append(f.fresh, a) // its holders are replaced when they are known anew
		return false, nil
	}
	if !a.served() {
		found, err := f.searchService(a)
		if err != nil {
			return false, err
		}
		renamed = renamed || found
	}
	if renamed || !a.byCgroup { // else the unit is that of the process's cgroup, which may have moved
		return f.name(a)
	}
	return false, nil
}

// ask looks whether the witnesses of a socket have it open still, and takes over their new names.
func (f *Finder) ask(a *attribution) (lost, renamed bool) {
	for n, w := range a.witnesses {
		name, ok := f.stands(w, a.socket.Inode)
		lost = lost || !ok
		if ok && name != w.name {
			a.witnesses[n].name, renamed = name, true
		}
	}
	return lost, renamed
}

// mayLose tells whether to look for all holders of a socket anew because one of them has a new name: others may have the old
// one. What gives itself new names for ever is searched for ever more seldom.
func (a *attribution) mayLose(now time.Time) bool {
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
