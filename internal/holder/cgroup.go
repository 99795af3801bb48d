package holder

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// rootCgroup is the ID of the root of a cgroup hierarchy (the first ID that kernfs gives out, fs/kernfs/dir.c).
const rootCgroup = 1

// initScope is the unit in which systemd itself runs.
const initScope = "init.scope"

// findCgroup2 returns where the cgroup2 hierarchy is mounted below sysfs: alone, or beside version 1 (hybrid).
func findCgroup2(procfsPath, sysfs string) (string, error) {
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
		return "", fmt.Errorf("%s shows a part of the cgroup2 hierarchy alone (a cgroup namespace): mount the host's whole /sys/fs/cgroup, and name where with --path.sysfs", partial)
	}
	return "", fmt.Errorf("no cgroup2 hierarchy is mounted below %s", sysfs)
}

// mountsOf returns the reader's own mounts. A procfs of another PID namespace does not know the reader: then its own does.
func mountsOf(procfsPath string) ([]*procfs.MountInfo, error) {
	proc, err := procfs.NewFS(procfsPath)
	if err != nil {
		return nil, err
	}
	mounts, err := proc.GetMounts()
	if errors.Is(err, fs.ErrNotExist) {
		return procfs.GetMounts()
	}
	return mounts, err
}

// maxNamed is of how many processes of a cgroup the names are read. Where there are more they have none in common.
const maxNamed = 1024

// crew is what is known of the processes of a cgroup.
type crew struct {
	pids []int
	name string // of all of them, or empty if they have several or one is not known
}

// crewOf returns the processes of the cgroup with an ID.
func (f *Finder) crewOf(id uint64) (crew, error) {
	if c, ok := f.members[id]; ok {
		return c, nil
	}
	var c crew
	if f.cgroups != nil && id != rootCgroup {
		at, err := f.cgroups.path(id)
		if err != nil {
			return crew{}, err
		}
		if at != "" {
			if c, err = f.readCrew(f.cgroups.root + at + "/cgroup.procs"); err != nil {
				return crew{}, err
			}
		}
	}
	f.members[id] = c
	return c, nil
}

// serviceOf returns the processes of the service that a socket unit with its cgroup is for, by systemd's default: that of the
// same name (Service=, systemd.socket(5)).
func (f *Finder) serviceOf(id uint64) ([]int, error) {
	if f.cgroups == nil {
		return nil, nil
	}
	path, err := f.cgroups.path(id)
	if err != nil {
		return nil, err
	}
	name, isSocket := strings.CutSuffix(path, ".socket")
	if !isSocket {
		return nil, nil
	}
	pids, err := readPIDs(f.cgroups.root + name + ".service/cgroup.procs")
	if isShortage(err) {
		return nil, err
	}
	return pids, nil // none if it is not running
}

// readCrew reads a cgroup.procs and the names of its processes. A process that is there, but whose name cannot be read
// (hidepid), may have any name.
func (f *Finder) readCrew(file string) (crew, error) {
	pids, err := readPIDs(file)
	if isShortage(err) {
		return crew{}, err
	}
	if err != nil { // it is gone, or a threaded one
		return crew{}, nil
	}
	if len(pids) > maxNamed {
		return crew{pids: pids}, nil
	}
	names := make(map[string]struct{})
	var nameless []int
	for _, pid := range pids {
		name, err := f.comm(pid)
		if isShortage(err) {
			return crew{}, err
		}
		if err != nil {
			nameless = append(nameless, pid)
			continue
		}
		if names[name] = struct{}{}; len(names) > 1 {
			return crew{pids: pids}, nil
		}
	}
	if len(nameless) > 0 { // did they die?
		if pids, err = readPIDs(file); err != nil || slices.ContainsFunc(nameless, func(pid int) bool { return slices.Contains(pids, pid) }) {
			return crew{pids: pids}, nil
		}
	}
	c := crew{pids: pids}
	for name := range names {
		// PID 1 opens sockets for others to serve.
		if !slices.Equal(pids, []int{1}) {
			c.name = name
		}
	}
	return c, nil
}

// isShortage tells whether an error is the reader's own: it says nothing of what was to be read.
func isShortage(err error) bool {
	return isOneOf(err, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM)
}

// readPIDs reads a cgroup.procs. A process of another PID namespace stands there as 0.
func readPIDs(file string) ([]int, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var pids []int
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		pids = append(pids, pid)
	}
	return pids, lines.Err()
}

// initialCgroupNamespace is what /proc/self/ns/cgroup links to outside of every cgroup namespace but the first
// (PROC_CGROUP_INIT_INO, include/linux/proc_ns.h).
const initialCgroupNamespace = "cgroup:[4026531835]"

// processes says of which cgroups processes are.
type processes struct {
	procfs string
	// base is the root of the reader's cgroup namespace in the whole hierarchy, from which the kernel tells the paths. It is
	// empty if it is not known.
	base string
}

// newProcesses finds out where the reader's cgroup namespace begins: by the mount that container runtimes make inside of it.
func newProcesses(procfsPath, root string) processes {
	p := processes{procfs: procfsPath}
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
	whole.begin(time.Now, time.Now().Add(firstSearch))
	for _, mount := range mounts {
		if mount.FSType != "cgroup2" || mount.Root != "/" {
			continue
		}
		if id, err := inode(mount.MountPoint); err == nil {
			whole.want(map[uint64]struct{}{id: {}})
			if p.base, _ = whole.path(id); p.base != "" {
				return p
			}
			whole.begin(whole.now, whole.deadline)
		}
	}
	return p
}

// origin returns what the cgroup of a process says: that of the cgroup2 hierarchy or, where systemd keeps its units in
// version 1, of the hierarchy called systemd. It says nothing if the process is gone.
func (p processes) origin(pid int) (origin, error) {
	proc, err := procfs.NewFS(p.procfs)
	if err != nil {
		return origin{}, nil
	}
	process, err := proc.Proc(pid)
	if err != nil {
		return origin{}, nil
	}
	groups, err := process.Cgroups()
	if isShortage(err) {
		return origin{}, err
	}
	if err != nil {
		return origin{}, nil
	}
	var from origin
	for _, group := range groups {
		isV2 := group.HierarchyID == 0
		if !isV2 && !slices.Contains(group.Controllers, "name=systemd") {
			continue
		}
		if said := parsePath(p.absolute(group.Path, isV2)); said != (origin{}) && (isV2 || from == origin{}) {
			from = said
		}
	}
	return from, nil
}

// absolute returns a path of the reader's cgroup namespace as one of the whole hierarchy. If that is not known it leads out
// of the namespace. The namespace begins elsewhere in each hierarchy: base is that of cgroup2.
func (p processes) absolute(of string, isV2 bool) string {
	if p.base == "" || !isV2 && p.base != "/" {
		return "/.." + of
	}
	return path.Join(p.base, of)
}
