//go:build linux

package netns

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// userHZ is how many clock ticks a second has in the files that the kernel shows to programs (USER_HZ,
// include/asm-generic/param.h).
const userHZ = 100

// maxWitnesses is how many processes of a namespace are watched. If all of them die between two calls of [Finder.Find], a
// namespace that other processes keep alive counts as a new one.
const maxWitnesses = 3

// fewResidents is how many threads that have gone may be remembered in any case.
const fewResidents = 64

// tcpTable is the file whose inode number identifies a network namespace. The number is the namespace's, whichever process or
// procfs mount shows the file, and stat needs no privilege. The link ns/net has such a number too, but reading it needs ptrace
// rights.
const tcpTable = "net/tcp"

// Namespace is one life of a network namespace other than the main one. Its methods may be used by one goroutine while another one
// uses the [Finder].
type Namespace struct {
	// Inode is the number of net/tcp. No two namespaces have the same at a time, but the kernel reuses it at once.
	Inode uint64
	// Serial is unique for each life. The namespace that takes a dead one's inode number is another Namespace with a higher serial.
	Serial uint64

	finder *Finder
	owner  *owner // nil until it was asked for; only the Finder uses it

	mu        sync.Mutex
	file      fileID    // its file, once it was opened
	witnesses []witness // oldest first; the namespace is read through the first one

	residents    map[int]int // all threads that were seen in the namespace, with their processes; some may have gone
	maxResidents int         // how many of them there may be before those that have gone are forgotten
	comers       uint64
}

// View is a way to the files of a namespace, through one of the processes that live in it.
type View struct {
	// Dir is a path of the process's directory in procfs: the net/ in it is the namespace's. It never leads to another process: once
	// this one has died there is nothing below it.
	Dir string
	// DirForPeople is the path that people know the directory by, such as /host/proc/1234.
	DirForPeople string
	// Stays reports whether the process is still in the namespace. If so, what was read through Dir was the namespace's.
	Stays func() bool
	// Close ends the use of Dir.
	Close func()
}

var errGone = errors.New("its processes have ended or are in other network namespaces now")

// View returns a way to the namespace's files, through the witness. It fails if the namespace is not [Namespace.Alive].
func (o *Namespace) View() (View, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.alive() {
		return View{}, fmt.Errorf("look into a network namespace: %w", errGone)
	}
	w := o.witnesses[0]
	fd, err := unix.FcntlInt(uintptr(w.fd), unix.F_DUPFD_CLOEXEC, 0) // w.fd is closed when the process leaves
	if err != nil {
		return View{}, fmt.Errorf("look into a network namespace: %w", err)
	}
	w.fd = fd
	return View{
		Dir:          filepath.Join(ownProcfs, "self/fd", strconv.Itoa(fd)),
		DirForPeople: filepath.Join(o.finder.procfs, w.path()),
		Stays:        func() bool { return w.isIn(o.Inode) },
		Close:        func() { _ = unix.Close(fd) },
	}, nil
}

// Members returns the pids of up to three processes that were seen in the namespace, oldest first. The first one is the witness.
// A thread has its own number, by which procfs shows it too.
func (o *Namespace) Members() []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	pids := make([]int, 0, len(o.witnesses))
	for _, w := range o.witnesses {
		pids = append(pids, w.tid)
	}
	return pids
}

// IsOwn reports whether this is the exporter's own namespace.
func (o *Namespace) IsOwn() bool {
	own, err := inode(filepath.Join(ownProcfs, "self"))
	return err == nil && own == o.Inode
}

// Residents returns the pids of all processes that were seen in the namespace, with one of their threads, and still are there. From
// the first Find on, these are all that there are, except processes that came since the last one, or that entered the namespace
// when they were not new and have not been looked at since.
func (o *Namespace) Residents() []int {
	o.mu.Lock()
	seen := maps.Clone(o.residents)
	o.mu.Unlock()
	there := make(map[int]bool)
	for tid, pid := range seen {
		if !there[pid] && o.has(pid, tid) {
			there[pid] = true
		}
	}
	return slices.Sorted(maps.Keys(there))
}

// Comers returns how many threads were seen in the namespace, each once. It grows when a process begins there.
func (o *Namespace) Comers() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.comers
}

// Group returns the group of cgroups that the namespace counts for where there is not enough for all: see [places].
func (o *Namespace) Group() string { return o.askOwner().group }

// ReadFile returns the first 4 KiB of a file of the witness, such as net/sockstat, or nothing if it cannot be read.
func (o *Namespace) ReadFile(path string) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.witnesses) == 0 {
		return nil
	}
	text, _ := readAt(o.witnesses[0].fd, path)
	return text
}

// has reports whether a thread is in the namespace.
func (o *Namespace) has(pid, tid int) bool {
	inode, err := inodeAt(unix.AT_FDCWD, filepath.Join(o.finder.procfs, pathOf(pid, tid), tcpTable))
	return err == nil && inode == o.Inode
}

// reside notes that a thread was seen in the namespace. From time to time it forgets those that have gone: a container may start
// a process every second.
func (o *Namespace) reside(pid, tid int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.residents == nil {
		o.residents = make(map[int]int)
	}
	if _, known := o.residents[tid]; !known {
		o.comers++
	}
	o.residents[tid] = pid
	if len(o.residents) > o.maxResidents {
		maps.DeleteFunc(o.residents, func(tid, pid int) bool { return !o.has(pid, tid) })
		o.maxResidents = 2*len(o.residents) + fewResidents
	}
}

// Started returns when the oldest member started, in clock ticks after the machine's start, or 0 if there is none anymore.
func (o *Namespace) Started() uint64 { return o.oldest().started }

// oldest returns the oldest witness, which is the one that the namespace is read through, or nothing if there is none anymore.
func (o *Namespace) oldest() (w witness) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.witnesses) > 0 {
		w = o.witnesses[0]
	}
	return w
}

// Age returns how long ago the oldest member started.
func (o *Namespace) Age() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return math.MaxInt64
	}
	return time.Duration(now.Nano()) - time.Duration(o.Started())*(time.Second/userHZ)
}

// Alive reports whether one of the known processes still lives in the namespace. If the witness does not, another thread of the
// same process or the next witness takes its place: a read that failed may succeed now, through a new [Namespace.View].
//
// One case cannot be seen without privileges: a witness that left, and then entered a new namespace with the number of the old one.
func (o *Namespace) Alive() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.alive()
}

func (o *Namespace) alive() bool {
	for len(o.witnesses) > 0 {
		w := o.witnesses[0]
		if w.isIn(o.Inode) {
			return true
		}
		o.witnesses = o.witnesses[1:]
		if heir, ok := w.heir(o.Inode); ok {
			o.insert(heir)
		}
		_ = unix.Close(w.fd)
	}
	return false
}

// hasWitness reports whether the witness still exists, wherever it is now, or otherwise the same as Alive.
func (o *Namespace) hasWitness() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.witnesses) > 0 && o.witnesses[0].exists() || o.alive()
}

// OpenNS returns a descriptor of the namespace, for [Visit]. The caller closes it. Unlike a witness it keeps the namespace
// alive. It needs the right to trace the witness (ptrace(2), PTRACE_MODE_READ_FSCREDS), which as a rule is CAP_SYS_PTRACE.
func (o *Namespace) OpenNS() (fd int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.witnesses) > 0 && o.file != (fileID{}) {
		// To see that it is the same file costs less than to ask for the inode number twice.
		if fd, file, err := o.witnesses[0].openNS(); err == nil && file == o.file {
			return fd, nil
		} else if err == nil {
			_ = unix.Close(fd)
		}
	}
	for o.alive() {
		w := o.witnesses[0]
		fd, file, openErr := w.openNS()
		switch stays := w.isIn(o.Inode); {
		case stays && openErr == nil:
			o.file = file
			return fd, nil
		case stays:
			return -1, fmt.Errorf("open %s/ns/net: %w", filepath.Join(o.finder.procfs, w.path()), openErr)
		case openErr == nil:
			_ = unix.Close(fd)
		}
	}
	return -1, fmt.Errorf("open a network namespace: %w", errGone)
}

// Number returns the number by which the kernel's own structures know the namespace, as [Main.Number] does, or 0 if it cannot be opened.
func (o *Namespace) Number() uint32 {
	fd, err := o.OpenNS()
	if err != nil {
		return 0
	}
	_ = unix.Close(fd)
	o.mu.Lock()
	defer o.mu.Unlock()
	return uint32(o.file.inode) // proc_alloc_inum of fs/proc/generic.c: an unsigned int
}

// add makes a process or a thread a witness.
func (o *Namespace) add(w witness) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.insert(w)
}

func (o *Namespace) insert(w witness) {
	o.witnesses = append(o.witnesses, w)
	slices.SortStableFunc(o.witnesses, func(a, b witness) int { return cmp.Compare(a.started, b.started) })
}

// needs reports whether a thread should become a witness.
func (o *Namespace) needs(tid int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.witnesses) < maxWitnesses && !slices.ContainsFunc(o.witnesses, func(w witness) bool { return w.tid == tid })
}

// end lets go of all witnesses.
func (o *Namespace) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range o.witnesses {
		_ = unix.Close(w.fd)
	}
	o.witnesses = nil
}

// inodeAt returns the inode number of a file.
func inodeAt(dir int, path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, path, &stat, 0); err != nil {
		return 0, err
	}
	return stat.Ino, nil
}

// IsHidden reports whether an error of reading a file of a process means that the process is gone, or that it is not ours to see
// (hidepid, missing rights).
func IsHidden(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
