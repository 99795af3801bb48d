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

// RunNames are the names that ip netns lists, by the namespaces they mean.
type RunNames map[fileID]string

// fileID is what tells files apart: those of nsfs are namespaces.
type fileID struct{ device, inode uint64 }

// RunNamesDir returns where the names are of the host whose procfs is given: what PID 1 has there, if we may look, which a
// container needs and may do only with privileges, else what we have there.
func RunNamesDir(procfs string) string {
	dir := filepath.Join(procfs, "1/root", runNetns)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	return runNetns
}

// ReadRunNames reads the names in a directory. Where it cannot be read there are none. Of two names for one namespace the first in
// alphabetical order counts.
func ReadRunNames(procfs, dir string) RunNames {
	names := make(RunNames)
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return names
	}
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

// linkedProcess returns what a link to /proc/<pid>/ns/net means, as people make it for a container that ip netns does not know.
// To follow it from a container would lead to our own /proc. A link to anywhere else means nothing.
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

// Of returns the name of a namespace, and "" if it has none or we may not know: it takes the right to trace a process of it, as
// [Namespace.OpenNS] does. The name is valid UTF-8.
func (n RunNames) Of(o *Namespace) string {
	if len(n) == 0 || !o.Alive() {
		return ""
	}
	w := o.witnesses[0]
	var stat unix.Stat_t
	if err := unix.Fstatat(w.fd, "ns/net", &stat, 0); err != nil {
		return ""
	}
	if inode, err := w.inode(); err != nil || inode != o.Inode { // it has just left
		return ""
	}
	return n[idOf(&stat)]
}

func idOf(stat *unix.Stat_t) fileID {
	return fileID{device: uint64(stat.Dev), inode: stat.Ino}
}
