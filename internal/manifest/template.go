package manifest

import (
	"bytes"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// placeholder matches a value that is still to be filled in, by whatever fills in ${A}, $(A), $A, @A@, __A__, <A>, %A%, #{A}, [[A]],
// ((A)) or {A}.
var placeholder = wording.Regexp(
	`\{\{|\{%|<%|\$\{|\$\(|\[\[|\(\(|#\{|\$[A-Za-z_]|@[\w.-]+@|__[\w.-]+__|<[^<>]*[A-Za-z][^<>]*>|%[\w.-]+%|%\(\w+\)|^\{.*\}$`)

// filledIn reports whether something fills in a value.
func filledIn(text string) bool { return placeholder().MatchString(text) }

// capitals matches the placeholder of a script that replaces words. No port and no namespace is written so.
var capitals = wording.Regexp(`^[A-Z][A-Z0-9_]*$`)

// structural matches a template where YAML has a key or the start of a value, so that it is not YAML.
var structural = wording.Regexp(
	`(?m)^[ \t]*(?:- +)?(?:\{\{|\{%|<%)|[:-][ \t]+(?:\{\{|\{%|<%|@[\w.-]+@|%[\w.%-]+%|%\(\w+\)|\(\(|\[\[)`)

// inLine matches a template in a line that is not YAML. ${A} breaks flow mappings, and JSON.
var inLine = wording.Regexp(`\{\{|\{%|<%|:[ \t]*\$\{[\w.]+\}`)

// comment matches a placeholder that YAML reads as a comment, so that the value is none.
var comment = wording.Regexp(`(?m)^[^#\n]*[:-][ \t]+#\{[\w.-]+\}`)

// control matches a condition, a loop or a section of a template.
var control = wording.Regexp(`\{\{[-~]?\s*(?:(?:if|range|with|define|block|else|end)\b|[#^]|/[^*])|\{%|<%`)

// templateAt returns the line at which a chunk that is not YAML is a template, or 0. fault is the line at which it is not YAML.
func (c chunk) templateAt(fault int) int {
	if at := structural().FindIndex(c.text); at != nil {
		return c.lineAt(at[0])
	}
	if inLine().Match(c.line(fault)) {
		return fault
	}
	return 0
}

// line returns a line of the file.
func (c chunk) line(number int) []byte {
	rest := c.text
	for range number - c.before - 1 {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return line
}

// lineAt returns the line of the file at an offset of the chunk.
func (c chunk) lineAt(offset int) int {
	return c.before + 1 + bytes.Count(c.text[:offset], []byte("\n"))
}
