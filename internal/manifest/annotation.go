//go:build linux

package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// The annotations of a Namespace by which the policies in examples/kubernetes/policies admit ports.
const (
	rangeAnnotation      = "listen-exporter/port-range"
	privilegedAnnotation = "listen-exporter/allow-privileged-ports"
	privilegedPolicy     = "listen-exporter-privileged-ports"
)

// readableRanges matches what the policy can read, once ", " is ",".
var readableRanges = wording.Regexp(`^[1-9][0-9]{0,4}(?:-[1-9][0-9]{0,4})?(?:,[1-9][0-9]{0,4}(?:-[1-9][0-9]{0,4})?)*$`)

// parseAnnotation returns the ports of an annotation.
func parseAnnotation(text string) (set ports.Set, ok bool) {
	text = strings.ReplaceAll(text, ", ", ",")
	if !readableRanges.Get().MatchString(text) {
		return nil, false
	}
	set, err := ports.ParseSet(text)
	return set.Merged(), err == nil
}

// namespaces are the Namespaces of all files, by name.
type namespaces map[string]*namespace

// namespace is what the manifests say of a Namespace.
type namespace struct {
	*owner
	at                 place  // of its name
	ports, privileged  value  // the annotations
	portsIn, allowedIn string // the files that have them
}

// add adds a Namespace.
func (ns namespaces) add(r *Report, s *source, n *yaml.Node, o *owner) {
	name := s.value(n, "metadata", "name")
	if o.name = name.text; s.namespace != "" { // as kustomize does it
		o.name = s.namespace
	}
	if o.name == "" || filledIn(o.name) {
		return
	}
	known := ns[o.name]
	if known == nil {
		known = &namespace{owner: o, at: name.place}
		ns[o.name] = known
	}
	annotations := s.path(n, "metadata", "annotations")
	set := func(to *value, file *string, key string) {
		if v := s.value(annotations, key); v.exists() && !to.exists() {
			*to, *file = v, s.file
		}
	}
	set(&known.ports, &known.portsIn, rangeAnnotation)
	set(&known.privileged, &known.allowedIn, privilegedAnnotation)
	if s.value(annotations, rangeAnnotation).exists() || s.value(annotations, privilegedAnnotation).exists() {
		r.Namespaces++
	}
}

// allowed returns the ports of a namespace's annotation, and where that is. It is empty without one that can be read.
func (ns namespaces) allowed(name string) (set ports.Set, at string) {
	n := ns[name]
	if n == nil || !n.ports.exists() {
		return nil, ""
	}
	set, _ = parseAnnotation(n.ports.text)
	return set, fmt.Sprintf("%s:%d", n.portsIn, n.ports.line)
}

// annotations checks the annotations of all Namespaces, and compares those of ranges with what the registry reserves.
func (c *checker) annotations() {
	some := slices.ContainsFunc(slices.Collect(maps.Values(c.namespaces)), func(n *namespace) bool { return n.ports.exists() })
	for name, n := range c.namespaces {
		c.rangeAnnotation(name, n, some)
		if !n.privileged.exists() || filledIn(n.privileged.text) {
			continue
		}
		c.privileged = true
		if _, ok := parseAnnotation(n.privileged.text); !ok || n.privileged.tag != "!!str" {
			c.wrongForm(n.allowedIn, n.privileged, privilegedAnnotation, name, ok)
		}
	}
}

// wrongForm finds an annotation that the API server or its policies cannot read.
func (c *checker) wrongForm(file string, v value, annotation, name string, readable bool) {
	subject := fmt.Sprintf("annotation %s of Namespace %s", annotation, wording.Name(name))
	if readable {
		c.report.find(RuleAnnotation, file, v.place, "%s is a number, but Kubernetes accepts only text: want %q", subject, v.text)
		return
	}
	c.report.find(RuleAnnotation, file, v.place, "%s is not a list of ports: want ports and ranges from 1 to 65535, such as 30000-30499,31500", subject)
}

const wantSame = "want both to list the same ports"

// rangeAnnotation compares an annotation. If some Namespace has one, each with reserved ports must have it: without the policy
// none needs one.
func (c *checker) rangeAnnotation(name string, n *namespace, some bool) {
	reserved, annotation := c.ranges.of(name), n.ports
	subject := fmt.Sprintf("annotation %s of Namespace %s", rangeAnnotation, wording.Name(name))
	find := func(format string, args ...any) {
		c.report.find(RuleAnnotation, n.portsIn, annotation.place, "%s "+format+": "+wantSame, append([]any{subject}, args...)...)
	}
	if !annotation.exists() {
		if some && len(reserved.ports) > 0 {
			c.report.find(RuleAnnotation, n.file, n.at, "Namespace %s has no annotation %s, but others have, and %s is reserved for it at %s: %s",
				wording.Name(name), rangeAnnotation, list(reserved.ports.Merged()), reserved.place, wantSame)
		}
		return
	}
	if filledIn(annotation.text) {
		c.report.skip(n.portsIn, annotation.line, "%s comes from a template", subject)
		c.template(n.portsIn)
		return
	}
	given, ok := parseAnnotation(annotation.text)
	extra, lacking := given.Without(reserved.ports), reserved.ports.Without(given)
	switch {
	case !ok, annotation.tag != "!!str":
		c.wrongForm(n.portsIn, annotation, rangeAnnotation, name, ok)
	case c.ranges.registry == nil:
	case len(reserved.ports) == 0:
		find("allows %s, but %s reserves nothing for it", list(given), wording.Path(c.ranges.registry.File()))
	case len(extra) > 0 && len(lacking) > 0:
		find("allows %s, which is not reserved for it at %s, and lacks %s, which is", list(extra), reserved.place, list(lacking))
	case len(extra) > 0:
		find("allows %s, which is not reserved for it at %s", list(extra), reserved.place)
	case len(lacking) > 0:
		find("lacks %s, which is reserved for it at %s", list(lacking), reserved.place)
	}
}

// mayBePrivileged finds a port below 1024 that the namespace does not allow, if the policy that denies it is in use.
func (c *checker) mayBePrivileged(u *use) {
	if !c.privileged || u.pod == nil || u.port >= 1024 || u.namespace == "kube-system" || placeholderName(u.namespace) {
		return
	}
	if n := c.namespaces[u.namespace]; n != nil {
		if allowed, _ := parseAnnotation(n.privileged.text); allowed.Contains(u.port) || filledIn(n.privileged.text) {
			return
		}
	}
	c.report.find(RulePrivileged, u.file, u.at, "%s %d of %s is below 1024: want a port from 1024 on, or this port in the annotation %s of Namespace %s",
		u.key, u.port, u.owner, privilegedAnnotation, wording.Name(u.namespace))
}
