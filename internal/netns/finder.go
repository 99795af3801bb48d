package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// maxNamespaces is how many namespaces are kept, a few times what a host can run pods.
	maxNamespaces = 1024
	// descriptorShare is the part of the process's descriptors that witnesses may take: one of so many.
	descriptorShare = 2
)

// Finder finds the network namespaces that processes live in, other than the main one, that of PID 1. It reads a procfs and needs
// no privilege; what hidepid hides is not found.
//
// It looks at processes as a whole, not at each thread: a thread that is elsewhere than its process's first thread is not seen.
// Nor is a namespace that no process lives in, but only a bind mount (ip netns add) or a descriptor keeps. There may be listeners
// in such a one, held by a process that lives elsewhere; there is just no way to them.
//
// A Finder is for one goroutine at a time.
type Finder struct {
	procfs string
	pids   *pids // nil: nothing is open

	namespaces  int // how many are kept at most
	descriptors int // how many descriptors may be taken by witnesses

	main    uint64
	serial  uint64
	others  []*Namespace // by serial
	byInode map[uint64]*Namespace
	omitted map[uint64]int // inode number → the round of the listing in which it was last seen

	open   int   // how many descriptors are taken by witnesses
	unused []int // those of them that wait to be closed
	moved  []int // pids of witnesses that have left their namespace
}

// NewFinder returns a Finder of the namespaces in a procfs. It opens nothing yet.
func NewFinder(procfs string) *Finder {
	f := &Finder{
		procfs:      procfs,
		namespaces:  maxNamespaces,
		descriptors: maxNamespaces * maxWitnesses,
		byInode:     make(map[uint64]*Namespace),
		omitted:     make(map[uint64]int),
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur/descriptorShare < uint64(f.descriptors) {
		f.descriptors = int(limit.Cur / descriptorShare)
	}
	return f
}

// Find returns the namespaces there are now, by their serials: the longest known first. Processes and namespaces that come and go
// meanwhile are no error.
//
// The first two calls look at every process. Later ones look at a witness of each namespace, at processes that are new, and at
// every process again in the course of some 32 calls. A call that finds all witnesses of a namespace gone looks at every process.
// Where the procfs is not that of our own PID namespace new processes cannot be told, and each call looks at every process.
//
// After an error everything is as it was before, and the next call may succeed.
func (f *Finder) Find() ([]*Namespace, error) {
	for _, fd := range f.unused {
		f.close(fd)
	}
	f.unused = nil

	candidates, whole, ended, err := f.read()
	if err != nil {
		f.closeRoot() // the next call opens what may have been mounted meanwhile
		return nil, fmt.Errorf("find network namespaces: %w", err)
	}
	for _, o := range ended {
		f.end(o)
	}
	for _, pid := range f.moved {
		f.look(candidate{pid: pid, listed: true})
	}
	f.moved = nil
	for _, c := range candidates {
		if f.look(c) {
			f.pids.seen(c.pid)
		}
	}
	oldest := f.pids.round - 1
	if whole {
		oldest = f.pids.round
	}
	for inode, round := range f.omitted {
		if round < oldest {
			delete(f.omitted, inode)
		}
	}
	return slices.Clone(f.others), nil
}

// read returns the processes to look at, whether those are all, and the lives that have ended.
func (f *Finder) read() (candidates []candidate, whole bool, ended []*Namespace, err error) {
	if f.pids == nil {
		root, err := os.Open(f.procfs)
		if err != nil {
			return nil, false, nil, err
		}
		f.pids = newPIDs(root)
	}
	main, err := inodeAt(f.root(), "1/"+tcpTable)
	if err != nil {
		return nil, false, nil, fmt.Errorf("stat %s: %w", filepath.Join(f.procfs, "1", tcpTable), err)
	}
	// Processes that nobody holds on to may keep alive what has lost all its witnesses. They may be old ones.
	everything := false
	for _, o := range f.others {
		if o.Inode == main {
			ended = append(ended, o)
		} else if !o.Alive() {
			ended = append(ended, o)
			everything = true
		}
	}
	if candidates, whole, err = f.pids.next(everything); err != nil {
		return nil, false, nil, err
	}
	f.main = main
	return candidates, whole, ended, nil
}

// Omitted returns how many namespaces the last [Finder.Find] left out, because 1024 were known already, or because the process has
// too few descriptors for more. One that has vanished may be counted for 64 calls more.
func (f *Finder) Omitted() int { return len(f.omitted) }

// Close gives all descriptors back. No Namespace may be used after it.
func (f *Finder) Close() {
	for _, o := range slices.Clone(f.others) {
		f.end(o)
	}
	for _, fd := range f.unused {
		f.close(fd)
	}
	f.unused, f.moved = nil, nil
	f.closeRoot()
}

func (f *Finder) closeRoot() {
	if f.pids == nil {
		return
	}
	_ = f.pids.root.Close()
	f.pids = nil
	clear(f.omitted) // the rounds are counted anew
}

func (f *Finder) root() int { return int(f.pids.root.Fd()) }

// look sees which namespace a process is in. It returns false if there is no such process.
func (f *Finder) look(c candidate) bool {
	inode, err := inodeAt(f.root(), strconv.Itoa(c.pid)+"/"+tcpTable)
	if err != nil {
		return false
	}
	if inode == f.main {
		return true
	}
	o := f.byInode[inode]
	if o != nil && (len(o.witnesses) >= maxWitnesses || o.has(c.pid)) {
		return true
	}
	if !f.room(o) {
		if o == nil && (c.listed || f.leads(c.pid)) {
			f.omitted[inode] = f.pids.round
		}
		return true
	}
	w, err := openWitness(f.root(), c.pid)
	if err != nil {
		return false
	}
	f.open++
	// What counts is what is seen through the descriptor: the pid may be another process's by now.
	if again, err := w.inode(); err != nil || again != inode || !c.listed && !w.leads() {
		f.close(w.fd)
		return false
	}
	// Only a namespace that is alive after the process was seen can be the one it is in: otherwise this one has taken its number.
	if o != nil && !o.Alive() {
		f.end(o)
		o = nil
	}
	if o == nil {
		f.serial++
		o = &Namespace{Inode: inode, Serial: f.serial, finder: f}
		f.others = append(f.others, o)
		f.byInode[inode] = o
		delete(f.omitted, inode)
	}
	o.add(w)
	return true
}

// room tells whether there is a descriptor for one more witness. When half of them are taken, a namespace gets just one.
func (f *Finder) room(o *Namespace) bool {
	if o != nil {
		return f.open < f.descriptors/2
	}
	return f.open < f.descriptors && len(f.others) < f.namespaces
}

func (f *Finder) leads(pid int) bool {
	w, err := openWitness(f.root(), pid)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(w.fd) }()
	return w.leads()
}

// end forgets a namespace.
func (f *Finder) end(o *Namespace) {
	for _, w := range o.witnesses {
		f.unused = append(f.unused, w.fd)
	}
	o.witnesses = nil
	delete(f.byInode, o.Inode)
	f.others = slices.DeleteFunc(f.others, func(other *Namespace) bool { return other == o })
}

func (f *Finder) close(fd int) {
	_ = unix.Close(fd)
	f.open--
}
