//go:build linux

package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// keptNamespaces is how many namespaces are kept at most: a few times the number of pods that a host can run.
	keptNamespaces = 1024
	// descriptorShare limits witnesses to one in so many of the descriptors that this process may open.
	descriptorShare = 2
	// maxAsked is about how many namespaces are asked in each call whether their witness is still in them. Of the others only its end
	// is noticed, which costs a fifth.
	maxAsked = 64
)

// Finder finds the network namespaces that processes and threads live in, except the main one, which is the one of PID 1. It reads a
// procfs and needs no privilege. It does not find what hidepid hides.
//
// A namespace without a process, kept by a bind mount (ip netns add) or by a descriptor, is not found. A process that lives
// elsewhere may listen there, but procfs shows no way to it.
//
// If there are more namespaces than the Finder keeps, places are shared fairly: see [places].
//
// A Finder is for one goroutine at a time.
type Finder struct {
	procfs        string
	root          int // a descriptor of it, during a Find
	listing       listing
	pids          pids
	threads       threads
	maxNamespaces int // how many are kept

	main       uint64
	lastSerial uint64
	namespaces []*Namespace // by serial
	byInode    map[uint64]*Namespace
	omitted    map[uint64]sighting // by inode number
	places     places
}

// sighting is when a namespace that was left out was last seen.
type sighting struct {
	round  int
	thread bool // in a thread that is looked at seldom
}

// NewFinder returns a Finder of the namespaces in a procfs. It opens nothing yet.
func NewFinder(procfs string) *Finder {
	f := &Finder{
		procfs:        procfs,
		maxNamespaces: keptNamespaces,
		byInode:       make(map[uint64]*Namespace),
		omitted:       make(map[uint64]sighting),
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		f.maxNamespaces = int(min(keptNamespaces, limit.Cur/descriptorShare/maxWitnesses))
	}
	return f
}

// Find returns the namespaces that there are now, in the order of their serials. Processes and namespaces that come and go
// meanwhile are no error.
//
// The first three calls look at every process. Later ones look at the witnesses of each namespace, at new processes, and at 128
// of the others in turn. A call that finds all witnesses of a namespace gone looks at every process. A look at a process whose first
// thread has ended is one at its other threads. The other threads of the rest are looked at in turn, so many in each call as
// [maxThreads] says: each may have entered another namespace by itself.
//
// After an error everything is as it was before, and the next call may succeed.
func (f *Finder) Find() ([]*Namespace, error) {
	root, err := os.Open(f.procfs)
	if err != nil {
		return nil, fmt.Errorf("find network namespaces: %w", err)
	}
	defer func() { _ = root.Close() }()
	f.root = int(root.Fd())
	ended, lostAll, err := f.read(root)
	if err != nil {
		return nil, fmt.Errorf("find network namespaces: %w", err)
	}
	f.places.forget()
	for _, o := range ended {
		f.end(o)
	}
	listed := f.listing.pids
	looked := f.pids.next(listed, lostAll)
	// What has lost all its witnesses may live on in processes that are not new.
	for _, pid := range looked {
		if !f.examine(pid, pid, false) {
			f.threads.eachOf(f.root, pid, func(tid int) { f.examine(pid, tid, false) })
		}
	}
	f.threads.next(f.root, listed, func(pid, tid int) { f.examine(pid, tid, true) })
	for inode, last := range f.omitted {
		if ago := f.pids.round - last.round; !last.thread && ago >= f.pids.turns || last.thread && f.threads.turns > 0 && ago > f.threads.turns {
			delete(f.omitted, inode)
		}
	}
	return slices.Clone(f.namespaces), nil
}

// read brings the listing up to date, and returns the namespaces that have ended. lostAll is whether one has lost all its witnesses.
func (f *Finder) read(root *os.File) (ended []*Namespace, lostAll bool, err error) {
	main, err := inodeAt(f.root, "1/"+tcpTable)
	if err != nil {
		return nil, false, fmt.Errorf("stat %s: %w", filepath.Join(f.procfs, "1", tcpTable), err)
	}
	turns := uint64(len(f.namespaces)+maxAsked-1) / maxAsked
	for _, o := range f.namespaces {
		asked := (o.Serial+uint64(f.pids.round))%turns == 0
		switch {
		case o.Inode == main:
			ended = append(ended, o)
		case asked && !o.Alive() || !asked && !o.hasWitness():
			ended, lostAll = append(ended, o), true
		}
	}
	// Only now: a process that has joined such a namespace before its last witness ended is in the listing.
	begun, err := f.listing.update(root, lostAll || f.pids.turnEnds())
	if err != nil {
		return nil, false, err
	}
	for _, pid := range begun {
		f.pids.renew(pid)
	}
	f.main = main
	return ended, lostAll, nil
}

// Close lets go of all namespaces. Readers of them may go on, and fail.
func (f *Finder) Close() {
	for _, o := range slices.Clone(f.namespaces) {
		f.end(o)
	}
}

// Omitted returns how many namespaces the last [Finder.Find] left out, because 1024 were known already, or fewer if this
// process may not open three descriptors for each. One that has ended may be counted until each process was looked at again.
func (f *Finder) Omitted() int { return len(f.omitted) }

// examine finds out which namespace a thread is in, and makes it a witness if that namespace needs one. It reports whether the thread
// could be looked at. seldom is whether that is the turn of a thread.
func (f *Finder) examine(pid, tid int, seldom bool) (seen bool) {
	path := pathOf(pid, tid)
	inode, err := inodeAt(f.root, path+"/"+tcpTable)
	if err != nil {
		return false
	}
	if inode == f.main {
		return true
	}
	o := f.byInode[inode]
	if o != nil {
		o.reside(pid, tid)
		if !o.needs(tid) {
			return true
		}
	} else if len(f.namespaces) >= f.maxNamespaces && !f.makeRoom(path) {
		f.omitted[inode] = sighting{f.pids.round, seldom}
		return true
	}
	w, err := openWitness(f.root, path, pid, tid)
	if err != nil {
		if o == nil && !IsHidden(err) { // out of descriptors
			f.omitted[inode] = sighting{f.pids.round, seldom}
		}
		return true
	}
	// Only the descriptor counts: by now another process may have the pid.
	if again, err := w.inode(); err != nil || again != inode {
		_ = unix.Close(w.fd)
		return true
	}
	// The known namespace is the one that the thread is in only if it is alive after that look. Otherwise a new one has its number.
	if o != nil && !o.Alive() {
		f.end(o)
		o = nil
	}
	if o == nil {
		f.lastSerial++
		o = &Namespace{Inode: inode, Serial: f.lastSerial, finder: f}
		f.namespaces = append(f.namespaces, o)
		f.byInode[inode] = o
		delete(f.omitted, inode)
		f.places.forget()
	}
	o.add(w)
	o.reside(pid, tid)
	return true
}

// makeRoom gives up a namespace for a new one, in which the thread with a path lives, if that is fair.
func (f *Finder) makeRoom(path string) bool {
	victim := f.places.loser(f.namespaces, ownerOf(f.root, path))
	if victim == nil {
		return false
	}
	w := victim.oldest()
	f.end(victim)
	f.omitted[victim.Inode] = sighting{f.pids.round, w.tid != w.pid}
	return true
}

// end forgets a namespace.
func (f *Finder) end(o *Namespace) {
	o.end()
	delete(f.byInode, o.Inode)
	f.namespaces = slices.DeleteFunc(f.namespaces, func(other *Namespace) bool { return other == o })
	f.places.forget()
}
