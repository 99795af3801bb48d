package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// keptNamespaces is how many namespaces are kept at most: a few times the number of pods that a host can run.
	keptNamespaces = 1024
	// descriptorShare limits witnesses to one in so many of the descriptors that this process may open.
	descriptorShare = 2
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
	procfs  string
	root    *os.File // of the procfs; nil while it is not open
	pids    pids
	threads threads

	maxNamespaces  int // how many are kept
	maxDescriptors int // how many witnesses may take

	main       uint64
	lastSerial uint64
	namespaces []*Namespace // by serial
	byInode    map[uint64]*Namespace
	omitted    map[uint64]sighting // by inode number
	places     places

	open  atomic.Int64 // how many descriptors witnesses have
	moved []witness    // those that are in another namespace now
}

// sighting is when a namespace that was left out was last seen.
type sighting struct {
	round  int
	thread bool // in a thread that is looked at seldom
}

// NewFinder returns a Finder of the namespaces in a procfs. It opens nothing yet.
func NewFinder(procfs string) *Finder {
	f := &Finder{
		procfs:         procfs,
		maxNamespaces:  keptNamespaces,
		maxDescriptors: keptNamespaces * maxWitnesses,
		byInode:        make(map[uint64]*Namespace),
		omitted:        make(map[uint64]sighting),
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur/descriptorShare < uint64(f.maxDescriptors) {
		f.maxDescriptors = int(limit.Cur / descriptorShare)
	}
	return f
}

// Find returns the namespaces that there are now, in the order of their serials. Processes and namespaces that come and go
// meanwhile are no error.
//
// The first three calls look at every process. Later ones look at the witnesses of each namespace, at new processes, and at 256
// of the others in turn. A call that finds all witnesses of a namespace gone looks at every process. A look at a process whose first
// thread has ended is one at its other threads. The other threads of the rest are looked at in turn, so many in each call as
// [maxThreads] says: each may have entered another namespace by itself.
//
// After an error everything is as it was before, and the next call may succeed.
func (f *Finder) Find() ([]*Namespace, error) {
	listed, ended, err := f.read()
	if err != nil {
		f.closeRoot() // the next call opens what may have been mounted meanwhile
		return nil, fmt.Errorf("find network namespaces: %w", err)
	}
	f.places.forget()
	lostAll := slices.ContainsFunc(ended, func(o *Namespace) bool { return o.Inode != f.main })
	for _, o := range ended {
		f.end(o)
	}
	looked := f.pids.next(listed, lostAll)
	for _, w := range f.moved {
		f.examine(w.pid, w.tid, false)
	}
	f.moved = nil
	// What has lost all its witnesses may live on in processes that are not new.
	for _, pid := range looked {
		if !f.examine(pid, pid, false) {
			f.threads.eachOf(f.rootFD(), pid, func(tid int) { f.examine(pid, tid, false) })
		}
	}
	f.threads.next(f.rootFD(), listed, func(pid, tid int) { f.examine(pid, tid, true) })
	for inode, last := range f.omitted {
		if ago := f.pids.round - last.round; !last.thread && ago >= f.pids.turns || last.thread && f.threads.turns > 0 && ago > f.threads.turns {
			delete(f.omitted, inode)
		}
	}
	return slices.Clone(f.namespaces), nil
}

// read returns all processes, and the namespaces that have ended.
func (f *Finder) read() (listed []int, ended []*Namespace, err error) {
	if f.root == nil {
		if f.root, err = os.Open(f.procfs); err != nil {
			return nil, nil, err
		}
	}
	main, err := inodeAt(f.rootFD(), "1/"+tcpTable)
	if err != nil {
		return nil, nil, fmt.Errorf("stat %s: %w", filepath.Join(f.procfs, "1", tcpTable), err)
	}
	for _, o := range f.namespaces {
		if o.Inode == main || !o.Alive() {
			ended = append(ended, o)
		}
		f.moved = append(f.moved, o.takeMoved()...)
	}
	// Only now: a process that has joined such a namespace before its last witness ended is in the listing.
	if listed, err = ListPIDs(f.root); err != nil {
		return nil, nil, err
	}
	f.main = main
	return listed, ended, nil
}

// Omitted returns how many namespaces the last [Finder.Find] left out, because 1024 were known already or because the process has
// too few descriptors for more. One that has ended may be counted until each process was looked at again.
func (f *Finder) Omitted() int { return len(f.omitted) }

func (f *Finder) closeRoot() {
	if f.root == nil {
		return
	}
	_ = f.root.Close()
	f.root = nil
	f.pids, f.threads = pids{}, threads{} // the next procfs may be another one
	clear(f.omitted)
}

func (f *Finder) rootFD() int { return int(f.root.Fd()) }

// examine finds out which namespace a thread is in, and makes it a witness if that namespace needs one. It reports whether the thread
// could be looked at. seldom is whether that is the turn of a thread.
func (f *Finder) examine(pid, tid int, seldom bool) (seen bool) {
	path := pathOf(pid, tid)
	inode, err := inodeAt(f.rootFD(), path+"/"+tcpTable)
	if err != nil {
		return false
	}
	if inode == f.main {
		return true
	}
	o := f.byInode[inode]
	if o != nil {
		o.reside(pid, tid)
	}
	if o != nil && (!o.needs(tid) || !f.hasRoom(o)) {
		return true
	}
	if o == nil && !f.hasRoom(nil) && !f.makeRoom(path) {
		f.omitted[inode] = sighting{f.pids.round, seldom}
		return true
	}
	w, err := openWitness(f.rootFD(), path, pid, tid)
	if err != nil {
		if o == nil && !IsHidden(err) { // out of descriptors
			f.omitted[inode] = sighting{f.pids.round, seldom}
		}
		return true
	}
	f.open.Add(1)
	// Only the descriptor counts: by now another process may have the pid.
	if again, err := w.inode(); err != nil || again != inode {
		_ = unix.Close(w.fd)
		f.open.Add(-1)
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

// hasRoom reports whether there is a descriptor for one more witness. Once half of them are taken, a namespace gets only one.
func (f *Finder) hasRoom(o *Namespace) bool {
	open := int(f.open.Load())
	if o != nil {
		return open < f.maxDescriptors/2
	}
	return open < f.maxDescriptors && len(f.namespaces) < f.maxNamespaces
}

// makeRoom gives up a namespace for a new one, in which the thread with a path lives, if that is fair.
func (f *Finder) makeRoom(path string) bool {
	victim := f.places.loser(f.namespaces, ownerOf(f.rootFD(), path))
	if victim == nil {
		return false
	}
	w := victim.oldest()
	f.end(victim)
	f.omitted[victim.Inode] = sighting{f.pids.round, w.tid != w.pid}
	return f.hasRoom(nil) // unless the victim had lost all its witnesses
}

// end forgets a namespace.
func (f *Finder) end(o *Namespace) {
	o.end()
	delete(f.byInode, o.Inode)
	f.namespaces = slices.DeleteFunc(f.namespaces, func(other *Namespace) bool { return other == o })
	f.places.forget()
}
