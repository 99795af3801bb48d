// Package holder tells who holds a listening socket: the unit, the pod and the container that the cgroup of the socket names,
// which takes no privilege, and the process.
package holder

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Socket is what is known of a socket whose holder is wanted. Two sockets are never equal at the same time, and hardly ever
// one after the other.
type Socket struct {
	// ID tells the socket from others as long as it lives, or is 0.
	ID uint64
	// Inode is what the links of /proc/<pid>/fd name, or 0 if no process has the socket open.
	Inode uint64
	// Cgroup is the ID of the cgroup in which the socket was made, or 0 if that is not known.
	Cgroup uint64
	// UID is the user whom the socket belongs to.
	UID uint32
}

// Holder is who holds a socket. What is not known is empty.
type Holder struct {
	// Process is the name of the process. Like a unit's it is any text that is valid UTF-8.
	Process string
	// Unit is the system manager's unit, such as ssh.service. A user's own units read user@1000.service/x.service.
	Unit string
	// ContainerID is the container's ID, and PodUID that of its Kubernetes pod.
	ContainerID, PodUID string
	// UID is the user whom the socket belongs to.
	UID uint32
}

// Limits of the work of one Find.
const (
	// firstSearch bounds the first search through the descriptors of processes, which has every socket to find.
	firstSearch = 5 * time.Second
	// laterSearch bounds every later one. What it does not reach is looked into at the next Find. Cgroups get half of the
	// time, so that whoever has many of them or many processes in one cannot take all of it.
	laterSearch = 250 * time.Millisecond
	// maxNames is how many names of processes are remembered for a socket.
	maxNames = 32
)

// Finder finds the holders of sockets, and remembers them. It is used by one goroutine at a time.
type Finder struct {
	processes
	cgroups *tree // nil if there is no cgroup2 hierarchy in view
	now     func() time.Time

	given  []Socket // to the last Find
	known  map[Socket]*attribution
	order  []*attribution // those known, in the order in which they are looked at again
	turn   int            // where in order the next recheck begins
	last   time.Time      // when the last recheck was
	fresh  []*attribution // those that are to be attributed
	search *search        // through all processes; nil while none is under way
	blind  time.Time      // until when a search through all processes finds nothing, because their descriptors are not ours to see
	ran    bool           // a Find has ended
	links  linkReader

	// What one Find has read already.
	members map[uint64]crew
}

// attribution is what is known of a socket's holders.
type attribution struct {
	socket    Socket
	holders   []Holder
	witnesses []witness
	fresh     bool // it is among those that are to be attributed
	wanted    bool // by the next search through all processes, unless that is due only later
	due       time.Time
	searches  int       // that found no process
	renames   int       // of its witnesses, after which all were searched for
	renamed   time.Time // when that was the last time
	byCgroup  bool      // the cgroup in which the socket was made tells more than the process
}

// witness is a process that was seen to have a socket open. There is one for each name.
type witness struct {
	pid  int
	link string // its descriptor: /proc/<pid>/fd/<fd>
	name string
}

// New returns a finder for the processes under the procfs mounted at procfs, and the cgroups under sysfs. Without a cgroup2
// hierarchy that is in view as a whole, only processes are found: the error, which is no reason to give up, says why.
func New(procfs, sysfs string) (*Finder, error) {
	root, err := findCgroup2(procfs, sysfs)
	f := &Finder{processes: newProcesses(procfs, root), known: make(map[Socket]*attribution), now: time.Now}
	if err == nil {
		f.cgroups = newTree(root)
	}
	return f, err
}

// Find brings the finder up to date with the sockets that there are. same tells that they are those of the last call. changed
// tells that the holders of one of them are others than after the last call.
//
// A process or a cgroup that vanishes meanwhile is no error. After an error the holders are those of before.
func (f *Finder) Find(sockets []Socket, same bool) (changed bool, err error) {
	defer func() {
		if r := recover(); r != nil { // a panic must not take the gauge that tells of it
			err = fmt.Errorf("find the holders of sockets: panic: %v", r)
		}
	}()
	start := f.now()
	limit := laterSearch
	if !f.ran {
		limit = firstSearch
	}
	half, deadline := start.Add(limit/2), start.Add(limit)
	f.members = make(map[uint64]crew)
	if f.cgroups != nil {
		f.cgroups.begin(f.now, half)
	}
	if !f.ran || !same && !slices.Equal(sockets, f.given) {
		changed = f.admit(sockets)
		f.given = append(f.given[:0], sockets...)
	}
	renamed, err := f.recheck(start)
	changed = changed || renamed
	if err == nil {
		renamed, err = f.attribute(half, deadline)
		changed = changed || renamed
	}
	f.ran = true
	return changed, err
}

// Holders returns the holders of a socket that the last Find was given, each once. There are none if nothing is known. The
// result must not be changed.
func (f *Finder) Holders(s Socket) []Holder {
	if a := f.known[s]; a != nil {
		return a.holders
	}
	return nil
}

// Exact tells whether the holders of a socket are the processes that have it open, and not what its cgroup lets one expect.
func (f *Finder) Exact(s Socket) bool {
	a := f.known[s]
	return a != nil && a.served()
}

// admit makes the sockets those that are known, and tells whether that changed anything.
func (f *Finder) admit(sockets []Socket) (changed bool) {
	next := make(map[Socket]*attribution, len(sockets))
	order := make([]*attribution, 0, len(sockets))
	for _, s := range sockets {
		if next[s] != nil {
			continue
		}
		a := f.known[s]
		if a == nil {
			a = &attribution{socket: s, fresh: true}
			f.fresh = append(f.fresh, a)
			changed = true
		}
		next[s] = a
		order = append(order, a)
	}
	changed = changed || len(next) != len(f.known)
	if changed && f.cgroups != nil {
		ids := make(map[uint64]struct{})
		for _, a := range order {
			if a.socket.Cgroup != 0 {
				ids[a.socket.Cgroup] = struct{}{}
			}
		}
		f.cgroups.want(ids)
	}
	f.fresh = slices.DeleteFunc(f.fresh, func(a *attribution) bool { return next[a.socket] != a })
	f.known, f.order = next, order
	return changed
}

// attribute finds the holders of what is fresh, and goes on with the search through all processes.
func (f *Finder) attribute(half, deadline time.Time) (changed bool, err error) {
	var looked map[int]bool
	if len(f.fresh) > 0 {
		if looked, err = f.searchCgroups(f.fresh, half); err != nil {
			return false, err
		}
		for _, a := range f.fresh {
			a.wanted = a.socket.Inode != 0 && !a.served()
		}
	}
	found, err := f.searchAll(deadline, looked)
	if err != nil {
		return false, err
	}
	for _, a := range found {
		if !a.fresh && f.known[a.socket] == a {
			a.fresh = true
			f.fresh = append(f.fresh, a)
		}
	}
	f.fresh = slices.DeleteFunc(f.fresh, func(a *attribution) bool {
		renamed, failed := f.name(a)
		changed = changed || renamed
		a.fresh = failed != nil // its cgroup is not known yet
		if a.fresh && !errors.Is(failed, errUnfinished) {
			err = failed
		}
		return !a.fresh
	})
	return changed, err
}

// name writes down the holders of a socket, and tells whether they are others than before. After an error they are not known.
func (f *Finder) name(a *attribution) (changed bool, err error) {
	holders, err := f.holdersOf(a)
	if err != nil || slices.Equal(holders, a.holders) {
		return false, err
	}
	a.holders = holders
	return true, nil
}

// holdersOf returns the holders of a socket, by what is known of it.
func (f *Finder) holdersOf(a *attribution) ([]Holder, error) {
	from, err := f.made(a.socket.Cgroup)
	if err != nil {
		return nil, err
	}
	// A cgroup that tells nothing may be that of PID 1, which opens sockets for others.
	tells := from != origin{} && from.unit != initScope
	a.byCgroup = tells
	witnesses := a.witnesses
	if others := slices.DeleteFunc(slices.Clone(witnesses), func(w witness) bool { return w.pid == 1 }); len(others) > 0 {
		witnesses = others
	}
	var holders []Holder
	add := func(process string, from origin) {
		h := Holder{Process: process, Unit: from.unit, ContainerID: from.containerID, PodUID: from.podUID, UID: a.socket.UID}
		if h != (Holder{UID: h.UID}) && !slices.Contains(holders, h) {
			holders = append(holders, h)
		}
	}
	for _, w := range witnesses {
		if !tells && w.pid != 1 {
			here, err := f.origin(w.pid)
			if err != nil {
				return nil, err
			}
			add(w.name, here)
			continue
		}
		add(w.name, from)
	}
	if len(witnesses) == 0 {
		all, err := f.crewOf(a.socket.Cgroup)
		if err != nil {
			return nil, err
		}
		add(all.name, from)
	}
	slices.SortFunc(holders, func(x, y Holder) int {
		return cmp.Or(cmp.Compare(x.Process, y.Process), cmp.Compare(x.Unit, y.Unit),
			cmp.Compare(x.ContainerID, y.ContainerID), cmp.Compare(x.PodUID, y.PodUID))
	})
	return holders, nil
}

// made returns what the cgroup with an ID, in which a socket was made, says; nothing if it is not known.
func (f *Finder) made(id uint64) (origin, error) {
	if f.cgroups == nil {
		return origin{}, nil
	}
	at, err := f.cgroups.path(id)
	if err != nil {
		return origin{}, err
	}
	return parsePath(at), nil
}

// pidDir returns the directory of a process.
func (f *Finder) pidDir(pid int) string { return filepath.Join(f.procfs, strconv.Itoa(pid)) }
