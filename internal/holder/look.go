package holder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// look searches the descriptors of a process for sockets. It tells whether it could see them, and whether a socket wanted was
// among them. After errUnfinished there are more than it had time for.
func (f *Finder) look(pid int, wanted map[uint64]*attribution, deadline time.Time) (saw, found bool, err error) {
	dir, err := os.Open(f.pidDir(pid) + "/fd")
	if err != nil {
		return false, false, unlessHidden(err)
	}
	defer func() { _ = dir.Close() }()
	process, known := "", false
	for {
		names, err := dir.Readdirnames(piece)
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
				var died error
				if process, died = f.comm(pid); died != nil {
					return true, false, unlessHidden(died)
				}
				known = true
			}
			found = true
			a.saw(witness{pid: pid, link: dir.Name() + "/" + name, name: process})
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return true, found, nil
			}
			return saw, found, unlessHidden(err)
		}
		saw = true
		if len(names) == piece && f.now().After(deadline) {
			return saw, found, errUnfinished
		}
	}
}

// unlessHidden returns an error of reading what is a process's, unless it says that the process is gone, or is not ours to see.
func unlessHidden(err error) error {
	if isOneOf(err, unix.ENOENT, unix.ESRCH, unix.EACCES, unix.EPERM) {
		return nil
	}
	return fmt.Errorf("look into processes: %w", err)
}

// saw enters a witness, if its name is not there yet. Of two with one name the older process is kept, which most often outlives
// those that it started. PID 1 gives way: it opens sockets for others to serve.
func (a *attribution) saw(w witness) {
	for n, other := range a.witnesses {
		if other.name != w.name {
			continue
		}
		if other.pid == 1 || w.pid != 1 && w.pid < other.pid {
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

// stands tells whether a witness has a socket open still, and its name.
func (f *Finder) stands(w witness, inode uint64) (name string, ok bool) {
	got, ok := f.links.socket(unix.AT_FDCWD, w.link)
	if !ok || got != inode {
		return "", false
	}
	name, err := f.comm(w.pid)
	if isShortage(err) {
		return w.name, true
	}
	return name, err == nil
}

// commLength is more than the longest name of a process, with the newline behind it (TASK_COMM_LEN, include/linux/sched.h; a
// kernel thread shows up to 64 bytes).
const commLength = 128

// comm returns the name of a process.
func (f *Finder) comm(pid int) (name string, err error) {
	fd, err := unix.Open(f.pidDir(pid)+"/comm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	var buffer [commLength]byte
	n, err := unix.Read(fd, buffer[:])
	if err != nil {
		return "", err
	}
	// A name may end in a newline of its own, and be no text at all.
	return strings.ToValidUTF8(strings.TrimSuffix(string(buffer[:n]), "\n"), "\uFFFD"), nil
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
