package holder

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

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

// tree finds cgroups by their IDs: the kernel says the ID of a socket's cgroup, and the directory has that inode number.
type tree struct {
	root   string
	paths  map[uint64]string   // by ID, from the root of the hierarchy
	gone   map[uint64]struct{} // were looked for and are no more: the kernel never gives out an ID twice
	walked bool                // in this round
}

func newTree(root string) *tree { return &tree{root: root, gone: make(map[uint64]struct{})} }

// begin starts a round, in which the hierarchy is walked once at most.
func (t *tree) begin() { t.walked = false }

// path returns the path of a cgroup from the root of the hierarchy; ok is false if it is not known or is no more.
func (t *tree) path(id uint64) (at string, ok bool) {
	if id == 0 {
		return "", false
	}
	if at, ok = t.paths[id]; ok && t.is(at, id) {
		return at, true
	}
	if _, gone := t.gone[id]; gone {
		return "", false
	}
	if !t.walked {
		t.walk()
		if at, ok = t.paths[id]; ok {
			return at, true
		}
	}
	t.gone[id] = struct{}{}
	return "", false
}

// has tells whether a cgroup whose path was known is there still.
func (t *tree) has(id uint64) bool { return t.is(t.paths[id], id) }

// is tells whether a path is that of a cgroup still.
func (t *tree) is(at string, id uint64) bool {
	got, err := inode(t.root + at)
	return err == nil && got == id
}

// walk reads the whole hierarchy. A directory that goes meanwhile, or that is not ours to see, is left out.
func (t *tree) walk() {
	t.walked = true
	t.paths = make(map[uint64]string)
	_ = filepath.WalkDir(t.root, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil {
			if entry != nil && entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.IsDir() {
			return nil
		}
		id, err := inode(dir)
		if err != nil {
			return fs.SkipDir
		}
		t.paths[id] = "/" + strings.TrimPrefix(strings.TrimPrefix(dir, t.root), "/")
		return nil
	})
}

// forget drops what is remembered of cgroups in which no socket was made.
func (t *tree) forget(kept []*attribution) {
	ids := make(map[uint64]struct{})
	for _, a := range kept {
		ids[a.socket.Cgroup] = struct{}{}
	}
	maps.DeleteFunc(t.gone, func(id uint64, _ struct{}) bool { _, keep := ids[id]; return !keep })
}

// crew is what is known of the processes of a cgroup.
type crew struct {
	pids []int
	name string // of all of them, or empty if they have several or one is not known
}

// crewOf returns the processes of the cgroup with an ID.
func (f *Finder) crewOf(id uint64) crew {
	if c, ok := f.members[id]; ok {
		return c
	}
	var c crew
	if f.cgroups != nil && id != rootCgroup {
		if at, ok := f.cgroups.path(id); ok {
			c = f.readCrew(f.cgroups.root + at + "/cgroup.procs")
		}
	}
	f.members[id] = c
	return c
}

// serviceOf returns the processes of the service that a socket unit with its cgroup is for, by systemd's default: that of the
// same name (Service=, systemd.socket(5)).
func (f *Finder) serviceOf(id uint64) []int {
	if f.cgroups == nil {
		return nil
	}
	path, _ := f.cgroups.path(id)
	name, isSocket := strings.CutSuffix(path, ".socket")
	if !isSocket {
		return nil
	}
	pids, err := readPIDs(f.cgroups.root + name + ".service/cgroup.procs")
	if err != nil { // it is not running
		return nil
	}
	return pids
}

// readCrew reads a cgroup.procs and the names of its processes. A process that is there, but whose name cannot be read
// (hidepid), may have any name.
func (f *Finder) readCrew(file string) crew {
	pids, err := readPIDs(file)
	if err != nil {
		return crew{}
	}
	names := make(map[string]struct{})
	var nameless []int
	for _, pid := range pids {
		name, ok := f.comm(pid)
		if !ok {
			nameless = append(nameless, pid)
			continue
		}
		if names[name] = struct{}{}; len(names) > 1 {
			return crew{pids: pids}
		}
	}
	if len(nameless) > 0 { // did they die?
		if pids, err = readPIDs(file); err != nil || slices.ContainsFunc(nameless, func(pid int) bool { return slices.Contains(pids, pid) }) {
			return crew{pids: pids}
		}
	}
	c := crew{pids: pids}
	for name := range names {
		// PID 1 opens sockets for others to serve.
		if !slices.Equal(pids, []int{1}) {
			c.name = name
		}
	}
	return c
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
	for _, mount := range mounts {
		if mount.FSType != "cgroup2" || mount.Root != "/" {
			continue
		}
		if id, err := inode(mount.MountPoint); err == nil {
			if p.base, _ = whole.path(id); p.base != "" {
				return p
			}
		}
	}
	return p
}

// origin returns what the cgroup of a process says: that of the cgroup2 hierarchy or, where systemd keeps its units in
// version 1, of the hierarchy called systemd.
func (p processes) origin(pid int) origin {
	proc, err := procfs.NewFS(p.procfs)
	if err != nil {
		return origin{}
	}
	process, err := proc.Proc(pid)
	if err != nil {
		return origin{}
	}
	groups, err := process.Cgroups()
	if err != nil {
		return origin{}
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
	return from
}

// absolute returns a path of the reader's cgroup namespace as one of the whole hierarchy. If that is not known it leads out
// of the namespace. The namespace begins elsewhere in each hierarchy: base is that of cgroup2.
func (p processes) absolute(of string, isV2 bool) string {
	if p.base == "" || !isV2 && p.base != "/" {
		return "/.." + of
	}
	return path.Join(p.base, of)
}

func inode(file string) (uint64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("stat " + file + ": no inode number")
	}
	return stat.Ino, nil
}
