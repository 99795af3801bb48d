package netns

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// userHZ is how many clock ticks a second has in the files that the kernel shows to programs (USER_HZ,
// include/asm-generic/param.h).
const userHZ = 100

// maxWitnesses is how many processes of a namespace are watched. If all of them die between two calls of [Finder.Find], a
// namespace that other processes keep alive counts as a new one.
const maxWitnesses = 3

// tcpTable is the file whose inode number identifies a network namespace. The number is the namespace's, whichever process or
// procfs mount shows the file, and stat needs no privilege. The link ns/net has such a number too, but reading it needs ptrace
// rights.
const tcpTable = "net/tcp"

// Namespace is one life of a network namespace other than the main one.
//
// The paths and descriptors that its methods return are good until the next call of [Finder.Find].
type Namespace struct {
	// Inode is the number of net/tcp. No two namespaces have the same at a time, but the kernel reuses it at once.
	Inode uint64
	// Serial is unique for each life. The namespace that takes a dead one's inode number is another Namespace with a higher serial.
	Serial uint64

	finder    *Finder
	witnesses []witness // oldest first; the namespace is read through the first one
}

// witness is a process that was seen to live in a namespace.
type witness struct {
	pid int
	// fd is of <procfs>/<pid>, with O_PATH. It keeps neither the process nor the namespace alive. Every lookup through it is in
	// this very process, and fails once that has died, even if another process has its pid by then.
	fd int
	// started is field 22 of proc_pid_stat(5), in clock ticks after the machine's start.
	started uint64
}

// Dir returns a path of the witness's directory in procfs: the net/ in it is the namespace's. It never leads to another process:
// once the witness has died there is nothing below it.
//
// The witness may leave the namespace during a read. The read was of this namespace if afterwards [Namespace.Alive] is true and
// [Namespace.PID] is the same.
func (o *Namespace) Dir() string {
	if len(o.witnesses) == 0 {
		return o.DirForPeople()
	}
	return o.witnesses[0].dir()
}

// DirForPeople returns the path that people know the witness's directory by, such as /host/proc/1234.
func (o *Namespace) DirForPeople() string {
	return filepath.Join(o.finder.procfs, strconv.Itoa(o.PID()))
}

// PID returns the pid of the witness, in the PID namespace of the procfs, or 0 if there is none anymore.
func (o *Namespace) PID() int { return o.oldest().pid }

// Members returns the pids of up to three processes that were seen in the namespace, oldest first. The first one is the witness.
func (o *Namespace) Members() []int {
	pids := make([]int, 0, len(o.witnesses))
	for _, w := range o.witnesses {
		pids = append(pids, w.pid)
	}
	return pids
}

// Started returns when the oldest member started, in clock ticks after the machine's start, or 0 if there is none anymore.
func (o *Namespace) Started() uint64 { return o.oldest().started }

// oldest returns the oldest witness, which is the one that the namespace is read through, or nothing if there is none anymore.
func (o *Namespace) oldest() (w witness) {
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

// Alive reports whether one of the known processes still lives in the namespace. If the witness does not, the next one takes its
// place: a read that failed may succeed now, through a new [Namespace.Dir].
//
// One case cannot be seen without privileges: a witness that left, and then entered a new namespace with the number of the old one.
func (o *Namespace) Alive() bool {
	for len(o.witnesses) > 0 {
		inode, err := o.witnesses[0].inode()
		if err == nil && inode == o.Inode || err != nil && !IsHidden(err) {
			return true
		}
		if err == nil {
			o.finder.moved = append(o.finder.moved, o.witnesses[0].pid)
		}
		// Not closed yet: somebody may still have the path, and another file would get the descriptor's number.
		o.finder.closing = append(o.finder.closing, o.witnesses[0].fd)
		o.witnesses = o.witnesses[1:]
	}
	return false
}

// OpenNS returns a descriptor of the namespace, for [Thread.In]. The caller closes it. Unlike a witness it keeps the namespace
// alive. It needs the right to trace the witness (ptrace(2), PTRACE_MODE_READ_FSCREDS), which as a rule is CAP_SYS_PTRACE.
func (o *Namespace) OpenNS() (fd int, err error) {
	for o.Alive() {
		w := o.witnesses[0]
		fd, openErr := unix.Openat(w.fd, "ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		inode, err := w.inode() // it may have died or left meanwhile
		switch stays := err == nil && inode == o.Inode; {
		case stays && openErr == nil:
			return fd, nil
		case stays:
			return -1, fmt.Errorf("open %s/ns/net: %w", o.DirForPeople(), openErr)
		case openErr == nil:
			_ = unix.Close(fd)
		}
	}
	return -1, fmt.Errorf("open a network namespace: its processes are gone: %w", unix.ESRCH)
}

// add makes a process a witness.
func (o *Namespace) add(w witness) {
	o.witnesses = append(o.witnesses, w)
	slices.SortStableFunc(o.witnesses, func(a, b witness) int { return cmp.Compare(a.started, b.started) })
}

func (o *Namespace) has(pid int) bool {
	return slices.ContainsFunc(o.witnesses, func(w witness) bool { return w.pid == pid })
}

// openWitness holds on to a process. root is a descriptor of the procfs.
func openWitness(root, pid int) (witness, error) {
	fd, err := unix.Openat(root, strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return witness{}, err
	}
	w := witness{pid: pid, fd: fd}
	stat, err := os.ReadFile(w.dir() + "/stat")
	if err == nil {
		w.started, err = startTime(stat)
	}
	if err != nil {
		_ = unix.Close(fd)
		return witness{}, err
	}
	return w, nil
}

// dir returns a path of the process's directory. It leads nowhere once the process has died.
func (w witness) dir() string { return filepath.Join(ownProcfs, "self/fd", strconv.Itoa(w.fd)) }

// inode identifies the namespace that the process is in. It fails for a dead process and for a zombie, which have no net/tcp.
func (w witness) inode() (uint64, error) {
	return inodeAt(w.fd, tcpTable)
}

// startTime returns field 22 of the line in <pid>/stat. Field 2 is a name in parentheses that may hold anything.
func startTime(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:]) // from field 3
	const index = 22 - 3
	if end < 0 || len(fields) <= index {
		return 0, errors.New("no start time in the stat of a process")
	}
	return strconv.ParseUint(string(fields[index]), 10, 64)
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
