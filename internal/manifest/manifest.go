// Package manifest checks the ports of Kubernetes manifests: against each other, and against the ranges that a registry
// reserves.
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// Finding is something wrong in a manifest.
type Finding struct {
	File string
	// Line and Column count from 1, columns in characters. What an alias stands for is where the alias is.
	Line, Column int
	// Text says what is wrong, and what would be right.
	Text string
}

// String returns the finding as compilers write theirs: file:line:column: text.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
}

// Skipped is a file, or a value in one, that was not checked and that may have held something to find.
type Skipped struct {
	File string
	// Line counts from 1.
	Line int
	// Reason is why it was not checked.
	Reason string
}

// String returns file:line: reason.
func (s Skipped) String() string { return fmt.Sprintf("%s:%d: %s", s.File, s.Line, s.Reason) }

// Check looks at the Kubernetes manifests in dir and in the directories below it: files called *.yaml, *.yml or *.json, each
// with any number of documents. It knows Pod, Deployment, DaemonSet, StatefulSet, ReplicaSet, ReplicationController, Job,
// CronJob, Service and lists of them; what is of another kind is passed over.
//
// A host port that two workloads take is a finding at the later one, in the order of files and lines. With host networking
// each containerPort is a host port, and a hostPort must be the same. A hostIP of 0.0.0.0, :: or none overlaps every other;
// protocols do not overlap. The replicas of one workload do not count against each other, nor does a workload that is
// described twice: the same kind, namespace and name in another document, as overlays have it. That two workloads select
// different nodes is no excuse: labels of nodes change, and no manifest tells which nodes there will be. Init containers count
// if they go on to run as sidecars, as for the scheduler.
//
// A host port, and the port and nodePort of a Service other than an ExternalName, must lie in a range that r reserves for the
// namespace, if it reserves any for it, and in none that is reserved for others alone. Without a namespace an object is in
// "default". With r nil ranges are not checked.
//
// The annotation listen-exporter/port-range of a Namespace, by which a ValidatingAdmissionPolicy admits ports, must name the
// ports that r reserves for it, no more and no fewer. If one Namespace has it, so must each that r reserves ports for.
//
// Templates are skipped, and so is what cannot be read as YAML and does not look like a manifest. A symbolic link is not
// followed. The error names each file and directory that could not be read; what the others hold is returned all the same.
func Check(r *registry.Registry, dir string) (findings []Finding, skipped []Skipped, err error) {
	// A Root opens nothing outside of dir, even if a file is replaced by a link meanwhile.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read the manifests: %w", err)
	}
	defer func() { _ = root.Close() }()
	return check(r, root.FS(), dir)
}

func check(r *registry.Registry, fsys fs.FS, dir string) ([]Finding, []Skipped, error) {
	c := &checker{ranges: newRanges(r), taken: make(map[slot]holders), namespaces: make(map[string]*described)}
	var problems []error
	_ = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = c.entry(fsys, name, entry, filepath.Join(dir, filepath.FromSlash(name)))
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("read the manifest %s: %w", registry.Printable(filepath.Join(dir, filepath.FromSlash(name))), err))
		}
		return nil
	})
	c.unannotated()
	slices.SortFunc(c.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Text, b.Text))
	})
	slices.SortFunc(c.skipped, func(a, b Skipped) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(c.findings), slices.Compact(c.skipped), errors.Join(problems...)
}

// checker goes through all files in turn.
type checker struct {
	ranges *ranges
	taken  map[slot]holders
	// namespaces has those that have a Namespace object, by name.
	namespaces map[string]*described
	findings   []Finding
	skipped    []Skipped
}

// isManifest tells whether a file is looked at, by its name.
func isManifest(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// entry looks at what a directory holds, which is shown as file.
func (c *checker) entry(fsys fs.FS, name string, entry fs.DirEntry, file string) error {
	named := isManifest(name)
	switch mode := entry.Type(); {
	case mode&fs.ModeSymlink != 0:
		c.link(fsys, name, file, named)
		return nil
	case entry.IsDir() || !named:
		return nil
	case !mode.IsRegular():
		c.skip(file, 1, "is no regular file")
		return nil
	}
	data, tooLarge, err := read(fsys, name)
	switch {
	case err != nil:
		return err
	case tooLarge:
		c.skip(file, 1, fmt.Sprintf("is larger than %d MiB, the most that is read: want it in shorter files", maxSize>>20))
		return nil
	}
	c.file(file, data)
	return nil
}

// link tells of a symbolic link that leads to what is not looked at.
func (c *checker) link(fsys fs.FS, name, file string, named bool) {
	// Inside of the directory, what it leads to is looked at where it is.
	if target, err := fs.Stat(fsys, name); err == nil {
		end, err := filepath.EvalSymlinks(file)
		if target.IsDir() || !named || err == nil && isManifest(end) {
			return
		}
	}
	if target, err := os.Stat(file); named || err == nil && target.IsDir() {
		c.skip(file, 1, "is a symbolic link: want the files themselves in this directory")
	}
}

func (c *checker) skip(file string, line int, reason string) {
	c.skipped = append(c.skipped, Skipped{File: registry.PrintablePath(file), Line: line, Reason: reason})
}
