//go:build linux

package holder

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the walk through the cgroups: users make cgroups of their own below those that are theirs.
const (
	// maxDepth is how far below the root a cgroup is looked for.
	maxDepth = 32
	// namesAtOnce is how many names are read from a directory at once.
	namesAtOnce = 1024
)

// errUnfinished means that something is not known yet, and that the next Find goes on looking for it.
var errUnfinished = errors.New("not found in time")

// tree finds cgroups by their IDs. The kernel reports the ID of a socket's cgroup, which is the inode number of its directory.
//
// A walk that does not end in time goes on at the next Find. This pays where somebody has made a hundred thousand cgroups: a
// walk that began again each time would never get past them, and the units of all others' sockets would stay unknown.
type tree struct {
	root    string            // empty if there is no hierarchy in view
	wanted  map[uint64]bool   // the IDs that may be asked for: no others are remembered
	paths   map[uint64]string // by ID, from the root of the hierarchy
	removed map[uint64]bool   // IDs that a whole walk did not find: the kernel never gives out an ID twice

	// The walk under way.
	levels []level
	sought map[uint64]bool // IDs that were wanted when it began, and are not found yet

	// The present Find.
	now      func() time.Time
	deadline time.Time
	began    bool  // a walk began
	err      error // why no more is known: what made the walk fail, or errUnfinished
}

// level is a directory of the walk.
type level struct {
	at    string
	dir   *os.File
	names []string // of directories in it that were read, and are not walked through yet
}

func newTree(root string) *tree {
	return &tree{root: root, paths: make(map[uint64]string), removed: make(map[uint64]bool)}
}

// begin starts a Find. In each, at most one walk begins, and it goes on until the deadline.
func (t *tree) begin(now func() time.Time, deadline time.Time) {
	t.now, t.deadline, t.began, t.err = now, deadline, false, nil
}

// setWanted sets the IDs that will be asked for, and forgets others.
func (t *tree) setWanted(ids map[uint64]bool) {
	t.wanted = ids
	maps.DeleteFunc(t.paths, func(id uint64, _ string) bool { return !ids[id] })
	for _, known := range []map[uint64]bool{t.removed, t.sought} {
		maps.DeleteFunc(known, func(id uint64, _ bool) bool { return !ids[id] })
	}
}

// path returns the path of a wanted cgroup from the root of the hierarchy, or "" if it was removed. An error says that it is not
// known.
func (t *tree) path(id uint64) (string, error) {
	if id == 0 || t.root == "" {
		return "", nil
	}
	if !t.exists(id) {
		delete(t.paths, id)
	}
	for {
		if at, ok := t.paths[id]; ok {
			return at, nil
		}
		if t.removed[id] {
			return "", nil
		}
		if t.err == nil {
			t.err = t.walk()
		}
		if t.err != nil && t.paths[id] == "" {
			return "", t.err
		}
	}
}

// exists reports whether a cgroup whose path was known is still there.
func (t *tree) exists(id uint64) bool {
	at, ok := t.paths[id]
	if !ok {
		return false
	}
	got, err := inode(t.root + at)
	return err == nil && got == id
}

// walk goes on with the walk through the hierarchy, or begins one. It ends when it has found all that it looks for.
func (t *tree) walk() error {
	if len(t.levels) == 0 {
		if t.began {
			return errUnfinished
		}
		t.began = true
		t.sought = maps.Clone(t.wanted)
		maps.DeleteFunc(t.sought, func(id uint64, _ bool) bool { return t.paths[id] != "" || t.removed[id] })
		if err := t.enter("/"); err != nil {
			return fmt.Errorf("look for cgroups: %w", err)
		}
	}
	for len(t.levels) > 0 && len(t.sought) > 0 {
		if t.now().After(t.deadline) {
			return errUnfinished
		}
		if err := t.step(); err != nil {
			t.end()
			return fmt.Errorf("look for cgroups: %w", err)
		}
	}
	t.end()
	maps.Copy(t.removed, t.sought)
	t.sought = nil
	return nil
}

// step enters the next directory, or reads more names of directories.
func (t *tree) step() error {
	top := &t.levels[len(t.levels)-1]
	if last := len(top.names) - 1; last >= 0 {
		at := path.Join(top.at, top.names[last])
		top.names = top.names[:last]
		if err := t.enter(at); err != nil && !isNoCgroup(err) {
			return err
		}
		return nil
	}
	entries, err := top.dir.ReadDir(namesAtOnce)
	for _, entry := range entries {
		if entry.IsDir() {
			top.names = append(top.names, entry.Name())
		}
	}
	if err == nil {
		return nil
	}
	_ = top.dir.Close()
	t.levels = t.levels[:len(t.levels)-1]
	if errors.Is(err, io.EOF) || isNoCgroup(err) {
		return nil
	}
	return err
}

// enter notes the ID of a directory, and makes that the directory to read next.
func (t *tree) enter(at string) error {
	id, err := inode(t.root + at)
	if err != nil {
		return err
	}
	if t.sought[id] {
		t.paths[id] = at
		delete(t.sought, id)
	}
	if at != "/" && strings.Count(at, "/") >= maxDepth {
		return nil
	}
	dir, err := openDir(t.root + at)
	if err != nil {
		return err
	}
	t.levels = append(t.levels, level{at: at, dir: dir})
	return nil
}

func (t *tree) end() {
	for _, l := range t.levels {
		_ = l.dir.Close()
	}
	t.levels = nil
}

// isNoCgroup reports whether an error means that a cgroup was removed (ENODEV: while it was read), or is out of reach for good:
// users give cgroups names that together are longer than a path may be.
func isNoCgroup(err error) bool {
	return isOneOf(err, unix.ENOENT, unix.ENODEV, unix.EACCES, unix.ENAMETOOLONG)
}

// isShortage reports whether an error is one of the reader's own: it says nothing of what was to be read.
func isShortage(err error) bool { return isOneOf(err, unix.EMFILE, unix.ENFILE, unix.ENOMEM) }

func isOneOf(err error, numbers ...syscall.Errno) bool {
	for _, number := range numbers {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

// inode returns the inode number of a file.
func inode(file string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(file, &stat); err != nil {
		return 0, fmt.Errorf("stat %s: %w", file, err)
	}
	return stat.Ino, nil
}
