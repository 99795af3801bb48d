package manifest

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

const (
	// maxSteps bounds the work on one file: a file without aliases takes a few for each value, and one with aliases may take any
	// number.
	maxSteps = 10 * maxValues
	// maxFindings bounds the report of one file, as for a registry's.
	maxFindings = 1000
)

// file is the file under check.
type file struct {
	*checker
	name string
	// before is how many lines come before the chunk that is looked at.
	before int
	// steps is how many are left.
	steps int
	// findings and skips count what was told of it.
	findings, skips int
}

// step takes n steps, and tells whether that many were left.
func (f *file) step(n int) bool {
	f.steps -= n
	return f.steps >= 0
}

// find tells a finding at a value.
func (f *file) find(v value, format string, args ...any) {
	at := v.place()
	f.findAt(f.before+at.Line, at.Column, format, args...)
}

func (f *file) findAt(line, column int, format string, args ...any) {
	f.findings++
	text := ""
	switch {
	case f.findings > maxFindings+1:
		return
	case f.findings > maxFindings:
		text = fmt.Sprintf("more than %d findings: the others are not told: want these put right first", maxFindings)
	default:
		text = fmt.Sprintf(format, args...)
	}
	f.checker.findings = append(f.checker.findings, Finding{File: f.name, Line: line, Column: column, Text: text})
}

// skipValue tells that a value was not checked.
func (f *file) skipValue(v value, format string, args ...any) {
	if f.skips++; f.skips <= maxFindings {
		f.skip(f.name, f.before+v.place().Line, fmt.Sprintf(format, args...))
	}
}

// file checks the content of the file that is shown as name.
func (c *checker) file(name string, data []byte) {
	if tooManyValues(data) {
		c.skip(name, 1, fmt.Sprintf("has more than %d values, the most that are read: want it in shorter files", maxValues))
		return
	}
	chunks := split
	if strings.HasSuffix(strings.ToLower(name), ".json") {
		data = jsonEscape.ReplaceAllFunc(data, yamlEscape)
		chunks = splitJSON
	}
	f := &file{checker: c, name: registry.PrintablePath(name), steps: maxSteps}
	type part struct {
		chunk
		roots []*yaml.Node
		err   error
	}
	var parts []part
	for _, chunk := range chunks(data) {
		if chunk.blank() {
			continue
		}
		roots, err := chunk.documents()
		template := 0
		if err != nil {
			template = chunk.markLine()
		}
		for _, root := range roots {
			if at := templated(root); at != nil {
				template = chunk.before + at.Line
				break
			}
		}
		if template > 0 {
			c.skip(name, template, "is a template, not YAML: want what it renders to, as helm template prints it")
			return
		}
		parts = append(parts, part{chunk, roots, err})
	}
	for _, p := range parts {
		switch line, message := 0, ""; {
		case p.err == nil:
			f.before = p.before
			for _, root := range p.roots {
				f.object(value{}.child(root), "", "", maxLists)
			}
		case likeManifest.Match(p.text):
			line, message = p.place(p.err)
			f.findAt(line, 1, "is not YAML: %s: want a manifest that kubectl can read", registry.Printable(message))
		default:
			line, message = p.place(p.err)
			c.skip(name, line, fmt.Sprintf("is not YAML: %s", registry.Printable(message)))
		}
	}
	if f.steps < 0 {
		c.findings = append(c.findings, Finding{
			File: f.name, Line: 1, Column: 1, Text: "its aliases make more of it than is looked at: not checked to its end: want it without aliases",
		})
	}
}
