//go:build linux

package manifest

import (
	"cmp"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// owner is an object that has ports.
type owner struct {
	kind, namespace, name string
	// given is set if the object or its kustomization names the namespace.
	given bool
	// top is the kustomization that makes the object, on which no other builds.
	top string
	// controller is the kind and the name of the object that made this one, or empty.
	controller string
	// root is the id of the first object that made this one, or its own. It is known when all objects are.
	root string
	// file and place are where it is.
	file string
	place
}

// String returns "Deployment team-alpha/web".
func (o *owner) String() string {
	name := "without a name"
	if o.name != "" {
		name = wording.Name(o.name)
	}
	return fmt.Sprintf("%s %s/%s", wording.Name(o.kind), wording.Name(o.namespace), name)
}

// id returns what tells an object from others: its kind, namespace and name, or its place if it has no name.
func (o *owner) id() string {
	if o.name == "" {
		return o.origin()
	}
	return o.kind + " " + o.namespace + "/" + o.name
}

// origin returns where the object is written.
func (o *owner) origin() string { return origin(o.file, o.place) }

func origin(file string, at place) string { return fmt.Sprintf("%s:%d:%d", file, at.line, at.column) }

// isChart reports whether a kind brings objects that are not in the manifests.
func isChart(kind string) bool {
	switch kind {
	case "HelmRelease", "HelmChart", "HelmChartConfig", "Application", "ApplicationSet":
		return true
	}
	return false
}

// document checks the objects of a document, once for each of what kustomizations make of its file.
func (c *checker) document(t *tree, file string, root *yaml.Node, made []rendering) {
	if len(made) == 0 {
		made = []rendering{{}}
	}
	objects := []*yaml.Node{root}
	if root.Kind == yaml.SequenceNode { // as jq prints the items of a List
		objects = root.Content
	}
	for _, m := range made {
		for _, n := range objects {
			c.object(&source{tree: t, file: file, rendering: m}, n, "", "")
		}
	}
}

// source is where an object comes from.
type source struct {
	*tree
	file string
	rendering
}

// object checks an object, or the items of a list. kind and version are those of the list, which its items need not repeat.
func (c *checker) object(s *source, n *yaml.Node, kind, version string) {
	s.depth++
	defer func() { s.depth-- }()
	n = s.resolve(n)
	kind, version = cmp.Or(s.value(n, "kind").text, kind), cmp.Or(s.value(n, "apiVersion").text, version)
	switch {
	case kind == "" || s.value(n, "$patch").exists():
		return
	case version == "":
		if s.get(n, "metadata") != nil || s.get(n, "items") != nil {
			c.report.skip(s.file, n.Line, "%s has no apiVersion: want it, as kubectl does", wording.Name(kind))
			c.count("unversioned object", origin(s.file, place{n.Line, n.Column}))
		}
		return
	}
	group, _, found := strings.Cut(version, "/")
	if !found {
		group = ""
	}
	item, isList := strings.CutSuffix(kind, "List")
	switch items := s.list(n, "items"); {
	case isList && items != nil:
		for _, n := range items {
			c.object(s, n, item, version)
		}
		return
	case kind == "Template": // of OpenShift
		for _, n := range s.list(n, "objects") {
			c.object(s, n, "", "")
		}
		return
	case kind == "CustomResourceDefinition", kind == "PodSecurityPolicy":
		return
	case kind == "Kustomization" && group == "kustomize.config.k8s.io":
		return // by its file's name
	case isChart(kind), strings.HasSuffix(group, "kyverno.io"): // what a Kyverno policy has are patterns of pods
		c.count(kind, origin(s.file, place{n.Line, n.Column}))
		return
	}
	o := c.ownerOf(s, n, kind)
	switch {
	case kind == "Namespace" && group == "":
		c.namespaces.add(c.report, s, n, o)
	case kind == "Service" && group == "":
		c.countObject(&c.report.Services, o)
		c.service(s, o, s.get(n, "spec"))
	case strings.HasPrefix(kind, "ValidatingAdmissionPolicy") && o.name == privilegedPolicy:
		c.privileged = true
	default:
		var found pods
		found.find(s.tree, n)
		for _, spec := range found.specs {
			c.pod(s, o, spec)
		}
		if len(found.specs) > 0 {
			c.countObject(&c.report.Workloads, o)
		}
		if found.foreign {
			c.count(kind, o.origin())
		}
	}
}

// ownerOf returns the names of an object.
func (c *checker) ownerOf(s *source, n *yaml.Node, kind string) *owner {
	o := &owner{kind: kind, name: s.value(n, "metadata", "name").text, top: s.top, file: s.file, place: place{n.Line, n.Column}}
	own := s.value(n, "metadata", "namespace")
	namespace := cmp.Or(s.namespace, own.text, s.otherwise, c.options.Namespace)
	o.namespace, o.given = cmp.Or(namespace, "default"), namespace != ""
	if o.name != "" && kind != "Namespace" {
		o.name = s.prefix + o.name + s.suffix
	}
	for _, ref := range s.list(n, "metadata", "ownerReferences") {
		if s.value(ref, "controller").isTrue() {
			o.controller = s.value(ref, "kind").text + " " + o.namespace + "/" + s.value(ref, "name").text
		}
	}
	c.objects[o.id()] = true
	if o.controller != "" && o.name != "" {
		c.controllers[o.id()] = o.controller
	}
	if placeholderName(namespace) {
		c.skip(s, max(own.line, 1), "the ranges of %s: its namespace comes from a template", o)
	}
	return o
}

// placeholderName reports whether something fills in a name.
func placeholderName(name string) bool { return filledIn(name) || capitals.Get().MatchString(name) }

// pods are the pods in an object, whatever its kind: each mapping with a list of containers.
type pods struct {
	specs []*yaml.Node
	// foreign is set if the object takes ports of nodes in a way of its own, outside of pods.
	foreign bool
}

func (p *pods) find(t *tree, n *yaml.Node) {
	t.depth++
	defer func() { t.depth-- }()
	if n = t.resolve(n); n == nil {
		return
	}
	if n.Kind == yaml.MappingNode {
		if containers := t.list(n, "containers"); len(containers) > 0 && containers[0].Kind == yaml.MappingNode {
			if t.value(n, "$patch").text != "delete" {
				p.specs = append(p.specs, n)
			}
			return
		}
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode {
			if i%2 == 0 {
				continue
			}
			switch key := n.Content[i-1].Value; {
			case key == "hostPort", key == "nodePort", key == "hostNetwork" && t.value(child).isTrue():
				p.foreign = p.foreign || t.value(child).text != ""
			}
		}
		p.find(t, child)
	}
}

func (c *checker) skip(s *source, line int, format string, args ...any) {
	c.report.skip(s.file, line, format, args...)
	c.template(s.file)
}

// template counts a file as a template, or as having values that come from one.
func (c *checker) template(file string) { c.count("template", file) }

// count counts a file or object among what was not looked into, once.
func (c *checker) count(kind, origin string) {
	if c.first(kind + " " + origin) {
		c.report.NotChecked[kind]++
	}
}

// countObject counts an object once, however many kustomizations make it.
func (c *checker) countObject(n *int, o *owner) {
	if c.first(o.id() + " " + o.origin()) {
		*n++
	}
}

// first reports whether something is met for the first time.
func (c *checker) first(key string) bool {
	known := c.met[key]
	c.met[key] = true
	return !known
}
