//go:build linux

// Package holder finds who holds a listening socket. The socket's cgroup names the unit, the pod and the container, which needs no
// privilege. The open files of processes show the process.
package holder

import (
	"cmp"
	"errors"
	"os/user"
	"slices"
	"strconv"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/users"
)

// Socket identifies a socket whose holder is wanted. No two open sockets are equal, and a new one hardly ever equals one that was
// closed.
type Socket struct {
	// ID is the socket's own as long as it lives, or 0.
	ID uint64
	// Inode is the number in the links of /proc/<pid>/fd, or 0 if no process has the socket open.
	Inode uint64
	// Cgroup is the ID of the cgroup in which the socket was made, or 0 if that is not known.
	Cgroup uint64
	// UID is the user who owns the socket.
	UID uint32
}

// Holder is who holds a socket. What is not known is empty.
type Holder struct {
	// Process is the name of the process. Like a unit's, it is any valid UTF-8.
	Process string
	// Unit is the system manager's unit, such as ssh.service. A user's own units read user@1000.service/x.service.
	Unit string
	// ContainerID is the container's ID, and PodUID that of its Kubernetes pod.
	ContainerID, PodUID string
	// UID is the user who owns the socket. UIDUnknown reports that this user has no number in the reader's user namespace.
	UID        uint32
	UIDUnknown bool
	// Executable is the base name of the process's program file, of exact holders only.
	Executable string
	// NoUnit reports that an exact holder is in a container and known to be in no unit. Otherwise an empty Unit is not known.
	NoUnit bool
}

// UserNames are the names of users, by their numbers. Each is looked up once, which may take a read of /etc/passwd.
type UserNames map[uint32]string

// Of returns the name of a holder's user, the number if that has no name, or nothing if the user is not known.
func (names UserNames) Of(h Holder) string {
	if h.UIDUnknown {
		return ""
	}
	name, known := names[h.UID]
	if !known {
		name = strconv.FormatUint(uint64(h.UID), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		names[h.UID] = name
	}
	return name
}

// Process is an exact holder. Of the processes that have a socket open, and that are known by the same names, it is the oldest one.
type Process struct {
	Holder
	PID int
	// Path is the process's program file, as the process itself sees it. It is empty if that cannot be seen.
	Path string
}

// Called reports whether a holder is what the process is called.
func (p Process) Called(h Holder) bool {
	return p.Process == h.Process && p.Unit == h.Unit && p.ContainerID == h.ContainerID && p.PodUID == h.PodUID && p.UID == h.UID
}

// Compare orders holders by process, unit, container, pod, user and executable.
func Compare(a, b Holder) int {
	return cmp.Or(cmp.Compare(a.Process, b.Process), cmp.Compare(a.Unit, b.Unit),
		cmp.Compare(a.ContainerID, b.ContainerID), cmp.Compare(a.PodUID, b.PodUID), cmp.Compare(a.UID, b.UID),
		cmp.Compare(a.Executable, b.Executable))
}

// Limits of the work of one Find.
const (
	// firstSearch bounds the first search through the descriptors of processes, which has every holder of every socket to find.
	firstSearch = 30 * time.Second
	// laterSearch bounds every later one. The next Find goes on where it ended. Cgroups get half of the time: whoever has many of
	// them, or many processes in one, cannot take all of it.
	laterSearch = 250 * time.Millisecond
)

// Finder finds the holders of sockets, and remembers them. It is used by one goroutine at a time.
//
// A Find rechecks some of the known holders (recheck.go), looks for new ones (search.go) in cgroups (cgroup.go, tree.go) and in
// processes (process.go), and then combines what is known (here). These steps share the Finder.
type Finder struct {
	processes
	cgroups *tree
	now     func() time.Time

	known       map[Socket]*attribution
	order       []*attribution // those known, in the order of rechecks
	lastRecheck time.Time
	next        int            // where in order the next recheck begins
	pending     []*attribution // their holders are to be found
	search      *search        // through all processes; nil while there is none
	hiddenUntil time.Time      // no search begins before, because no process showed its descriptors
	ran         bool           // a Find has ended
	patrols     []*patrol      // they look for holders that come later
	users       users.Namespace

	// What this Find has read, by cgroup ID.
	members map[uint64]members
}

// New returns a finder for the processes in the procfs mounted at procfs, and the cgroups in sysfs. Without a whole cgroup2
// hierarchy in view it finds only processes. Then the error says why, and the finder works all the same.
func New(procfs, sysfs string) (*Finder, error) {
	root, err := FindCgroup2(procfs, sysfs)
	p := newProcesses(procfs, root)
	return &Finder{
		processes: p, cgroups: newTree(root), known: make(map[Socket]*attribution), now: time.Now,
		patrols: newPatrols(p, patrolEvery), users: users.Own(),
	}, err
}

// Find brings the finder up to date with the present sockets. same says that they are those of the last call. changed reports
// whether the holders of any socket differ from those after the last call.
//
// A process or a cgroup that vanishes meanwhile is no error. After an error or a panic, some of the holders may be out of date.
func (f *Finder) Find(sockets []Socket, same bool) (changed bool, err error) {
	start := f.now()
	limit := laterSearch
	if !f.ran {
		limit = firstSearch
	}
	half, deadline := start.Add(limit/2), start.Add(limit)
	f.members = make(map[uint64]members)
	f.cgroups.begin(f.now, half)
	isOf := func(s Socket, a *attribution) bool { return s == a.socket }
	if !f.ran || !same && !slices.EqualFunc(sockets, f.order, isOf) {
		changed = f.setSockets(sockets)
	}
	failed := f.hear()
	rechecked, err := f.recheck(start)
	stale := changed || rechecked || len(f.pending) > 0
	attributed := false
	if err == nil {
		attributed, err = f.attribute(half, deadline)
	}
	f.send(stale || attributed)
	f.ran = true
	return changed || rechecked || attributed, errors.Join(failed, err)
}

// Holders returns the holders of a socket that the last Find was given, each once. There are none if nothing is known. The
// result must not be changed.
func (f *Finder) Holders(s Socket) []Holder {
	if a := f.known[s]; a != nil {
		return a.holders
	}
	return nil
}

// Exact reports whether the holders of a socket are the processes that have it open, not a guess from its cgroup.
func (f *Finder) Exact(s Socket) bool {
	a := f.known[s]
	return a != nil && a.served()
}

// Processes returns the exact holders of a socket that the last Find was given.
func (f *Finder) Processes(s Socket) (processes []Process) {
	a := f.known[s]
	if a == nil {
		return nil
	}
	at, _ := f.cgroups.path(s.Cgroup)
	for _, w := range a.exact() {
		held := f.holder(s, w.name, w.executable, w.origin(parsePath(at)), w.placed)
		processes = append(processes, Process{held, w.pid, f.program(w.pid, w.executable)})
	}
	return processes
}

// setSockets makes these sockets the known ones, and reports whether that changed anything.
func (f *Finder) setSockets(sockets []Socket) (changed bool) {
	next := make(map[Socket]*attribution, len(sockets))
	order := make([]*attribution, 0, len(sockets))
	for _, s := range sockets {
		if next[s] != nil {
			continue
		}
		a := f.known[s]
		if a == nil {
			a = &attribution{socket: s, wanted: true}
			f.setPending(a)
			changed = true
		}
		next[s] = a
		order = append(order, a)
	}
	changed = changed || len(next) != len(f.known)
	if changed {
		ids := make(map[uint64]bool)
		for _, a := range order {
			if a.socket.Cgroup != 0 {
				ids[a.socket.Cgroup] = true
			}
		}
		f.cgroups.setWanted(ids)
	}
	f.pending = slices.DeleteFunc(f.pending, func(a *attribution) bool { return next[a.socket] != a })
	f.known, f.order = next, order
	return changed
}

func (f *Finder) setPending(a *attribution) {
	if !a.pending {
		a.pending = true
		f.pending = append(f.pending, a)
	}
}

// attribute finds the holders of what is pending, and goes on with the search through all processes.
func (f *Finder) attribute(half, deadline time.Time) (changed bool, err error) {
	if len(f.pending) > 0 && f.ran { // the first search through all processes has these, too
		if err = f.searchCgroups(f.pending, half); err != nil {
			return false, err
		}
	}
	for _, a := range f.pending {
		a.wanted = a.wanted && a.socket.Inode != 0 && (!f.ran || !a.served())
	}
	found, err := f.searchAll(deadline)
	if err != nil {
		return false, err
	}
	for _, a := range found {
		if f.known[a.socket] == a {
			f.setPending(a)
		}
	}
	f.pending = slices.DeleteFunc(f.pending, func(a *attribution) bool {
		updated, failed := f.update(a)
		changed = changed || updated
		a.pending = failed != nil // its cgroup is not known yet
		if a.pending && !errors.Is(failed, errUnfinished) {
			err = failed
		}
		return !a.pending
	})
	return changed, err
}

// update sets the holders of a socket by what is known, and reports whether they changed. After an error they are unchanged.
func (f *Finder) update(a *attribution) (changed bool, err error) {
	holders, err := f.holdersOf(a)
	if err != nil || slices.Equal(holders, a.holders) {
		return false, err
	}
	a.holders = holders
	return true, nil
}

// holdersOf returns the holders of a socket by what is known.
func (f *Finder) holdersOf(a *attribution) ([]Holder, error) {
	at, err := f.cgroups.path(a.socket.Cgroup)
	if err != nil {
		return nil, err
	}
	made := parsePath(at)
	var holders []Holder
	add := func(process, executable string, of origin, placed bool) {
		if process == "" && executable == "" && of == (origin{}) {
			return
		}
		if h := f.holder(a.socket, process, executable, of, placed); !slices.Contains(holders, h) {
			holders = append(holders, h)
		}
	}
	for _, w := range a.exact() {
		add(w.name, w.executable, w.origin(made), w.placed)
	}
	if len(a.witnesses) == 0 {
		all, err := f.membersOf(a.socket.Cgroup)
		if err != nil {
			return nil, err
		}
		a.guess = all.name
		add(all.name, "", made, false)
	}
	slices.SortFunc(holders, Compare)
	return holders, nil
}

// holder returns who holds a socket, by what its process is called and where that comes from.
func (f *Finder) holder(s Socket, process, executable string, of origin, placed bool) Holder {
	return holderOf(f.users, s.UID, process, executable, of, placed)
}

// holderOf returns who holds a socket of a user.
func holderOf(known users.Namespace, uid uint32, process, executable string, of origin, placed bool) Holder {
	h := Holder{Process: process, Unit: of.unit, ContainerID: of.containerID, PodUID: of.podUID, Executable: executable}
	h.NoUnit = placed && of.unit == "" && of.containerID != ""
	h.UID, h.UIDUnknown = known.Number(uid)
	return h
}
