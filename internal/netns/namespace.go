package netns

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// userHZ is how many clock ticks a second has where the kernel tells them to programs (USER_HZ, include/asm-generic/param.h).
const userHZ = 100

// maxWitnesses is how many processes of a namespace are held on to. When they have all died between two calls of
// [Finder.Find], a namespace that others keep alive begins another life here.
const maxWitnesses = 3

// tcpTable is the file whose inode number tells network namespaces apart. It belongs to the namespace, not to the process, and
// stat needs no privilege.
const tcpTable = "net/tcp"

// Namespace is one life of a network namespace other than the main one.
//
// The paths and descriptors that its methods return are good until the next call of [Finder.Find] or [Finder.Close].
type Namespace struct {
	// Inode is the number of net/tcp. No two namespaces have the same at a time, but the kernel reuses it at once.
	Inode uint64
	// Serial is unique for each life. The namespace that takes a dead one's inode number is another Namespace with a higher serial.
	Serial uint64

	finder    *Finder
	witnesses []witness // oldest first; the first one stands for the namespace
}

// witness is a process that was seen to live in a namespace.
type witness struct {
	pid int
	// fd is of <procfs>/<pid>, with O_PATH. It keeps neither the process nor the namespace alive. All that is looked up through
	// it is this very process's, and there is nothing once that has died, even if its pid was given to another one.
	fd int
	// started is field 22 of proc_pid_stat(5), in clock ticks after the machine's start.
	started uint64
}

// Dir returns a path of the witness's directory in procfs: its net/ is that of the namespace. It leads to no other process, ever:
// when the witness has died there is nothing below it.
//
// The witness may leave the namespace while it is being read. What was read is this namespace's if afterwards [Namespace.Alive] is
// true and [Namespace.PID] is the same.
func (o *Namespace) Dir() string {
	if len(o.witnesses) == 0 {
		return o.Name()
	}
	return filepath.Join(ownProcfs, "self/fd", strconv.Itoa(o.witnesses[0].fd))
}

// Name returns the path of the witness for people to read, such as /host/proc/1234.
func (o *Namespace) Name() string {
	return filepath.Join(o.finder.procfs, strconv.Itoa(o.PID()))
}

// PID returns the pid of the witness, as it is in the procfs that is read, or 0 if there is none anymore.
func (o *Namespace) PID() int {
	if len(o.witnesses) == 0 {
		return 0
	}
	return o.witnesses[0].pid
}

// Members returns the pids of up to three processes that were seen in the namespace, oldest first. The first one is the witness.
func (o *Namespace) Members() []int {
	pids := make([]int, 0, len(o.witnesses))
	for _, w := range o.witnesses {
		pids = append(pids, w.pid)
	}
	return pids
}

// Started returns when the oldest of the members started, in clock ticks after the machine's start; 0 if there is none anymore.
func (o *Namespace) Started() uint64 {
	if len(o.witnesses) == 0 {
		return 0
	}
	return o.witnesses[0].started
}

// Age returns how long ago that was.
func (o *Namespace) Age() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return math.MaxInt64
	}
	return time.Duration(now.Nano()) - time.Duration(o.Started())*(time.Second/userHZ)
}

// Alive tells whether a process that is known to have lived in the namespace still does. When the witness no longer does, the next
// one takes its place: then what failed to be read may be read once more, through a new [Namespace.Dir].
//
// One thing cannot be told without privileges: a witness that has left, and then entered a namespace that was made with
// the number of the one it had left.
func (o *Namespace) Alive() bool {
	for len(o.witnesses) > 0 {
		inode, err := o.witnesses[0].inode()
		if err == nil && inode == o.Inode || err != nil && !invisible(err) {
			return true
		}
		if err == nil {
			o.finder.moved = append(o.finder.moved, o.witnesses[0].pid)
		}
		// Not closed yet: the number would be given to another file, and somebody may have the path still.
		o.finder.unused = append(o.finder.unused, o.witnesses[0].fd)
		o.witnesses = o.witnesses[1:]
	}
	return false
}

// OpenNS returns a descriptor of the namespace, for [Thread.In]. The caller closes it. Unlike a witness it keeps the namespace
// alive. It takes the right to trace the witness (ptrace(2), PTRACE_MODE_READ_FSCREDS): CAP_SYS_PTRACE as a rule.
func (o *Namespace) OpenNS() (fd int, err error) {
	for o.Alive() {
		w := o.witnesses[0]
		fd, openErr := unix.Openat(w.fd, "ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		inode, err := w.inode() // it may have died or left since it was looked at
		switch stays := err == nil && inode == o.Inode; {
		case stays && openErr == nil:
			return fd, nil
		case stays:
			return -1, fmt.Errorf("open %s/ns/net: %w", o.Name(), openErr)
		case openErr == nil:
			_ = unix.Close(fd)
		}
	}
	return -1, fmt.Errorf("open a network namespace: its processes are gone: %w", unix.ESRCH)
}

// add makes a process a witness.
func (o *Namespace) add(w witness) {
	at, _ := slices.BinarySearchFunc(o.witnesses, w, func(a, b witness) int {
		if a.started <= b.started { // a new one stands behind its equals
			return -1
		}
		return 1
	})
	o.witnesses = slices.Insert(o.witnesses, at, w)
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
	stat, err := readAt(fd, "stat")
	if err == nil {
		w.started, err = startTime(stat)
	}
	if err != nil {
		_ = unix.Close(fd)
		return witness{}, err
	}
	return w, nil
}

// inode says at once that the process lives and which namespace it is in: a dead process has no net/tcp, a zombie neither.
func (w witness) inode() (uint64, error) {
	return inodeAt(w.fd, tcpTable)
}

// leads tells whether the process is a whole one: <procfs>/<tid> is there for each thread, though no listing shows it.
func (w witness) leads() bool {
	status, err := readAt(w.fd, "status")
	if err != nil {
		return false
	}
	group, ok := statusField(status, "Tgid:")
	return ok && string(group) == strconv.Itoa(w.pid)
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

// statusField returns the value of a line in <pid>/status, such as "Tgid:".
func statusField(status []byte, name string) (value []byte, ok bool) {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return bytes.TrimSpace(value), true
		}
	}
	return nil, false
}

// inodeAt returns the inode number of a file.
func inodeAt(dir int, path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, path, &stat, 0); err != nil {
		return 0, err
	}
	return stat.Ino, nil
}

// readAt reads a small file of procfs. What is beyond 4 KiB is left out.
func readAt(dir int, path string) ([]byte, error) {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	buffer := make([]byte, 4096)
	n, err := unix.Read(fd, buffer)
	if err != nil {
		return nil, err
	}
	return buffer[:n], nil
}

// invisible tells whether a process is not there, or not for us (hidepid).
func invisible(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
