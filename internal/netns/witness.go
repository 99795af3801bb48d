//go:build linux

package netns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// witness is a process or a thread that was seen to live in a namespace.
type witness struct {
	pid int // of the process
	tid int // of the thread: the pid, unless it is not the process's first one
	// fd is of <procfs>/<pid> or <procfs>/<pid>/task/<tid>, with O_PATH. It keeps neither the process nor the namespace alive. Every
	// lookup through it is in this very thread, and fails once that has ended, even if another one has its number by then.
	fd int
	// started is field 22 of proc_pid_stat(5), in clock ticks after the machine's start.
	started uint64
}

// openWitness holds on to a thread, whose directory is path below dir.
func openWitness(dir int, path string, pid, tid int) (witness, error) {
	fd, err := unix.Openat(dir, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return witness{}, err
	}
	w := witness{pid: pid, tid: tid, fd: fd}
	if stat, err := readAt(fd, "stat"); err != nil {
		_ = unix.Close(fd)
		return witness{}, err
	} else if w.started, err = startTime(stat); err != nil {
		_ = unix.Close(fd)
		return witness{}, err
	}
	return w, nil
}

// path returns where the thread is in a procfs.
func (w witness) path() string { return pathOf(w.pid, w.tid) }

func pathOf(pid, tid int) string {
	if pid == tid {
		return strconv.Itoa(pid)
	}
	return fmt.Sprintf("%d/task/%d", pid, tid)
}

// inode identifies the namespace that the thread is in. It fails for one that has ended, also if it is a process's first thread and
// the process goes on.
func (w witness) inode() (uint64, error) {
	return inodeAt(w.fd, tcpTable)
}

// isIn reports whether the thread is still in a namespace. It is if the kernel says nothing else.
func (w witness) isIn(namespace uint64) bool {
	inode, err := w.inode()
	return err == nil && inode == namespace || err != nil && !IsHidden(err)
}

// exists reports whether the thread has not ended.
func (w witness) exists() bool {
	var stat unix.Stat_t
	err := unix.Fstatat(w.fd, "stat", &stat, 0)
	return err == nil || !IsHidden(err)
}

// openNS opens the namespace that the thread is in.
func (w witness) openNS() (fd int, file fileID, err error) {
	// Nobody else can look at the namespace meanwhile, so it must not wait for the writer of a FIFO.
	fd, err = unix.Openat(w.fd, "ns/net", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fileID{}, err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		_ = unix.Close(fd)
		return -1, fileID{}, err
	}
	return fd, idOf(&stat), nil
}

// heir returns another thread of the witness's process that is in a namespace.
func (w witness) heir(namespace uint64) (heir witness, ok bool) {
	tasks := "task"
	if w.tid != w.pid {
		tasks = ".."
	}
	for _, tid := range listThreads(w.fd, tasks) {
		path := tasks + "/" + strconv.Itoa(tid)
		if inode, err := inodeAt(w.fd, path+"/"+tcpTable); err != nil || inode != namespace {
			continue
		}
		heir, err := openWitness(w.fd, path, w.pid, tid)
		if err != nil {
			continue
		}
		if inode, err := heir.inode(); err == nil && inode == namespace {
			return heir, true
		}
		_ = unix.Close(heir.fd)
	}
	return witness{}, false
}

// listThreads returns the numbers in a directory of threads, or nothing if the process has ended.
func listThreads(dir int, tasks string) []int {
	fd, err := unix.Openat(dir, tasks, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), tasks)
	defer func() { _ = f.Close() }()
	tids, _ := ListPIDs(f)
	return tids
}

// readAt returns the first 4 KiB of a file of a thread. They hold all of stat and status, and any cgroup that matters. It never waits
// for a writer, as a FIFO would.
func readAt(dir int, path string) ([]byte, error) {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	text := make([]byte, 4<<10)
	n, err := unix.Read(fd, text)
	return text[:max(n, 0)], err
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
