package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// readableRanges matches what the policy can read, once ", " is ",".
var readableRanges = wording.Regexp(`^[1-9][0-9]{0,4}(?:-[1-9][0-9]{0,4})?(?:,[1-9][0-9]{0,4}(?:-[1-9][0-9]{0,4})?)*$`)

// parseAnnotation returns the ports of an annotation.
func parseAnnotation(text string) (set ports.Set, ok bool) {
	text = strings.ReplaceAll(text, ", ", ",")
	if !readableRanges().MatchString(text) {
		return nil, false
	}
	set, err := ports.ParseSet(text)
	return set.Merged(), err == nil
}

// annotations has the Namespaces of all files, by name.
type annotations map[string]*described

// described is what the manifests say of a Namespace.
type described struct {
	annotated bool
	// file and place are of the first Namespace of the name.
	file string
	place
}

// check compares the annotation of a Namespace with what is reserved for it.
func (a annotations) check(r *report, ranges *ranges, o *object) {
	name, annotation := o.Metadata.Name, o.Metadata.Annotations.PortRange
	if ranges.registry == nil || name.text == "" || filledIn(name.text) {
		return
	}
	if a[name.text] == nil {
		a[name.text] = &described{file: r.file, place: name.place}
	}
	if !annotation.exists() {
		return
	}
	a[name.text].annotated = true
	subject := fmt.Sprintf("annotation %s of Namespace %s", rangeAnnotation, wording.Name(name.text))
	registryFile := wording.Path(ranges.registry.File())
	if filledIn(annotation.text) {
		r.skip(annotation.line, "%s comes from a template: not compared with %s", subject, registryFile)
		return
	}
	given, ok := parseAnnotation(annotation.text)
	reserved := ranges.of(name.text)
	extra, missing := given.Without(reserved.ports), reserved.ports.Without(given)
	switch {
	case !ok:
		r.find(annotation.place, "%s is not a list of ports: want ports and ranges from 1 to 65535, such as 30000-30499,31500", subject)
	case annotation.tag != "!!str":
		r.find(annotation.place, "%s is a number, but Kubernetes accepts only text: want %q", subject, annotation.text)
	case len(reserved.ports) == 0:
		r.find(annotation.place, "%s allows %s, but %s reserves nothing for it: %s", subject, list(given), registryFile, wantSame)
	case len(extra) > 0 && len(missing) > 0:
		r.find(annotation.place, "%s allows %s, which is not reserved for it at %s, and lacks %s, which is: %s",
			subject, list(extra), reserved.place, list(missing), wantSame)
	case len(extra) > 0:
		r.find(annotation.place, "%s allows %s, which is not reserved for it at %s: %s", subject, list(extra), reserved.place, wantSame)
	case len(missing) > 0:
		r.find(annotation.place, "%s lacks %s, which is reserved for it at %s: %s", subject, list(missing), reserved.place, wantSame)
	}
}

const wantSame = "want both to list the same ports"

// missing returns a finding for each Namespace without an annotation that has reserved ports, if any Namespace has an
// annotation: without the policy none needs one.
func (a annotations) missing(ranges *ranges) (findings []registry.Fault) {
	if !slices.ContainsFunc(slices.Collect(maps.Values(a)), func(n *described) bool { return n.annotated }) {
		return nil
	}
	for name, n := range a {
		if reserved := ranges.of(name); !n.annotated && len(reserved.ports) > 0 {
			findings = append(findings, registry.Fault{File: n.file, Line: n.line, Column: n.column, Text: fmt.Sprintf(
				"Namespace %s has no annotation %s, but others have, and %s is reserved for it at %s: %s",
				wording.Name(name), rangeAnnotation, list(reserved.ports.Merged()), reserved.place, wantSame)})
		}
	}
	return findings
}
