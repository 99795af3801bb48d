package holder

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A socket without a process but PID 1 is searched for again after retryAfter, then after twice as long each time, up to
// retryAtMost: it may have been on its way from one process to another, but most often it is one of the kernel's own, or waits
// for its service to be started.
const (
	retryAfter  = 15 * time.Second
	retryAtMost = time.Hour
)

// blindFor is how long no search through all processes begins after one to which no process showed its descriptors.
const blindFor = 10 * time.Minute

// search is a walk through the descriptors of all processes, which may take several Finds.
type search struct {
	wanted map[uint64]*attribution // by inode
	pids   []int                   // still to be looked into
	saw    bool                    // a process that is not this one showed its descriptors
}

// searchCgroups looks for the processes that have sockets open among those of the sockets' cgroups.
func (f *Finder) searchCgroups(sockets []*attribution, deadline time.Time) {
	wanted := make(map[uint64]*attribution)
	pids := make(map[int]struct{})
	for _, a := range sockets {
		if a.socket.Inode == 0 {
			continue
		}
		wanted[a.socket.Inode] = a
		for _, pid := range append(f.serviceOf(a.socket.Cgroup), f.crewOf(a.socket.Cgroup).pids...) {
			pids[pid] = struct{}{}
		}
	}
	for _, pid := range slices.Sorted(maps.Keys(pids)) {
		if f.now().After(deadline) {
			return
		}
		f.look(pid, wanted)
	}
}

// searchService looks for the process that serves a socket which PID 1 alone had when it was looked for: systemd starts the
// service when somebody connects. It tells whether it found it.
func (f *Finder) searchService(a *attribution) bool {
	wanted := map[uint64]*attribution{a.socket.Inode: a}
	for _, pid := range f.serviceOf(a.socket.Cgroup) {
		f.look(pid, wanted)
	}
	return a.served()
}

// searchAll goes on with the search through all processes, and begins one where there is something to be found. It returns
// the sockets of which something new may be known.
func (f *Finder) searchAll(deadline time.Time) (news []*attribution, err error) {
	if f.search == nil {
		if f.search, err = f.beginSearch(); err != nil {
			return nil, err
		}
	}
	s := f.search
	if s == nil {
		return nil, nil
	}
	for len(s.pids) > 0 {
		if f.now().After(deadline) {
			for _, a := range s.wanted {
				if len(a.witnesses) > 0 {
					news = append(news, a)
				}
			}
			return news, nil
		}
		pid := s.pids[0]
		s.pids = s.pids[1:]
		if f.look(pid, s.wanted) && pid != os.Getpid() {
			s.saw = true
		}
	}
	f.search = nil
	if !s.saw {
		f.blind = f.now().Add(blindFor)
	}
	for _, a := range s.wanted {
		a.wanted = !a.served()
		if a.wanted {
			a.due = f.now().Add(min(retryAfter<<a.searches, retryAtMost))
			a.searches = min(a.searches+1, 10)
		}
		news = append(news, a)
	}
	return news, nil
}

// beginSearch returns a search for what is wanted now, or nil if there is nothing.
func (f *Finder) beginSearch() (*search, error) {
	now := f.now()
	if now.Before(f.blind) {
		return nil, nil
	}
	wanted := make(map[uint64]*attribution)
	for _, a := range f.order {
		if a.wanted && !now.Before(a.due) {
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
	return &search{wanted: wanted, pids: pids}, nil
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

// look searches the descriptors of a process for sockets, and tells whether it could see them.
func (f *Finder) look(pid int, wanted map[uint64]*attribution) (saw bool) {
	dir, err := os.Open(f.pidDir(pid) + "/fd")
	if err != nil {
		return false
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return false
	}
	process, known := "", false
	for _, name := range names {
		inode, ok := f.links.socket(int(dir.Fd()), name)
		if !ok {
			continue
		}
		a := wanted[inode]
		if a == nil {
			continue
		}
		if !known {
			if process, known = f.comm(pid); !known {
				return true // it died
			}
		}
		a.saw(witness{pid: pid, link: dir.Name() + "/" + name, name: process})
	}
	return true
}

// saw enters a witness, if its name is not there yet. PID 1 gives way: it opens sockets for others to serve.
func (a *attribution) saw(w witness) {
	for n, other := range a.witnesses {
		if other.name != w.name {
			continue
		}
		if other.pid == 1 {
			a.witnesses[n] = w
		}
		return
	}
	if len(a.witnesses) < maxNames {
		a.witnesses = append(a.witnesses, w)
	}
}

// served tells whether a process is known that has the socket open and is not PID 1, which opens sockets for others to serve.
func (a *attribution) served() bool {
	return slices.ContainsFunc(a.witnesses, func(w witness) bool { return w.pid != 1 })
}

// stands tells whether what a witness says of a socket is true still: the process has it open, and has the same name.
func (f *Finder) stands(w witness, inode uint64) bool {
	got, ok := f.links.socket(unix.AT_FDCWD, w.link)
	if !ok || got != inode {
		return false
	}
	name, ok := f.comm(w.pid)
	return ok && name == w.name
}

// commLength is more than the longest name of a process, with the newline behind it (TASK_COMM_LEN, include/linux/sched.h; a
// kernel thread shows up to 64 bytes).
const commLength = 128

// comm returns the name of a process, unless that process is no more.
func (f *Finder) comm(pid int) (name string, ok bool) {
	fd, err := unix.Open(f.pidDir(pid)+"/comm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false
	}
	defer func() { _ = unix.Close(fd) }()
	var buffer [commLength]byte
	n, err := unix.Read(fd, buffer[:])
	if err != nil {
		return "", false
	}
	// A name may end in a newline of its own, and be no text at all.
	return strings.ToValidUTF8(strings.TrimSuffix(string(buffer[:n]), "\n"), "\uFFFD"), true
}

// linkReader reads links of /proc/<pid>/fd.
type linkReader struct{ buffer [64]byte }

// socket returns the inode that a link names if it is one of a socket: socket:[12345].
func (r *linkReader) socket(dir int, name string) (inode uint64, ok bool) {
	n, err := unix.Readlinkat(dir, name, r.buffer[:])
	if err != nil || n == len(r.buffer) {
		return 0, false
	}
	text, ok := strings.CutPrefix(string(r.buffer[:n]), "socket:[")
	if !ok {
		return 0, false
	}
	text, ok = strings.CutSuffix(text, "]")
	if !ok {
		return 0, false
	}
	inode, err = strconv.ParseUint(text, 10, 64)
	return inode, err == nil
}
