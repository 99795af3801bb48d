//go:build linux

package manifest

import (
	"bytes"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// placeholder matches a value that is still to be filled in, by whatever fills in ${A}, $(A), $A, @A@, __A__, <A>, %A%, #{A}, [[A]],
// ((A)) or {A}.
var placeholder = wording.Regexp(
	`\{\{|\{%|<%|\$\{|\$\(|\[\[|\(\(|#\{|\$[A-Za-z_]|@[\w.-]+@|__[\w.-]+__|<[^<>]*[A-Za-z][^<>]*>|%[\w.-]+%|[%@]\{|%\(\w+\)|^\{.*\}$`)

// filledIn reports whether something fills in a value.
func filledIn(text string) bool { return placeholder.Get().MatchString(text) }

// capitals matches the placeholder of a script that replaces words. No port and no namespace is written so.
var capitals = wording.Regexp(`^[A-Z][A-Z0-9_]*$`)

// structural matches a template where YAML has a key or the start of a value, so that it is not YAML.
var structural = wording.Regexp(
	`^[ \t]*(?:- +)?(?:\{\{|\{%|<%)|[:-][ \t]+(?:\{\{|\{%|<%|@[\w.-]+@|@[@{]|%[\w.%-]+%|%\(\w+\)|%\{|\(\(|\[\[)`)

// inLine matches a template in a line that is not YAML. ${A} breaks flow mappings, and JSON.
var inLine = wording.Regexp(`\{\{|\{%|<%|:[ \t]*\$\{[\w.]+\}`)

// comment matches a placeholder that YAML reads as a comment, so that the value is null: of Ruby, of ytt, or of a script.
var comment = wording.Regexp(`^#(?:\{|@ |[A-Z][A-Z0-9_]*#)`)

// blockScalar matches a line after which text is indented, in which YAML has no structure.
var blockScalar = wording.Regexp(`(?:^|[\s:-])[|>][-+0-9]*\s*(?:#.*)?$`)

// control matches a condition, a loop or a section of a template.
var control = wording.Regexp(`\{\{[-~]?\s*(?:(?:if|range|with|define|block|else|end)\b|[#^]|/[^*])|\{%|<%`)

// templateAt returns the line of the file at which a chunk that is not YAML is a template, or 0: the first one, but not after that
// of the fault.
func (c chunk) templateAt(fault int) (template int) {
	number, text := c.before, -1 // of the line, and by how much the text of a block scalar is indented at least
	for line := range bytes.Lines(c.text) {
		number++
		indent := len(line) - len(bytes.TrimLeft(line, " "))
		if blank := len(bytes.TrimSpace(line)) == 0; text >= 0 && (blank || indent >= text) {
			continue
		}
		switch text = -1; {
		case number > fault:
			return 0
		case structural.Get().Match(line), number == fault && inLine.Get().Match(line):
			return number
		case blockScalar.Get().Match(line):
			text = indent + 1
		}
	}
	return 0
}
