package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// rangeAnnotation gives a namespace its ports: examples/kubernetes/policies/port-range.yaml has the API server enforce it. What
// can be read there can be read here.
const rangeAnnotation = "listen-exporter/port-range"

var readableRanges = regexp.MustCompile(`^[1-9][0-9]{0,4}(?:-[1-9][0-9]{0,4})?(?:,[1-9][0-9]{0,4}(?:-[1-9][0-9]{0,4})?)*$`)

// span is a range of ports, both ends included.
type span struct{ first, last int }

// String returns "30000-30999", or "31500" of one port.
func (s span) String() string {
	if s.first == s.last {
		return strconv.Itoa(s.first)
	}
	return fmt.Sprintf("%d-%d", s.first, s.last)
}

// parseSpans returns what an annotation of such ranges says.
func parseSpans(text string) (spans []span, ok bool) {
	text = strings.ReplaceAll(text, ", ", ",")
	if !readableRanges.MatchString(text) {
		return nil, false
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		// Five digits at most: they cannot fail.
		var s span
		s.first, _ = strconv.Atoi(first)
		s.last, _ = strconv.Atoi(last)
		if s.first > s.last || s.last > 65535 {
			return nil, false
		}
		spans = append(spans, s)
	}
	return merge(spans), true
}

// spansOf returns the spans of reserved ranges.
func spansOf(ranges []registry.Range) []span {
	spans := make([]span, len(ranges))
	for i, r := range ranges {
		spans[i] = span{int(r.First), int(r.Last)}
	}
	return merge(spans)
}

// merge returns the same ports in the order of their numbers, in as few spans as there can be.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var merged []span
	for _, s := range spans {
		if n := len(merged); n > 0 && s.first <= merged[n-1].last+1 {
			merged[n-1].last = max(merged[n-1].last, s.last)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// without returns the ports of a that are not in b. Both are merged.
func without(a, b []span) []span {
	var left []span
	for _, s := range a {
		for _, t := range b {
			if t.last < s.first || s.last < t.first {
				continue
			}
			if s.first < t.first {
				left = append(left, span{s.first, t.first - 1})
			}
			s.first = t.last + 1
		}
		if s.first <= s.last {
			left = append(left, s)
		}
	}
	return left
}

// listSpans returns "30000-30999, 31500".
func listSpans(spans []span) string {
	var texts []string
	for i, s := range spans {
		if i == maxListed {
			texts = append(texts, "…")
			break
		}
		texts = append(texts, s.String())
	}
	return strings.Join(texts, ", ")
}

// described is what the manifests tell of a namespace.
type described struct {
	annotated bool
	// file, line and column are where it is described first.
	file         string
	line, column int
}

// namespaceObject compares the annotation of a Namespace with what is reserved for it.
func (f *file) namespaceObject(v value) {
	at := f.get(v, "metadata", "name")
	if f.ranges.registry == nil || at.text() == "" || filledIn(at.text()) {
		return
	}
	name := at.text()
	known, seen := f.namespaces[name]
	if !seen {
		known = &described{file: f.name, line: f.before + at.place().Line, column: at.place().Column}
		f.namespaces[name] = known
	}
	annotation := f.get(v, "metadata", "annotations", rangeAnnotation)
	if !annotation.exists() || annotation.node.Tag == "!!null" {
		return
	}
	known.annotated = true
	if filledIn(annotation.text()) {
		f.skipValue(annotation, "annotation %s of Namespace %s is filled in by a template: not compared with %s", rangeAnnotation, shown(name), f.ranges.registry.File())
		return
	}
	given, ok := parseSpans(annotation.text())
	own := f.ranges.of(name)
	reserved := spansOf(own)
	more, less := without(given, reserved), without(reserved, given)
	switch {
	case annotation.node.Tag != "!!str" && ok:
		f.find(annotation, "annotation %s of Namespace %s is a number, which Kubernetes does not take: want %q", rangeAnnotation, shown(name), annotation.text())
	case !ok:
		f.find(annotation, "annotation %s of Namespace %s cannot be read: want ports and ranges of ports from 1 to 65535, such as 30000-30499,31500", rangeAnnotation, shown(name))
	case len(own) == 0:
		f.find(annotation, "annotation %s gives Namespace %s %s, but %s reserves nothing for it: want the two to be the same", rangeAnnotation, shown(name), listSpans(given), f.ranges.registry.File())
	case len(more) > 0 && len(less) > 0:
		f.find(annotation, "annotation %s gives Namespace %s %s, which is not reserved for it at %s:%d, and not %s, which is: want the two to be the same",
			rangeAnnotation, shown(name), listSpans(more), own[0].File, own[0].Line, listSpans(less))
	case len(more) > 0:
		f.find(annotation, "annotation %s gives Namespace %s %s, which is not reserved for it at %s:%d: want the two to be the same",
			rangeAnnotation, shown(name), listSpans(more), own[0].File, own[0].Line)
	case len(less) > 0:
		f.find(annotation, "annotation %s does not give Namespace %s %s, which is reserved for it at %s:%d: want the two to be the same",
			rangeAnnotation, shown(name), listSpans(less), own[0].File, own[0].Line)
	}
}

// unannotated tells of each Namespace that has no such annotation although ports are reserved for it, if others have one: who
// does not use the policy needs none.
func (c *checker) unannotated() {
	used := slices.ContainsFunc(slices.Collect(maps.Values(c.namespaces)), func(d *described) bool { return d.annotated })
	for name, d := range c.namespaces {
		if own := c.ranges.of(name); used && !d.annotated && len(own) > 0 {
			c.findings = append(c.findings, Finding{File: d.file, Line: d.line, Column: d.column, Text: fmt.Sprintf(
				"Namespace %s has no annotation %s, unlike others, and %s is reserved for it at %s:%d: want the two to be the same",
				shown(name), rangeAnnotation, listSpans(spansOf(own)), own[0].File, own[0].Line)})
		}
	}
}
