//go:build linux

package manifest

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// rendering is what kustomizations change in the objects of a file.
type rendering struct {
	namespace, prefix, suffix string
	// otherwise is the namespace of objects that have none.
	otherwise string
	// top is the kustomization on which no other builds.
	top string
}

// around returns the changes of r and then those of an outer kustomization.
func (r rendering) around(outer rendering) rendering {
	return rendering{cmp.Or(outer.namespace, r.namespace), outer.prefix + r.prefix, r.suffix + outer.suffix, cmp.Or(r.otherwise, outer.otherwise), outer.top}
}

// kustomization is a kustomization.yaml.
type kustomization struct {
	dir, file string
	// command shows what it makes, if that is not kubectl kustomize.
	command string
	rendering
	component bool
	// files and dirs are what it builds on. components are directories whose changes are its own.
	files, dirs, components []string
	// hurdle is why it is not known what it makes, and line where that is.
	hurdle string
	line   int
	// used is set if another one builds on it, reached if one does that none builds on, and building while it is looked at.
	used, reached, building bool
}

func (one *kustomization) fail(line int, why string) {
	if one.hurdle == "" {
		one.hurdle, one.line = why, line
	}
}

// kustomized is what the kustomizations of a folder make.
type kustomized struct {
	checker *checker
	folder  *folder
	all     map[string]*kustomization // by directory
	// known are all files.
	known map[string]bool
	// named are the files that a kustomization names, and itself.
	named map[string]bool
	// made is what is made of files, as far as it is known.
	made map[string][]rendering
	// built is how many were looked at, those several times that others build on.
	built int
}

// passed reports whether a file has no objects as they are, and what is made of it is not known.
func (k *kustomized) passed(name string) bool { return k.named[name] && k.made[name] == nil }

// kustomizationNames are the names that a kustomization may have.
var kustomizationNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// kustomize reads the kustomizations of a folder. What they make of a file is known if they only change names, the namespace, and
// what has no part in ports: a patch of ports would take kustomize itself.
func (c *checker) kustomize(f *folder) *kustomized {
	k := &kustomized{
		checker: c, folder: f, all: make(map[string]*kustomization),
		known: make(map[string]bool), named: make(map[string]bool), made: make(map[string][]rendering),
	}
	for _, name := range f.files {
		k.known[name] = true
	}
	files := f.files
	if !f.whole {
		files = kustomizationNames
	}
	for _, name := range files {
		if slices.Contains(kustomizationNames, path.Base(name)) && k.all[path.Dir(name)] == nil {
			k.read(name)
		}
	}
	if f.whole {
		for _, name := range files {
			k.deliveries(name)
		}
	}
	for _, one := range k.all {
		for _, dir := range slices.Concat(one.dirs, one.components) {
			if base := k.all[dir]; base != nil && base != one {
				base.used = true
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(k.all)) {
		if one := k.all[dir]; !one.used {
			if one.component {
				one.fail(1, "it is a component, and no kustomization here uses it")
			}
			k.build(one, one, rendering{top: dir})
			k.reach(one)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(k.all)) {
		if one := k.all[dir]; !one.reached {
			k.notMade(one, one, 1, "it builds on itself")
		}
	}
	k.above()
	return k
}

// reach marks what a kustomization builds on.
func (k *kustomized) reach(one *kustomization) {
	if one == nil || one.reached {
		return
	}
	one.reached = true
	for _, dir := range slices.Concat(one.dirs, one.components) {
		k.reach(k.all[dir])
	}
}

// read reads a kustomization, if there is one of the name.
func (k *kustomized) read(name string) {
	data, err := k.folder.read(name)
	if err != nil {
		return
	}
	one := &kustomization{dir: path.Dir(name), file: name}
	k.all[one.dir], k.named[name] = one, true
	if tooLarge(data) {
		data = nil
	}
	documents, bad, templates := parse(data, false)
	if len(templates)+len(bad) > 0 || len(documents) != 1 {
		one.fail(slices.Max(append(templates, 1)), "it is not one document of YAML")
		for _, file := range k.folder.files {
			k.named[file] = k.named[file] || path.Dir(file) == one.dir
		}
		return
	}
	t := &tree{}
	root := documents[0]
	text := func(key string) string { return t.value(root, key).text }
	one.component = text("kind") == "Component"
	one.rendering = rendering{namespace: text("namespace"), prefix: text("namePrefix"), suffix: text("nameSuffix")}
	for _, key := range []string{"resources", "bases"} {
		for _, n := range t.list(root, key) {
			k.resource(one, t.value(n))
		}
	}
	for _, n := range t.list(root, "components") {
		one.components = append(one.components, path.Join(one.dir, t.value(n).text))
	}
	k.changes(one, t, root)
}

// resource notes a file or directory that a kustomization builds on.
func (k *kustomized) resource(one *kustomization, v value) {
	switch name := path.Join(one.dir, v.text); {
	case k.known[name]:
		one.files = append(one.files, name)
		k.named[name] = true
	case strings.Contains(v.text, "://"), strings.HasPrefix(v.text, "github.com/"), strings.HasPrefix(v.text, "git@"), strings.Contains(v.text, "?ref="):
		k.notMade(one, one, v.line, "it builds on "+wording.Printable(v.text)+", which is elsewhere")
	case v.text != "":
		one.dirs = append(one.dirs, name)
	}
}

// notMade notes that something that root makes is not judged, because of one.
func (k *kustomized) notMade(root, one *kustomization, line int, why string) {
	c, file := k.checker, wording.Path(k.folder.path(one.file))
	c.count("kustomization", file)
	if root.component {
		c.report.skip(file, line, "%s", why)
		return
	}
	command := cmp.Or(root.command, "kubectl kustomize "+wording.Printable(k.folder.path(root.dir)))
	c.report.skip(file, line, "%s: want `%s | %s check --manifests=-`", why, command, wording.Program)
}

// maxBuilt limits the time for kustomizations that build on others in many ways.
const maxBuilt = 100_000

// build notes what a kustomization makes of the files that it builds on, as a part of root.
func (k *kustomized) build(root, one *kustomization, outer rendering) {
	if k.built++; one.building || k.built > maxBuilt {
		k.notMade(root, one, 1, "it builds on itself, or too much")
		return
	}
	one.building = true
	defer func() { one.building = false }()
	parts := k.parts(one, nil)
	made := rendering{}
	for _, part := range slices.Backward(parts) { // the changes of components come first
		if part.hurdle != "" {
			k.notMade(root, part, part.line, part.hurdle)
			return
		}
		made = made.around(part.rendering)
	}
	made = made.around(outer)
	for _, part := range parts {
		for _, name := range part.files {
			if !slices.Contains(k.made[name], made) {
				k.made[name] = append(k.made[name], made)
			}
		}
		for _, dir := range part.dirs {
			if base := k.all[dir]; base != nil {
				k.build(root, base, made)
			} else {
				k.notMade(root, part, 1, "it builds on "+wording.Printable(dir)+", which is not among these manifests")
			}
		}
	}
}

// parts returns a kustomization and its components, whose changes are as its own.
func (k *kustomized) parts(one *kustomization, before []*kustomization) []*kustomization {
	parts := slices.Concat(before, []*kustomization{one})
	for _, dir := range one.components {
		component := k.all[dir]
		switch {
		case component == nil:
			one.fail(1, "its component "+wording.Printable(dir)+" is not among these manifests")
		case !slices.Contains(parts, component):
			parts = k.parts(component, parts)
		}
	}
	return parts
}
