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
)

// Limits of the walk through the cgroups: users make cgroups of their own below those that are theirs.
const (
	// maxDepth is how far below the root a cgroup is looked for.
	maxDepth = 32
	// piece is how many names are read from a directory at once.
	piece = 1024
)

// errUnfinished tells that something is not known yet: the next Find goes on.
var errUnfinished = errors.New("not found in time")

// tree finds cgroups by their IDs: the kernel says the ID of a socket's cgroup, and the directory has that inode number.
type tree struct {
	root   string
	wanted map[uint64]struct{} // IDs: no others are remembered
	paths  map[uint64]string   // by ID, from the root of the hierarchy
	gone   map[uint64]struct{} // were looked for and are no more: the kernel never gives out an ID twice

	// The walk under way, which may take several rounds.
	levels  []level
	missing map[uint64]struct{} // what it looks for

	// One round.
	now      func() time.Time
	deadline time.Time
	walked   bool  // a walk began
	failed   error // that of the walk, or errUnfinished
}

// level is a directory that is being walked through.
type level struct {
	at    string
	dir   *os.File
	names []string // of the directories in it: those that were read, and are not walked through yet
}

func newTree(root string) *tree {
	return &tree{root: root, paths: make(map[uint64]string), gone: make(map[uint64]struct{})}
}

// begin starts a round, in which a walk begins once at most, and goes on until the deadline.
func (t *tree) begin(now func() time.Time, deadline time.Time) {
	t.now, t.deadline, t.walked, t.failed = now, deadline, false, nil
}

// want says which IDs will be asked for. What is remembered of others is dropped.
func (t *tree) want(ids map[uint64]struct{}) {
	t.wanted = ids
	other := func(id uint64) bool { _, ok := ids[id]; return !ok }
	maps.DeleteFunc(t.gone, func(id uint64, _ struct{}) bool { return other(id) })
	maps.DeleteFunc(t.paths, func(id uint64, _ string) bool { return other(id) })
	maps.DeleteFunc(t.missing, func(id uint64, _ struct{}) bool { return other(id) })
}

// path returns the path of a wanted cgroup from the root of the hierarchy, or nothing if it is no more. After errUnfinished
// the path is not known yet.
func (t *tree) path(id uint64) (at string, err error) {
	if id == 0 {
		return "", nil
	}
	if at, ok := t.paths[id]; ok {
		if t.is(at, id) {
			return at, nil
		}
		delete(t.paths, id)
	}
	for {
		if at, ok := t.paths[id]; ok {
			return at, nil
		}
		if _, gone := t.gone[id]; gone {
			return "", nil
		}
		if t.failed != nil {
			return "", t.failed
		}
		if err := t.walk(); err != nil {
			return "", err
		}
	}
}

// has tells whether a cgroup whose path was known is there still.
func (t *tree) has(id uint64) bool {
	at, ok := t.paths[id]
	return ok && t.is(at, id)
}

// is tells whether a path is that of a cgroup still.
func (t *tree) is(at string, id uint64) bool {
	got, err := inode(t.root + at)
	return err == nil && got == id
}

// walk goes on with the walk through the hierarchy, or begins one. It ends when it has found what it looks for.
func (t *tree) walk() error {
	if len(t.levels) == 0 {
		if t.walked {
			return errUnfinished
		}
		t.walked = true
		t.missing = maps.Clone(t.wanted)
		maps.DeleteFunc(t.missing, func(id uint64, _ struct{}) bool {
			_, known := t.paths[id]
			_, gone := t.gone[id]
			return known || gone
		})
		if err := t.enter("/"); err != nil {
			return t.fail(err)
		}
	}
	for len(t.levels) > 0 && len(t.missing) > 0 {
		if t.now().After(t.deadline) {
			t.failed = errUnfinished
			return errUnfinished
		}
		if err := t.step(); err != nil {
			return t.fail(err)
		}
	}
	t.end()
	maps.Copy(t.gone, t.missing)
	t.missing = nil
	return nil
}

// step enters the next directory, or reads more names of directories.
func (t *tree) step() error {
	top := &t.levels[len(t.levels)-1]
	if last := len(top.names) - 1; last >= 0 {
		at := path.Join(top.at, top.names[last])
		top.names = top.names[:last]
		return t.enter(at)
	}
	entries, err := top.dir.ReadDir(piece)
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

// enter notes the ID of a directory, and makes it the one that is walked through. One that goes meanwhile, or that is not
// ours to see, is left out, unless it is the root.
func (t *tree) enter(at string) error {
	id, err := inode(t.root + at)
	if err != nil {
		if at != "/" && isNoCgroup(err) {
			return nil
		}
		return err
	}
	if _, ok := t.missing[id]; ok {
		t.paths[id] = at
		delete(t.missing, id)
	}
	if at != "/" && strings.Count(at, "/") >= maxDepth {
		return nil
	}
	dir, err := os.Open(t.root + at)
	if err != nil {
		if at != "/" && isNoCgroup(err) {
			return nil
		}
		return err
	}
	t.levels = append(t.levels, level{at: at, dir: dir})
	return nil
}

// fail ends a walk that says nothing of what it did not find.
func (t *tree) fail(err error) error {
	t.end()
	t.failed = fmt.Errorf("look for cgroups: %w", err)
	return t.failed
}

func (t *tree) end() {
	for _, l := range t.levels {
		_ = l.dir.Close()
	}
	t.levels = nil
}

// isNoCgroup tells whether an error says that a cgroup is gone (ENODEV: while it is read), or is out of reach for good: users
// give cgroups names that are longer together than a path may be.
func isNoCgroup(err error) bool {
	return isOneOf(err, syscall.ENOENT, syscall.ENODEV, syscall.EACCES, syscall.ENAMETOOLONG)
}

func isOneOf(err error, numbers ...syscall.Errno) bool {
	for _, number := range numbers {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

func inode(file string) (uint64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("stat %s: no inode number", file)
	}
	return stat.Ino, nil
}
