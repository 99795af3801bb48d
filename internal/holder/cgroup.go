//go:build linux

package holder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// rootCgroup is the ID of the root of a cgroup hierarchy (the first ID that kernfs gives out, fs/kernfs/dir.c).
const rootCgroup = 1

// initScope is the unit in which systemd itself runs.
const initScope = "init.scope"

// FindCgroup2 returns where the cgroup2 hierarchy is mounted below sysfs, without version 1 or with it (hybrid), or "" and why it is
// not in view.
func FindCgroup2(procfsPath, sysfs string) (string, error) {
	mounts, err := mountsOf(procfsPath)
	if err != nil {
		return "", fmt.Errorf("find the cgroup2 hierarchy: %w", err)
	}
	below := filepath.Clean(sysfs) + "/"
	partial := ""
	for _, mount := range slices.Backward(mounts) { // a later mount hides an earlier one
		if mount.FSType != "cgroup2" || !strings.HasPrefix(mount.MountPoint, below) {
			continue
		}
		if id, err := inode(mount.MountPoint); err == nil && id == rootCgroup {
			return mount.MountPoint, nil
		}
		partial = mount.MountPoint
	}
	if partial != "" {
		return "", fmt.Errorf("%s shows only a part of the cgroup2 hierarchy (a cgroup namespace): mount the host's whole /sys/fs/cgroup, and set --path.sysfs", partial)
	}
	return "", fmt.Errorf("no cgroup2 hierarchy is mounted below %s", sysfs)
}

// mountsOf returns the mounts of this process. A procfs of another PID namespace does not show this process: then /proc does.
func mountsOf(procfsPath string) ([]*procfs.MountInfo, error) {
	proc, err := procfs.NewFS(procfsPath)
	if err != nil {
		return nil, err
	}
	table := filepath.Join(procfsPath, "self/mountinfo")
	if info, err := os.Stat(table); err == nil && !info.Mode().IsRegular() { // GetMounts would wait for the writer of a fifo
		return nil, notRegular(table)
	}
	mounts, err := proc.GetMounts()
	if errors.Is(err, fs.ErrNotExist) {
		return procfs.GetMounts()
	}
	return mounts, err
}

// maxNamed is how many processes a cgroup may have for their names to be read. A larger cgroup counts as one of several names.
const maxNamed = 1024

// members are the processes of a cgroup.
type members struct {
	pids []int
	name string // of all of them; empty if they have several, or one is not known
}

// membersOf returns the processes of the cgroup with an ID.
func (f *Finder) membersOf(id uint64) (members, error) {
	if m, ok := f.members[id]; ok {
		return m, nil
	}
	var m members
	if id != rootCgroup {
		at, err := f.cgroups.path(id)
		if err == nil && at != "" {
			m, err = f.readMembers(f.cgroups.root + at)
		}
		if err != nil {
			return members{}, err
		}
	}
	f.members[id] = m
	return m, nil
}

// serviceOf returns the processes of the service that a socket unit starts, if id is the cgroup of a socket unit. By systemd's
// default the two have the same name (Service=, systemd.socket(5)).
func (f *Finder) serviceOf(id uint64) ([]int, error) {
	path, err := f.cgroups.path(id)
	if err != nil {
		return nil, err
	}
	name, isSocket := strings.CutSuffix(path, ".socket")
	if !isSocket {
		return nil, nil
	}
	pids, err := f.pidsIn(f.cgroups.root + name + ".service")
	if isShortage(err) {
		return nil, err
	}
	return pids, nil // none if it is not running
}

// readMembers reads the names of a cgroup's processes. A process whose name is hidden (hidepid) may have any name.
func (p processes) readMembers(dir string) (members, error) {
	pids, err := p.pidsIn(dir)
	if isShortage(err) {
		return members{}, err
	}
	// A cgroup that was removed has no pids.
	if len(pids) > maxNamed {
		return members{pids: pids}, nil
	}
	names := make(map[string]struct{})
	var nameless []int
	for _, pid := range pids {
		name, err := p.comm(pid)
		if isShortage(err) {
			return members{}, err
		}
		if err != nil {
			nameless = append(nameless, pid)
			continue
		}
		if names[name] = struct{}{}; len(names) > 1 {
			return members{pids: pids}, nil
		}
	}
	if len(nameless) > 0 { // they may have died since
		if pids, err = p.pidsIn(dir); err != nil || slices.ContainsFunc(nameless, func(pid int) bool { return slices.Contains(pids, pid) }) {
			return members{pids: pids}, nil
		}
	}
	m := members{pids: pids}
	for name := range names {
		// PID 1 opens sockets for others to serve.
		if !slices.Equal(pids, []int{1}) {
			m.name = name
		}
	}
	return m, nil
}

// pidsIn returns the processes of a cgroup. Of a threaded one, which libvirt makes for virtual machines, those are the processes
// whose threads are in it.
func (p processes) pidsIn(dir string) ([]int, error) {
	pids, err := readPIDs(dir + "/cgroup.procs")
	if !isOneOf(err, unix.EOPNOTSUPP) {
		return pids, err
	}
	tids, err := readPIDs(dir + "/cgroup.threads")
	if err != nil {
		return nil, err
	}
	for _, tid := range tids {
		pid, err := p.tgid(tid)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// readPIDs reads a cgroup.procs or cgroup.threads. A process of another PID namespace is a 0 in it.
func readPIDs(file string) ([]int, error) {
	content, err := readFile(file, maxPIDs)
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(string(content)) {
		pid, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// initialCgroupNamespace is what /proc/self/ns/cgroup links to in the first cgroup namespace of a machine
// (PROC_CGROUP_INIT_INO, include/linux/proc_ns.h).
const initialCgroupNamespace = "cgroup:[4026531835]"

// processes finds the cgroups of processes.
type processes struct {
	procfs string
	// base is where in the whole hierarchy this process's cgroup namespace begins, which is where the kernel's paths begin too. It
	// is empty if it is not known.
	base string
	// ownPIDs reports whether the pids in the procfs are those by which this process calls others.
	ownPIDs bool
}

// baseSearch is how long to look for where a cgroup namespace begins.
const baseSearch = 5 * time.Second

// newProcesses finds out where this process's cgroup namespace begins, by the mount that container runtimes make inside it.
func newProcesses(procfsPath, root string) processes {
	p := processes{procfs: procfsPath}
	self, err := os.Readlink(procfsPath + "/self")
	p.ownPIDs = err == nil && self == strconv.Itoa(os.Getpid())
	if link, err := os.Readlink("/proc/self/ns/cgroup"); err != nil || link == initialCgroupNamespace {
		p.base = "/" // or a kernel without such namespaces
		return p
	}
	mounts, err := mountsOf(procfsPath)
	if err != nil || root == "" {
		return p
	}
	whole := newTree(root)
	defer whole.end()
	deadline := time.Now().Add(baseSearch)
	for _, mount := range mounts {
		if mount.FSType != "cgroup2" || mount.Root != "/" {
			continue
		}
		if id, err := inode(mount.MountPoint); err == nil {
			whole.setWanted(map[uint64]bool{id: true})
			whole.begin(time.Now, deadline)
			if p.base, _ = whole.path(id); p.base != "" {
				return p
			}
		}
	}
	return p
}

// absolute returns a path of this process's cgroup namespace as a path of the whole hierarchy. If that is not known, the result
// leads out of the namespace. The namespace begins at another path in each hierarchy: base is the one of cgroup2.
func (p processes) absolute(at string, isV2 bool) string {
	if p.base == "" || !isV2 && p.base != "/" {
		return "/.." + at
	}
	return path.Join(p.base, at)
}
