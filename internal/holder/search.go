//go:build linux

package holder

import (
	"errors"
	"maps"
	"os"
	"slices"
	"time"
)

// hiddenFor is the pause after a search through all processes in which no other process showed its descriptors.
const hiddenFor = 10 * time.Minute

// search is a walk through the descriptors of all processes, which may take several Finds.
type search struct {
	wanted  map[uint64]*attribution // by inode
	pids    []int                   // not searched yet
	visible bool                    // a process other than this one showed its descriptors
	whole   bool                    // it finds all holders of each socket, and not only one; the first search does
}

// searchCgroups looks in the cgroups of sockets for the processes that have them open.
func (f *Finder) searchCgroups(sockets []*attribution, deadline time.Time) error {
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
			return err
		}
		for _, pid := range append(service, all.pids...) {
			pids[pid] = true
		}
	}
	h := f.hunt(wanted, deadline)
	for _, pid := range slices.Sorted(maps.Keys(pids)) {
		if f.now().After(deadline) {
			break
		}
		if _, _, err := h.process(pid); err != nil && !errors.Is(err, errUnfinished) {
			return err
		}
	}
	return nil
}

// searchAll goes on with the search through all processes, or begins one if there is something to find. It returns the sockets
// whose holders may have changed.
func (f *Finder) searchAll(deadline time.Time) (found []*attribution, err error) {
	if f.search == nil {
		if f.search, err = f.beginSearch(); err != nil {
			return nil, err
		}
	}
	s := f.search
	if s == nil {
		return nil, nil
	}
	h := f.hunt(s.wanted, deadline)
	// Where descriptor tables cannot be compared, a patrol takes its time to read those of all threads.
	h.threads = s.whole && f.shareDescriptors(os.Getpid(), os.Getpid())
	foundAll := false
	for first := true; len(s.pids) > 0 && !foundAll; first = false {
		if f.now().After(deadline) {
			return s.found(), nil
		}
		pid := s.pids[0]
		visible, hit, err := h.process(pid)
		switch {
		case errors.Is(err, errUnfinished) && !first:
			return s.found(), nil // the next Find has more time for it
		case err != nil && !errors.Is(err, errUnfinished):
			return nil, err
		}
		s.pids = s.pids[1:]
		s.visible = s.visible || visible && pid != os.Getpid()
		foundAll = hit && !s.whole && f.foundAll(s)
	}
	f.search = nil
	if !s.visible && !foundAll {
		f.hiddenUntil = f.now().Add(hiddenFor)
	}
	return slices.Collect(maps.Values(s.wanted)), nil
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

// hunt returns a search for sockets that ends at a deadline.
func (f *Finder) hunt(wanted map[uint64]*attribution, deadline time.Time) *hunt {
	return &hunt{processes: f.processes, wanted: wanted, found: (*attribution).addWitness, pause: func() error {
		if f.now().After(deadline) {
			return errUnfinished
		}
		return nil
	}}
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

// beginSearch returns a search for what is wanted now, or nil if nothing is.
func (f *Finder) beginSearch() (*search, error) {
	if f.now().Before(f.hiddenUntil) {
		return nil, nil
	}
	wanted := make(map[uint64]*attribution)
	for _, a := range f.order {
		if a.wanted {
			wanted[a.socket.Inode] = a
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	pids, err := f.list()
	if err != nil {
		return nil, err
	}
	for _, a := range wanted {
		a.wanted = false // after this search a patrol looks for it
	}
	s := &search{wanted: wanted, pids: pids, whole: !f.ran}
	if s.whole {
		slices.Reverse(s.pids) // the services that began with the host come before what users have started since
	}
	return s, nil
}
