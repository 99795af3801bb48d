//go:build linux

package netns

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// runNetns is where ip netns keeps its names (NETNS_RUN_DIR of iproute2).
const runNetns = "/run/netns"

// RunNames are the names that ip netns lists, by namespace.
type RunNames map[fileID]string

// fileID identifies a file. Each file of nsfs is a namespace.
type fileID struct{ device, inode uint64 }

// RunNamesDir returns the directory of the names on the host whose procfs is given. It is the one that PID 1 sees, which a
// container needs and may read only with privileges, or else the one that this process sees.
func RunNamesDir(procfs string) string {
	dir := filepath.Join(procfs, "1/root", runNetns)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	return runNetns
}

// ReadRunNames reads the names in a directory. If that fails there are none. Of two names for one namespace, the first in
// alphabetical order counts.
func ReadRunNames(procfs, dir string) RunNames {
	names := make(RunNames)
	entries, _ := os.ReadDir(dir) // sorted; none if it cannot be read
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if entry.Type()&os.ModeSymlink != 0 {
			path = linkedProcess(procfs, path)
		}
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			continue
		}
		if id := idOf(&stat); names[id] == "" {
			names[id] = strings.ToValidUTF8(entry.Name(), "�")
		}
	}
	return names
}

// linkedProcess returns where a link to /proc/<pid>/ns/net leads in a procfs. People make such a link for a container that ip
// netns does not know. Followed inside a container, it would lead to the container's own /proc. Any other link leads nowhere.
func linkedProcess(procfs, path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	pid, fromProc := strings.CutPrefix(target, "/proc/")
	pid, toNet := strings.CutSuffix(pid, "/ns/net")
	if _, err := strconv.Atoi(pid); err != nil || !fromProc || !toNet {
		return ""
	}
	return filepath.Join(procfs, pid, "ns/net")
}

// Of returns the name of a namespace. It is "" if there is none, or if this process has no right to trace a process of the
// namespace, which [Namespace.OpenNS] needs too. The name is valid UTF-8.
func (n RunNames) Of(o *Namespace) string {
	if len(n) == 0 {
		return ""
	}
	view, err := o.View()
	if err != nil {
		return ""
	}
	defer view.Close()
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(view.Dir, "ns/net"), &stat); err != nil || !view.Stays() {
		return ""
	}
	return n[idOf(&stat)]
}

func idOf(stat *unix.Stat_t) fileID {
	return fileID{device: uint64(stat.Dev), inode: stat.Ino}
}
