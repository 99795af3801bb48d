//go:build linux

package holder

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// identity is what a process that has a socket open is known by.
type identity struct {
	name       string // its comm
	executable string // the base name of its program's file; empty if it is not readable
	of         origin
	placed     bool // of is all that its cgroup says: an empty one means that it is in no unit
}

// identify reads who a process is. task is the directory of one of its tasks that has not exited.
func (p processes) identify(pid int, task string) (identity, error) {
	name, err := p.comm(pid)
	if err != nil {
		return identity{}, err
	}
	id := identity{name: name}
	if id.of, id.placed, err = p.originIn(task); err != nil {
		return identity{}, err
	}
	if file := programOf(task); file != "" {
		id.executable = path.Base(file)
	}
	return id, nil
}

// programOf returns the path of a task's program file, or nothing if it is not readable.
func programOf(task string) string {
	var buffer [unix.PathMax]byte
	n, err := unix.Readlink(task+"/exe", buffer[:])
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSuffix(string(buffer[:n]), " (deleted)"), "\uFFFD")
}

// program returns the path of a process's program file, whose base name is known. It returns nothing if the file cannot be seen, or is
// another one: the process may have ended, and its PID be another's.
func (p processes) program(pid int, executable string) string {
	if file := programOf(p.pidDir(pid)); file != "" && path.Base(file) == executable {
		return file
	}
	return ""
}

// comm returns the name of a process.
func (p processes) comm(pid int) (name string, err error) {
	text, err := readFile(p.pidDir(pid)+"/comm", maxName)
	if err != nil {
		return "", err
	}
	// A name may itself end in a newline, and need not be UTF-8.
	return strings.ToValidUTF8(strings.TrimSuffix(string(text), "\n"), "\uFFFD"), nil
}

// originOf returns what the cgroup of a process says. It is empty if the process is gone.
func (p processes) originOf(pid int) (origin, error) {
	of, _, err := p.originIn(p.pidDir(pid))
	return of, err
}

// originIn returns what the cgroup of a task says. It is the cgroup of the cgroup2 hierarchy or, where systemd keeps its units in
// version 1, the one of the hierarchy called systemd. whole reports whether the path is one from the root of the hierarchy.
func (p processes) originIn(task string) (of origin, whole bool, err error) {
	text, err := readFile(task+"/cgroup", maxCgroup)
	if isShortage(err) {
		return origin{}, false, err
	}
	if err != nil {
		return origin{}, false, nil
	}
	for line := range strings.Lines(string(text)) {
		// hierarchy-ID:controller-list:cgroup-path (cgroups(7)); the path may hold colons.
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		isV2 := fields[0] == "0"
		if !isV2 && !slices.Contains(strings.Split(fields[1], ","), "name=systemd") {
			continue
		}
		at := p.absolute(fields[2], isV2)
		whole = whole || !strings.HasPrefix(at, "/../") && !strings.HasSuffix(at, " (deleted)")
		if o := parsePath(at); o != (origin{}) && (isV2 || of == origin{}) {
			of = o
		}
	}
	return of, whole, nil
}

// tgid returns the process that a thread belongs to, or 0 if it is gone.
func (p processes) tgid(tid int) (pid int, err error) {
	text, err := readFile(p.pidDir(tid)+"/status", maxStatus)
	if isShortage(err) {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Tgid:"); ok {
			pid, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return pid, nil
}
