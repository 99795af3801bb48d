package holder

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"
)

// A socket without a process but PID 1 is searched for again after retryAfter, then after twice as long each time, up to
// retryAtMost: it may have been on its way from one process to another, but most often it is one of the kernel's own, or waits
// for its service to be started.
const (
	retryAfter  = 15 * time.Second
	retryAtMost = time.Hour
	maxDelays   = 10 // after so many it is no longer any more
)

// delay returns how long to wait after so many searches in vain.
func delay(searches int) time.Duration { return min(retryAfter<<min(searches, maxDelays), retryAtMost) }

// blindFor is how long no search through all processes begins after one to which no process showed its descriptors.
const blindFor = 10 * time.Minute

// search is a walk through the descriptors of all processes, which may take several Finds.
type search struct {
	wanted map[uint64]*attribution // by inode
	pids   []int                   // still to be looked into
	saw    bool                    // a process that is not this one showed its descriptors
}

// searchCgroups looks for the processes that have sockets open among those of the sockets' cgroups. It returns into which
// processes it looked, and whether each showed its descriptors.
func (f *Finder) searchCgroups(sockets []*attribution, deadline time.Time) (looked map[int]bool, err error) {
	wanted := make(map[uint64]*attribution)
	groups := make(map[uint64]struct{})
	for _, a := range sockets {
		if a.socket.Inode != 0 {
			wanted[a.socket.Inode] = a
			groups[a.socket.Cgroup] = struct{}{}
		}
	}
	pids := make(map[int]struct{})
	for id := range groups {
		if f.now().After(deadline) {
			break
		}
		service, err := f.serviceOf(id)
		var all crew
		if err == nil {
			all, err = f.crewOf(id)
		}
		if err != nil && !errors.Is(err, errUnfinished) {
			return nil, err
		}
		for _, pid := range append(service, all.pids...) {
			pids[pid] = struct{}{}
		}
	}
	looked = make(map[int]bool, len(pids))
	for _, pid := range slices.Sorted(maps.Keys(pids)) {
		if f.now().After(deadline) {
			break
		}
		saw, _, err := f.look(pid, wanted, deadline)
		if errors.Is(err, errUnfinished) {
			continue
		}
		if err != nil {
			return nil, err
		}
		looked[pid] = saw
	}
	return looked, nil
}

// searchService looks for the process that serves a socket which PID 1 alone had when it was looked for: systemd starts the
// service when somebody connects. It tells whether it found it.
func (f *Finder) searchService(a *attribution) (found bool, err error) {
	wanted := map[uint64]*attribution{a.socket.Inode: a}
	pids, err := f.serviceOf(a.socket.Cgroup)
	if err != nil {
		return false, err
	}
	deadline := f.now().Add(recheckAtMost)
	for _, pid := range pids {
		if f.now().After(deadline) {
			break
		}
		if _, _, err := f.look(pid, wanted, deadline); err != nil {
			return false, err
		}
	}
	return a.served(), nil
}

// searchAll goes on with the search through all processes, and begins one where there is something to be found. It returns
// the sockets of which something new may be known. looked are the processes into which this Find has looked for what is fresh.
func (f *Finder) searchAll(deadline time.Time, looked map[int]bool) (news []*attribution, err error) {
	if f.search == nil {
		if f.search, err = f.beginSearch(looked); err != nil {
			return nil, err
		}
	}
	s := f.search
	if s == nil {
		return nil, nil
	}
	ended := false
	for first := true; len(s.pids) > 0 && !ended; first = false {
		if f.now().After(deadline) {
			return s.found(), nil
		}
		pid := s.pids[0]
		saw, found, err := f.look(pid, s.wanted, deadline)
		switch {
		case errors.Is(err, errUnfinished) && !first:
			return s.found(), nil // the next Find has more time for it
		case err != nil && !errors.Is(err, errUnfinished):
			return nil, err
		}
		s.pids = s.pids[1:]
		s.saw = s.saw || saw && pid != os.Getpid()
		ended = found && f.foundAll(s)
	}
	f.search = nil
	if !s.saw && !ended {
		f.blind = f.now().Add(blindFor)
	}
	for _, a := range s.wanted {
		a.wanted = !a.served()
		if a.wanted {
			a.due = f.now().Add(delay(a.searches))
			a.searches = min(a.searches+1, maxDelays)
		}
		news = append(news, a)
	}
	return news, nil
}

// found returns those of the sockets wanted that have a witness.
func (s *search) found() (news []*attribution) {
	for _, a := range s.wanted {
		if len(a.witnesses) > 0 {
			news = append(news, a)
		}
	}
	return news
}

// foundAll tells whether a search has nothing more to find. Where the cgroup of a socket is known, its processes were looked
// into before all others, and one that serves it is enough. Where it is not, only the whole search tells all of the names.
func (f *Finder) foundAll(s *search) bool {
	for _, a := range s.wanted {
		if f.known[a.socket] == a && (!a.served() || !f.madeIn(a.socket.Cgroup)) {
			return false
		}
	}
	return true
}

// madeIn tells whether the cgroup with an ID is there and known.
func (f *Finder) madeIn(id uint64) bool {
	if f.cgroups == nil {
		return false
	}
	at, err := f.cgroups.path(id)
	return err == nil && at != ""
}

// beginSearch returns a search for what is wanted now, or nil if there is nothing. It leaves out the processes that were looked
// into just now, unless something is wanted that was not looked for there.
func (f *Finder) beginSearch(looked map[int]bool) (*search, error) {
	now := f.now()
	if now.Before(f.blind) {
		return nil, nil
	}
	wanted := make(map[uint64]*attribution)
	for _, a := range f.order {
		if a.wanted && !now.Before(a.due) {
			wanted[a.socket.Inode] = a
			if !a.fresh {
				looked = nil
			}
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	pids, err := f.list()
	if err != nil {
		return nil, err
	}
	s := &search{wanted: wanted}
	for _, pid := range pids {
		saw, done := looked[pid]
		if !done {
			s.pids = append(s.pids, pid)
		}
		s.saw = s.saw || saw && pid != os.Getpid()
	}
	return s, nil
}

// list returns the pids of all processes, the youngest first: a socket that is new most often belongs to one that is.
func (f *Finder) list() ([]int, error) {
	dir, err := os.Open(f.procfs)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	slices.Reverse(pids)
	return pids, nil
}
