package holder

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/netns"
)

// hiddenFor is the pause after a search through all processes in which no other process showed its descriptors.
const hiddenFor = 10 * time.Minute

// search is a walk through the descriptors of all processes, which may take several Finds.
type search struct {
	wanted  map[uint64]*attribution // by inode
	pids    []int                   // not searched yet
	visible bool                    // a process other than this one showed its descriptors
}

// searchCgroups looks in the cgroups of sockets for the processes that have them open. It returns the processes that it searched,
// and whether each showed its descriptors.
func (f *Finder) searchCgroups(sockets []*attribution, deadline time.Time) (searched map[int]bool, err error) {
	wanted := make(map[uint64]*attribution)
	groups := make(map[uint64]bool)
	for _, a := range sockets {
		if a.socket.Inode != 0 {
			wanted[a.socket.Inode] = a
			groups[a.socket.Cgroup] = true
		}
	}
	pids := make(map[int]bool)
	for id := range groups {
		if f.now().After(deadline) {
			break
		}
		service, err := f.serviceOf(id)
		var all members
		if err == nil {
			all, err = f.membersOf(id)
		}
		if err != nil && !errors.Is(err, errUnfinished) {
			return nil, err
		}
		for _, pid := range append(service, all.pids...) {
			pids[pid] = true
		}
	}
	searched = make(map[int]bool, len(pids))
	for _, pid := range slices.Sorted(maps.Keys(pids)) {
		if f.now().After(deadline) {
			break
		}
		visible, _, err := f.searchProcess(pid, wanted, deadline)
		if errors.Is(err, errUnfinished) {
			continue
		}
		if err != nil {
			return nil, err
		}
		searched[pid] = visible
	}
	return searched, nil
}

// searchAll goes on with the search through all processes, or begins one if there is something to find. It returns the sockets
// whose holders may have changed. searched is what searchCgroups returned in this Find.
func (f *Finder) searchAll(deadline time.Time, searched map[int]bool) (found []*attribution, err error) {
	if f.search == nil {
		if f.search, err = f.beginSearch(searched); err != nil {
			return nil, err
		}
	}
	s := f.search
	if s == nil {
		return nil, nil
	}
	foundAll := false
	for first := true; len(s.pids) > 0 && !foundAll; first = false {
		if f.now().After(deadline) {
			return s.found(), nil
		}
		pid := s.pids[0]
		visible, hit, err := f.searchProcess(pid, s.wanted, deadline)
		switch {
		case errors.Is(err, errUnfinished) && !first:
			return s.found(), nil // the next Find has more time for it
		case err != nil && !errors.Is(err, errUnfinished):
			return nil, err
		}
		s.pids = s.pids[1:]
		s.visible = s.visible || visible && pid != os.Getpid()
		foundAll = hit && f.foundAll(s)
	}
	f.search = nil
	if !s.visible && !foundAll {
		f.hiddenUntil = f.now().Add(hiddenFor)
	}
	for _, a := range s.wanted {
		a.wanted = !a.served()
		if a.wanted {
			a.due = f.now().Add(delay(a.searches))
			a.searches++
		}
		found = append(found, a)
	}
	return found, nil
}

// found returns the wanted sockets that have a witness.
func (s *search) found() (found []*attribution) {
	for _, a := range s.wanted {
		if len(a.witnesses) > 0 {
			found = append(found, a)
		}
	}
	return found
}

// foundAll reports whether a search has nothing more to find. If the cgroup of a socket is known, the processes in it were searched
// first, and one that serves the socket is enough. Otherwise only the whole search finds all of the names.
func (f *Finder) foundAll(s *search) bool {
	for _, a := range s.wanted {
		if f.known[a.socket] != a {
			continue
		}
		if !a.served() {
			return false
		}
		if at, err := f.cgroups.path(a.socket.Cgroup); err != nil || at == "" {
			return false
		}
	}
	return true
}

// beginSearch returns a search for what is wanted now, or nil if nothing is. It leaves out the processes in searched, unless a
// socket is wanted that they were not searched for.
func (f *Finder) beginSearch(searched map[int]bool) (*search, error) {
	now := f.now()
	if now.Before(f.hiddenUntil) {
		return nil, nil
	}
	wanted := make(map[uint64]*attribution)
	for _, a := range f.order {
		if a.wanted && !now.Before(a.due) {
			wanted[a.socket.Inode] = a
			if !a.pending {
				searched = nil
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
		visible, done := searched[pid]
		if !done {
			s.pids = append(s.pids, pid)
		}
		s.visible = s.visible || visible && pid != os.Getpid()
	}
	return s, nil
}

// list returns the pids of all processes, the youngest first: a new socket most often belongs to a young process.
func (f *Finder) list() ([]int, error) {
	root, err := os.Open(f.procfs)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer func() { _ = root.Close() }()
	pids, err := netns.ListPIDs(root)
	slices.Sort(pids)
	slices.Reverse(pids)
	return pids, err
}
