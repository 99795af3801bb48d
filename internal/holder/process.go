//go:build linux

package holder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/netns"
)

// hunt is a search for sockets among the descriptors of processes.
type hunt struct {
	processes
	wanted map[uint64]*attribution // by inode
	// found is called with each process that has a wanted socket open. It may be called with the same one several times.
	found func(*attribution, witness)
	// pause is called after each 1024 descriptors and before each further thread. An error of it ends the search of a process.
	pause func() error
	// threads says to look into the descriptor tables of all threads, and not only of those whose process shows none.
	threads bool
}

// process looks for the wanted sockets among the descriptors of a process. visible reports whether it could see the descriptors,
// and found whether a wanted socket was among them. After an error of pause there are more.
func (h *hunt) process(pid int) (visible, found bool, err error) {
	leader := h.pidDir(pid)
	ours, visible, found, err := h.task(pid, leader)
	// A process whose first thread has exited shows no descriptors, but its other threads do.
	if err != nil || !ours || visible && !h.threads {
		return visible, found, err
	}
	dir, err := openDir(leader + "/task")
	if err != nil {
		return visible, found, unlessHidden(err)
	}
	tids, err := netns.ListPIDs(dir)
	_ = dir.Close()
	if err != nil {
		return visible, found, unlessHidden(err)
	}
	searched := []int{pid} // one thread for each descriptor table
	for _, tid := range tids {
		if err := h.pause(); err != nil {
			return visible, found, err
		}
		if tid == pid || slices.ContainsFunc(searched, func(other int) bool { return h.shareDescriptors(other, tid) }) {
			continue
		}
		if len(searched) < maxTables {
			searched = append(searched, tid)
		}
		_, shows, has, err := h.task(pid, leader+"/task/"+strconv.Itoa(tid))
		visible, found = visible || shows, found || has
		if err != nil {
			return visible, found, err
		}
	}
	return visible, found, nil
}

// maxTables is with how many descriptor tables of a process the one of each thread is compared.
const maxTables = 4

// shareDescriptors reports whether two threads are known to have one descriptor table, as nearly all threads of a process do.
// Reading each table would cost the process's descriptors times its threads.
func (p processes) shareDescriptors(tid, other int) bool {
	const kcmpFiles = 2 // KCMP_FILES, include/uapi/linux/kcmp.h
	if !p.ownPIDs {
		return false
	}
	order, _, err := unix.Syscall6(unix.SYS_KCMP, uintptr(tid), uintptr(other), kcmpFiles, 0, 0, 0)
	return err == 0 && order == 0
}

// task looks for the wanted sockets in the descriptor table of one task of a process. ours reports whether it may look there.
func (h *hunt) task(pid int, task string) (ours, visible, found bool, err error) {
	dir, err := openDir(task + "/fd")
	if err != nil {
		return false, false, false, unlessHidden(err)
	}
	defer func() { _ = dir.Close() }()
	var who identity
	for {
		names, err := dir.Readdirnames(namesAtOnce)
		for _, name := range names {
			inode, ok := socketIn(int(dir.Fd()), name)
			if !ok {
				continue
			}
			a := h.wanted[inode]
			if a == nil {
				continue
			}
			if !found {
				var died error
				if who, died = h.identify(pid, task); died != nil {
					return true, true, false, unlessHidden(died)
				}
				found = true
			}
			h.found(a, witness{pid: pid, task: task, fd: name, identity: who})
		}
		visible = visible || len(names) > 0
		if err != nil {
			if errors.Is(err, io.EOF) {
				return true, visible, found, nil
			}
			return true, visible, found, unlessHidden(err)
		}
		if len(names) == namesAtOnce {
			if err := h.pause(); err != nil {
				return true, visible, found, err
			}
		}
	}
}

// unlessHidden returns an error of reading a file of a process, or nil if the process is gone or not ours to see.
func unlessHidden(err error) error {
	if netns.IsHidden(err) {
		return nil
	}
	return fmt.Errorf("look into processes: %w", err)
}

// holds reports whether a witness still has a socket open, and returns who it is now.
func (p processes) holds(w witness, inode uint64) (now identity, ok bool) {
	got, ok := socketIn(unix.AT_FDCWD, w.task+"/fd/"+w.fd)
	if !ok || got != inode {
		return identity{}, false
	}
	now, err := p.identify(w.pid, w.task)
	if isShortage(err) {
		return w.identity, true
	}
	return now, err == nil
}

// pidDir returns the directory of a process.
func (p processes) pidDir(pid int) string { return filepath.Join(p.procfs, strconv.Itoa(pid)) }

// list returns the pids of all processes, the youngest first: a new socket most often belongs to a young process.
func (p processes) list() ([]int, error) {
	root, err := openDir(p.procfs)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer func() { _ = root.Close() }()
	pids, err := netns.ListPIDs(root)
	slices.Sort(pids)
	slices.Reverse(pids)
	return pids, err
}

// socketIn returns the inode in a link of /proc/<pid>/fd to a socket, such as socket:[12345]. ok is false for any other link.
func socketIn(dir int, name string) (inode uint64, ok bool) {
	var buffer [64]byte
	n, err := unix.Readlinkat(dir, name, buffer[:])
	if err != nil || n == len(buffer) {
		return 0, false
	}
	text, isSocket := strings.CutPrefix(string(buffer[:n]), "socket:[")
	text, isWhole := strings.CutSuffix(text, "]")
	if !isSocket || !isWhole {
		return 0, false
	}
	inode, err = strconv.ParseUint(text, 10, 64)
	return inode, err == nil
}

// OwnSockets returns the inodes of the sockets that this process has open, which it can always see.
func OwnSockets() map[uint64]struct{} {
	const dir = "/proc/self/fd/"
	own := make(map[uint64]struct{})
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if inode, ok := socketIn(unix.AT_FDCWD, dir+entry.Name()); ok {
			own[inode] = struct{}{}
		}
	}
	return own
}
