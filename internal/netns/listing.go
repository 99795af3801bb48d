//go:build linux

package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// listing is what is known of which processes there are. The zero value is ready to use.
type listing struct {
	pids []int // sorted; some may have ended since all were listed
	// given are the pids that the kernel had given last, before the last two updates. One that it gave by then may have been listed
	// only after that.
	given [2]int
	// base is the position that PID 0 would have in the directory, if that of each process is base and its pid
	// (proc_pid_readdir in fs/proc/base.c). Otherwise it is negative.
	base int64
}

// update brings the listing up to date. whole asks for a list of all processes, at some 0.5 µs each. Otherwise only the pids that
// the kernel has given since the last update are listed, if it shows which these are. update returns the processes that may have begun
// since the last update, or nothing if all were listed.
func (l *listing) update(root *os.File, whole bool) (begun []int, err error) {
	given := lastGiven(int(root.Fd()))
	first := l.given[0] + 1
	l.given = [2]int{l.given[1], given}
	if whole || given == 0 || first == 1 || given < first-1 || l.base < 0 { // pids begin again at 1 some time
		pids, base, err := list(root, 0, math.MaxInt)
		if err == nil {
			slices.Sort(pids)
			l.pids, l.base = pids, base
		}
		return nil, err
	}
	if given < first {
		return nil, nil
	}
	begun, _, err = list(root, l.base+int64(first), given)
	for _, pid := range begun {
		if at, known := slices.BinarySearch(l.pids, pid); !known {
			l.pids = slices.Insert(l.pids, at, pid)
		}
	}
	return begun, err
}

// lastGiven returns the last pid that the kernel gave in the PID namespace of a procfs, or 0 if that cannot be known: loadavg shows
// that of the reader's namespace.
func lastGiven(root int) (pid int) {
	status, _ := readAt(root, "self/status")
	_, inEach, _ := bytes.Cut(status, []byte("\nNSpid:"))
	inEach, _, _ = bytes.Cut(inEach, []byte("\n"))
	if len(bytes.Fields(inEach)) != 1 {
		return 0
	}
	load, _ := readAt(root, "loadavg")
	if fields := bytes.Fields(load); len(fields) == 5 {
		pid, _ = strconv.Atoi(string(fields[4]))
	}
	return pid
}

// ListPIDs returns the pids of all processes in a procfs.
func ListPIDs(root *os.File) ([]int, error) {
	pids, _, err := list(root, 0, math.MaxInt)
	return pids, err
}

// Of a struct linux_dirent64 (include/linux/dirent.h): its shortest length, rounded up, and where its name begins.
const (
	direntLength = 24
	direntName   = 19
)

// list lists the processes from a position of the directory on, in the order of the kernel, up to one with a pid. Only if it begins at 0
// it finds out the base.
func list(root *os.File, position int64, last int) (pids []int, base int64, err error) {
	failed := func(err error) ([]int, int64, error) {
		return nil, -1, fmt.Errorf("list the processes in %s: %w", root.Name(), err)
	}
	if _, err := root.Seek(position, io.SeekStart); err != nil {
		return failed(err)
	}
	buffer := make([]byte, 16<<10)
	if position > 0 {
		buffer = buffer[:1<<10] // the kernel fills it with processes that were not asked for
	}
	base = -1
	for {
		n, err := unix.Getdents(int(root.Fd()), buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return failed(err)
		case n == 0:
			return pids, base, nil
		}
		for entries := buffer[:n]; len(entries) >= direntLength; {
			length := binary.NativeEndian.Uint16(entries[16:])
			name, _, _ := bytes.Cut(entries[direntName:length], []byte{0})
			if pid, err := strconv.Atoi(string(name)); err == nil {
				if pid > last {
					return pids, base, nil
				}
				if its := position - int64(pid); len(pids) == 0 {
					base = its
				} else if its != base {
					base = -1
				}
				pids = append(pids, pid)
			}
			position = int64(binary.NativeEndian.Uint64(entries[8:])) // of the next one
			entries = entries[length:]
		}
	}
}
