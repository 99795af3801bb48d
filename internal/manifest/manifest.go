//go:build linux

// Package manifest checks the ports of Kubernetes manifests: against each other, and against what a registry reserves and
// declares.
//
// Its files are steps: folder.go finds the files; kustomize.go, patch.go, delivery.go and above.go what kustomizations, Flux and
// Argo CD make of them; document.go and template.go read YAML and JSON; object.go and ports.go find who uses which port. Only when all is read, the uses are compared: duplicate.go with each other,
// ranges.go and annotation.go with what namespaces may use.
package manifest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// maxSize is how many bytes of a file are read. Kubernetes accepts objects of 1.5 MiB at most, etcd's limit.
const maxSize = 10 << 20

// Options say what manifests are checked against, and how.
type Options struct {
	// Registry may be nil.
	Registry *registry.Registry
	// Exclude are the patterns of files and directories that are not looked into (see Excluded).
	Exclude []string
	// Namespace is that of objects without one.
	Namespace string
	// ServicePorts is set to check the port of each Service by ranges, not only what it takes of nodes.
	ServicePorts bool
}

// Stdin is the path of standard input.
const Stdin = registry.Stdin

// Check checks the Kubernetes manifests of one cluster: in files, in directories and the directories below them, and in standard
// input. In directories these are files called *.yaml, *.yml or *.json, each with any number of documents. An object has pods if
// it has a list of containers somewhere, whatever its kind.
//
// A port of a node that two workloads or Services take is a finding at the later one, in the order of files and lines, one for
// two objects. With host networking each containerPort is a host port, and a hostPort must be the same. A hostIP of 0.0.0.0, ::
// or none overlaps every other. Protocols do not overlap, except those of two nodePorts. The replicas of one workload do not
// count against each other, nor do copies of one object (see same). Pods count against each other unless they want
// different nodes, by its name or a label.
//
// A port of a node must be in a range that the registry reserves for the namespace, if it reserves any for it, and in none that
// is reserved only for others. The annotation listen-exporter/port-range of a Namespace, by which a ValidatingAdmissionPolicy
// admits ports, must list the ports that the registry reserves for it; without a registry, ports must be in it.
//
// What a kustomization makes of its files has its namespace, and is not judged if more is changed. Templates are skipped, and so is what is not YAML and does not look
// like a manifest. Symbolic links are not followed below a directory. The error names each file and directory that could not be
// read; the rest of the report is returned as well.
func Check(o Options, paths []string, stdin io.Reader) (*Report, error) {
	c := &checker{
		options:     o,
		ranges:      &ranges{registry: o.Registry, byNamespace: make(map[string]reservation)},
		namespaces:  namespaces{},
		objects:     make(map[string]bool),
		controllers: make(map[string]string),
		met:         make(map[string]bool),
		report:      newReport(),
	}
	var problems []error
	for _, path := range paths {
		if err := c.path(path, stdin); err != nil {
			problems = append(problems, err)
		}
	}
	c.judge()
	c.report.sort()
	return c.report, errors.Join(problems...)
}

// checker has what is known of the objects of all files.
type checker struct {
	options    Options
	ranges     *ranges
	namespaces namespaces
	// objects are the ids of all objects. controllers are what made an object, by id.
	objects     map[string]bool
	controllers map[string]string
	// met are the files and objects that are counted.
	met map[string]bool
	// privileged is set if the policy for ports below 1024 is in use.
	privileged bool
	uses       []use
	report     *Report
}

// path checks a file, a directory or standard input.
func (c *checker) path(path string, stdin io.Reader) error {
	if path == Stdin {
		data, err := readAll(stdin)
		if err != nil {
			return fmt.Errorf("read the manifests from standard input: %w", err)
		}
		c.content("<stdin>", data, nil, true)
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read the manifests: %w", err)
	}
	if !info.IsDir() {
		if Excluded(c.options.Exclude, path) || !c.firstFile(path) {
			return nil
		}
		return c.file(path)
	}
	// A Root opens nothing outside of dir, even if a file is replaced by a link meanwhile.
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("read the manifests: %w", err)
	}
	defer func() { _ = root.Close() }()
	return c.folder(&folder{FS: root.FS(), name: path, whole: true})
}

// firstFile reports whether a file is asked for the first time: paths may be in each other.
func (c *checker) firstFile(file string) bool {
	if absolute, err := filepath.Abs(file); err == nil {
		file = absolute
	}
	return c.first(file)
}

// file checks a file that is given by its name. It may be a pipe.
func (c *checker) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the manifests: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := readAll(f)
	if err != nil {
		return fmt.Errorf("read the manifests: %w", err)
	}
	// A kustomization next to the file may give it another namespace. What else it builds on is not asked for.
	name, dir := filepath.Base(path), filepath.Dir(path)
	aside := &checker{report: newReport(), met: make(map[string]bool)}
	k := aside.kustomize(&folder{FS: os.DirFS(dir), name: dir, files: []string{name}})
	if !k.passed(name) {
		c.content(wording.Path(path), data, k.made[name], true)
		return nil
	}
	c.report.Skipped = append(c.report.Skipped, aside.report.Skipped...)
	for kind, n := range aside.report.NotChecked {
		c.report.NotChecked[kind] += n
	}
	return nil
}

// readAll returns a content, up to one byte more than a file may have.
func readAll(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxSize+1)) }

// judge compares all uses of ports.
func (c *checker) judge() {
	c.annotations()
	for i := range c.uses {
		u := &c.uses[i]
		if c.objects[u.controller] {
			continue // what made it is judged
		}
		c.forbidden(u)
		c.inRange(u)
		c.registered(u)
		c.mayBePrivileged(u)
	}
	c.duplicates()
}
