package holder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/netns"
)

// searchProcess looks for sockets among the descriptors of a process. visible reports whether it could see the descriptors, and
// found whether a wanted socket was among them. After errUnfinished there are more than it had time for.
func (f *Finder) searchProcess(pid int, wanted map[uint64]*attribution, deadline time.Time) (visible, found bool, err error) {
	dir, err := os.Open(f.pidDir(pid) + "/fd")
	if err != nil {
		return false, false, unlessHidden(err)
	}
	defer func() { _ = dir.Close() }()
	comm, named := "", false
	for {
		names, err := dir.Readdirnames(namesAtOnce)
		for _, name := range names {
			inode, ok := socketIn(int(dir.Fd()), name)
			if !ok {
				continue
			}
			a := wanted[inode]
			if a == nil {
				continue
			}
			if !named {
				var died error
				if comm, died = f.comm(pid); died != nil {
					return true, false, unlessHidden(died)
				}
				named = true
			}
			found = true
			a.addWitness(witness{pid: pid, link: dir.Name() + "/" + name, name: comm})
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return true, found, nil
			}
			return visible, found, unlessHidden(err)
		}
		visible = true
		if len(names) == namesAtOnce && f.now().After(deadline) {
			return visible, found, errUnfinished
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

// holds reports whether a witness still has a socket open, and returns its present name.
func (f *Finder) holds(w witness, inode uint64) (name string, ok bool) {
	got, ok := socketIn(unix.AT_FDCWD, w.link)
	if !ok || got != inode {
		return "", false
	}
	name, err := f.comm(w.pid)
	if isShortage(err) {
		return w.name, true
	}
	return name, err == nil
}

// pidDir returns the directory of a process.
func (f *Finder) pidDir(pid int) string { return filepath.Join(f.procfs, strconv.Itoa(pid)) }

// comm returns the name of a process.
func (f *Finder) comm(pid int) (name string, err error) {
	text, err := os.ReadFile(f.pidDir(pid) + "/comm")
	if err != nil {
		return "", err
	}
	// A name may itself end in a newline, and need not be UTF-8.
	return strings.ToValidUTF8(strings.TrimSuffix(string(text), "\n"), "\uFFFD"), nil
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
