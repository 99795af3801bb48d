// Package manifest checks the ports of Kubernetes manifests: against each other, and against the ranges that a registry
// reserves.
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// maxSize is how many bytes of a file are read. Kubernetes accepts objects of 1.5 MiB at most, etcd's limit.
const maxSize = 10 << 20

// Check checks the Kubernetes manifests in dir and in the directories below it: files called *.yaml, *.yml or *.json, each with
// any number of documents. It knows Pod, Deployment, DaemonSet, StatefulSet, ReplicaSet, ReplicationController, Job, CronJob,
// Service, Namespace and lists of them. Other kinds are ignored.
//
// A host port that two workloads take is a finding at the later one, in the order of files and lines. With host networking each
// containerPort is a host port, and a hostPort must be the same. A hostIP of 0.0.0.0, :: or none overlaps every other. Protocols
// do not overlap. The replicas of one workload do not count against each other. Nor does a workload that is described twice,
// with the same kind, namespace and name in another document, as in overlays. Workloads that select different nodes do count:
// labels of nodes change, and no manifest says which nodes there will be. Init containers count if they go on to run as
// sidecars, as for the scheduler.
//
// A host port, and the port and nodePort of a Service other than an ExternalName, must be in a range that r reserves for the
// namespace, if it reserves any for it, and in none that is reserved only for others. An object without a namespace is in
// "default". If r is nil, ranges are not checked.
//
// The annotation listen-exporter/port-range of a Namespace, by which a ValidatingAdmissionPolicy admits ports, must list exactly
// the ports that r reserves for it. If one Namespace has it, each with reserved ports must have it.
//
// Templates are skipped, and so is what is not YAML and does not look like a manifest. Symbolic links are not followed. The error
// names each file and directory that could not be read; findings in the others are returned as well.
func Check(r *registry.Registry, dir string) (findings []registry.Fault, skipped []Skipped, err error) {
	// A Root opens nothing outside of dir, even if a file is replaced by a link meanwhile.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read the manifests: %w", err)
	}
	defer func() { _ = root.Close() }()
	return check(r, root.FS(), dir)
}

func check(r *registry.Registry, fsys fs.FS, name string) ([]registry.Fault, []Skipped, error) {
	ranges := &ranges{registry: r, byNamespace: make(map[string]reservation)}
	d := &directory{FS: fsys, name: name, checker: &checker{hostPorts: hostPorts{}, ranges: ranges, annotations: annotations{}}}
	var problems []error
	_ = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = d.entry(name, entry)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("read the manifest %s: %w", wording.Printable(d.path(name)), err))
		}
		return nil
	})
	d.findings = append(d.findings, d.checker.annotations.missing(ranges)...)
	slices.SortFunc(d.findings, registry.Fault.Compare)
	slices.SortFunc(d.skipped, func(a, b Skipped) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(d.findings), slices.Compact(d.skipped), errors.Join(problems...)
}

// directory is the directory under check.
type directory struct {
	fs.FS
	name     string
	checker  *checker
	findings []registry.Fault
	skipped  []Skipped
}

// path returns the name of a file as it is shown.
func (d *directory) path(name string) string { return filepath.Join(d.name, filepath.FromSlash(name)) }

// isManifest reports whether the name of a file is one of a manifest.
func isManifest(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// entry checks an entry of a directory.
func (d *directory) entry(name string, entry fs.DirEntry) error {
	r := &report{file: wording.Path(d.path(name))}
	defer func() { d.findings, d.skipped = append(d.findings, r.findings...), append(d.skipped, r.skipped...) }()
	mode := entry.Type()
	switch {
	case mode&fs.ModeSymlink != 0:
		if d.leadsOut(name) {
			r.skip(1, "is a symbolic link: want the files themselves in this directory")
		}
		return nil
	case entry.IsDir() || !isManifest(name):
		return nil
	case !mode.IsRegular():
		r.skip(1, "is not a regular file")
		return nil
	}
	data, err := d.read(name)
	switch {
	case err != nil:
		// The name in it is relative to the directory.
		if at, ok := errors.AsType[*fs.PathError](err); ok {
			return at.Err
		}
		return err
	case len(data) > maxSize:
		r.skip(1, "is larger than %d MiB: want it in smaller files", maxSize>>20)
	case tooManyValues(data):
		r.skip(1, "has more than %d values: want it in smaller files", maxValues)
	default:
		d.checker.file(r, data, strings.EqualFold(path.Ext(name), ".json"))
	}
	return nil
}

// leadsOut reports whether a symbolic link leads to manifests that are not checked where they are: they are outside of the
// directory, or have another kind of name there.
func (d *directory) leadsOut(name string) bool {
	file := d.path(name)
	if target, err := fs.Stat(d, name); err == nil {
		end, err := filepath.EvalSymlinks(file)
		if target.IsDir() || !isManifest(name) || err == nil && isManifest(end) {
			return false
		}
	}
	target, err := os.Stat(file)
	return isManifest(name) || err == nil && target.IsDir()
}

// read returns the content of a file, up to one byte more than a file may have.
func (d *directory) read(name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}
