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
	// keptNamespaces is how many namespaces are kept at most: a few times the number of pods that a host can run.
	keptNamespaces = 1024
	// descriptorShare limits witnesses to one in so many of the descriptors that this process may open.
	descriptorShare = 2
)

// Finder finds the network namespaces that processes live in, except the main one, which is the one of PID 1. It reads a procfs
// and needs no privilege. It does not find what hidepid hides.
//
// It looks at processes, not at threads: a thread in another namespace than its process's first thread is not seen. A
// namespace without a process, kept by a bind mount (ip netns add) or by a descriptor, is not found either. A process that lives
// elsewhere may listen there, but procfs shows no way to it.
//
// A Finder is for one goroutine at a time.
type Finder struct {
	procfs string
	root   *os.File // of the procfs; nil while it is not open
	pids   pids

	maxNamespaces  int // how many are kept
	maxDescriptors int // how many witnesses may take

	main       uint64
	lastSerial uint64
	namespaces []*Namespace // by serial
	byInode    map[uint64]*Namespace
	omitted    map[uint64]int // inode number → the round in which it was last seen

	open    int   // how many descriptors witnesses have
	closing []int // those of them that the next Find closes
	moved   []int // pids of witnesses that have left their namespace
}

// NewFinder returns a Finder of the namespaces in a procfs. It opens nothing yet.
func NewFinder(procfs string) *Finder {
	f := &Finder{
		procfs:         procfs,
		maxNamespaces:  keptNamespaces,
		maxDescriptors: keptNamespaces * maxWitnesses,
		byInode:        make(map[uint64]*Namespace),
		omitted:        make(map[uint64]int),
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
// of the others in turn. A call that finds all witnesses of a namespace gone looks at every process.
//
// After an error everything is as it was before, and the next call may succeed.
func (f *Finder) Find() ([]*Namespace, error) {
	for _, fd := range f.closing {
		f.close(fd)
	}
	f.closing = nil

	listed, ended, err := f.read()
	if err != nil {
		f.closeRoot() // the next call opens what may have been mounted meanwhile
		return nil, fmt.Errorf("find network namespaces: %w", err)
	}
	lostAll := slices.ContainsFunc(ended, func(o *Namespace) bool { return o.Inode != f.main })
	for _, o := range ended {
		f.end(o)
	}
	for _, pid := range f.moved {
		f.examine(pid)
	}
	f.moved = nil
	// What has lost all its witnesses may live on in processes that are not new.
	for _, pid := range f.pids.next(listed, lostAll) {
		f.examine(pid)
	}
	for inode, round := range f.omitted {
		if round <= f.pids.round-f.pids.turns {
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
	f.pids = pids{} // the next procfs may be another one
	clear(f.omitted)
}

func (f *Finder) rootFD() int { return int(f.root.Fd()) }

// examine finds out which namespace a process is in, and makes it a witness if that namespace needs one.
func (f *Finder) examine(pid int) {
	inode, err := inodeAt(f.rootFD(), strconv.Itoa(pid)+"/"+tcpTable)
	if err != nil || inode == f.main {
		return
	}
	o := f.byInode[inode]
	if o != nil && (len(o.witnesses) >= maxWitnesses || o.has(pid)) {
		return
	}
	if !f.hasRoom(o) {
		if o == nil {
			f.omitted[inode] = f.pids.round
		}
		return
	}
	w, err := openWitness(f.rootFD(), pid)
	if err != nil {
		return
	}
	f.open++
	// Only the descriptor counts: by now another process may have the pid.
	if again, err := w.inode(); err != nil || again != inode {
		f.close(w.fd)
		return
	}
	// The known namespace is the one that the process is in only if it is alive after that look. Otherwise a new one has its number.
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
	}
	o.add(w)
}

// hasRoom reports whether there is a descriptor for one more witness. Once half of them are taken, a namespace gets only one.
func (f *Finder) hasRoom(o *Namespace) bool {
	if o != nil {
		return f.open < f.maxDescriptors/2
	}
	return f.open < f.maxDescriptors && len(f.namespaces) < f.maxNamespaces
}

// end forgets a namespace.
func (f *Finder) end(o *Namespace) {
	for _, w := range o.witnesses {
		f.closing = append(f.closing, w.fd)
	}
	o.witnesses = nil
	delete(f.byInode, o.Inode)
	f.namespaces = slices.DeleteFunc(f.namespaces, func(other *Namespace) bool { return other == o })
}

func (f *Finder) close(fd int) {
	_ = unix.Close(fd)
	f.open--
}
