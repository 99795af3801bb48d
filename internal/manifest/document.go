//go:build linux

package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// content checks the content of a file. made is what kustomizations make of it. sure is set if it must be a manifest.
func (c *checker) content(file string, data []byte, made []rendering, sure bool) {
	switch {
	case len(data) > maxSize:
		c.report.unread(file, place{1, 1}, "is larger than %d MiB: want it in smaller files", maxSize>>20)
		return
	case tooManyValues(data):
		c.report.unread(file, place{1, 1}, "has more than %d values: want it in smaller files", maxValues)
		return
	}
	c.report.Files++
	documents, bad, templates := parse(data, isJSON(file))
	for _, line := range templates {
		c.report.skip(file, line, "is a template, not YAML: want what it renders to, as helm template prints it")
		c.template(file)
	}
	for _, f := range bad {
		if sure || f.likely || !isJSON(file) && !strings.HasPrefix(path.Base(file), ".") {
			c.report.unread(file, place{f.Line, f.Column}, "%s", f.Text)
			continue
		}
		c.report.skip(file, f.Line, "%s", f.Text)
		c.count("non-YAML file", file)
	}
	t := &tree{}
	for _, root := range documents {
		c.document(t, file, root, made)
	}
	if at := t.excessive; at.line > 0 {
		c.report.unread(file, at, "YAML aliases make too much of this file, or a value contains itself: want it without aliases")
	}
}

func isJSON(file string) bool { return strings.EqualFold(path.Ext(file), ".json") }

// badChunk is why a part of a file is not YAML, or not JSON.
type badChunk struct {
	registry.Fault
	// likely is set if it is likely that it is meant for Kubernetes.
	likely bool
}

// parse returns the documents of a file, why parts of it could not be read, and the lines at which parts are templates. A file
// with a condition or a loop is a template as a whole, because that may be around any of its documents.
func parse(data []byte, json bool) (documents []*yaml.Node, bad []badChunk, templates []int) {
	for _, b := range ownLineBreaks {
		if bytes.Contains(data, []byte(b.is)) {
			data = bytes.ReplaceAll(data, []byte(b.is), []byte(b.becomes))
		}
	}
	chunks := split
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) || bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		chunks = splitJSON
	}
	for _, chunk := range chunks(data) {
		found, template, err := chunk.read()
		documents = append(documents, found...)
		if err != nil {
			fault := chunk.explain(err, json)
			if template = chunk.templateAt(fault.Line); template == 0 {
				bad = append(bad, badChunk{fault, likeManifest.Get().Match(chunk.text)})
			}
		}
		if template > 0 {
			templates = append(templates, template)
		}
	}
	if len(templates) > 0 && control.Get().Match(data) {
		return nil, nil, templates[:1]
	}
	return documents, bad, templates
}

// ownLineBreaks are characters with which YAML begins a line, but no editor does, and others of the same length.
var ownLineBreaks = [...]struct{ is, becomes string }{{"\u0085", "\u00a0"}, {"\u2028", "\ufffd"}, {"\u2029", "\ufffd"}}

// maxValues bounds the memory that a file costs: the YAML library keeps about 200 bytes for each value.
const maxValues = 1_000_000

func tooLarge(data []byte) bool { return len(data) > maxSize || tooManyValues(data) }

// tooManyValues reports whether a file may cost too much memory. It counts the values that YAML's indicators introduce, and those
// in text as well, so that it counts too many rather than too few.
func tooManyValues(data []byte) bool {
	count := 0
	for i, c := range data {
		isIndicator := i+1 == len(data) || data[i+1] <= ' '
		afterQuotes := i > 0 && (data[i-1] == '"' || data[i-1] == '\'')
		switch {
		case c == ',', c == '{', c == '-' && isIndicator:
			count++
		case c == '[', c == '?' && isIndicator, c == ':' && (isIndicator || afterQuotes):
			count += 2 // a list and its first item, or a key and its value
		}
	}
	return count > maxValues
}

// chunk is a part of a file that is parsed by itself, so that a bad one does not hide the others.
type chunk struct {
	text []byte
	// before is how many lines of the file come before it, indent how many characters of its first line.
	before, indent int
}

// marker matches a line that begins a document, wherever it is (YAML 1.2.2, 9.1.2).
var marker = wording.Regexp(`^---(?:\s|$)`)

// split returns the parts of a file that begin with "---".
func split(data []byte) []chunk {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var chunks []chunk
	start, before, at, line := 0, 0, 0, 0
	for text := range bytes.Lines(data) {
		if at > start && marker.Get().Match(text) {
			chunks = append(chunks, chunk{text: data[start:at], before: before})
			start, before = at, line
		}
		at, line = at+len(text), line+1
	}
	return append(chunks, chunk{text: data[start:], before: before})
}

// maxObjects is how many JSON objects a file may have one after the other: each costs a parser.
const maxObjects = 10_000

// splitJSON is split for a file of JSON, which may have several objects with nothing between them, as kubectl accepts.
func splitJSON(data []byte) []chunk {
	var chunks []chunk
	decoder := json.NewDecoder(bytes.NewReader(data))
	next := chunk{}
	for start := 0; ; {
		var object json.RawMessage
		switch err := decoder.Decode(&object); {
		case errors.Is(err, io.EOF) && len(chunks) > 0:
			return chunks
		case err != nil, len(chunks) == maxObjects:
			return split(data) // flow mappings of YAML
		}
		end := int(decoder.InputOffset())
		text := data[start:end]
		next.text = jsonEscape.Get().ReplaceAllFunc(text, yamlEscape)
		chunks = append(chunks, next)
		if lines := bytes.Count(text, []byte("\n")); lines > 0 {
			next.before, next.indent = next.before+lines, 0
		}
		next.indent += utf8.RuneCount(text[bytes.LastIndexByte(text, '\n')+1:])
		start = end
	}
}

// jsonEscape matches an escape sequence of JSON, or one half of a surrogate pair.
var jsonEscape = wording.Regexp(`\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)`)

// yamlEscape replaces an escape of JSON that the YAML library rejects, a surrogate or a slash, by one of the same length. The text
// is not the same, but no value that is checked has either.
func yamlEscape(escape []byte) []byte {
	switch {
	case len(escape) == len(`\ufffd`):
		return []byte(`\ufffd`)
	case string(escape) == `\/`:
		return []byte("//")
	}
	return escape
}

// blank reports whether the chunk has only comments and directives.
func (c chunk) blank() bool {
	for line := range bytes.Lines(c.text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

// definition reports whether the chunk defines a custom resource, in the form that tools write: most of what repositories have, and
// no part of it takes a port.
func (c chunk) definition() bool {
	before, after, found := bytes.Cut(c.text, []byte("\nkind: CustomResourceDefinition\n"))
	other := func(text []byte) bool {
		return bytes.Contains(text, []byte("\nkind:")) || bytes.Contains(text, []byte("\n..."))
	}
	return found && !other(before) && !other(after)
}

// read returns the documents of the chunk: most often one, but "..." ends a document too. template is the line of the file at
// which it is a template, or 0.
func (c chunk) read() (documents []*yaml.Node, template int, err error) {
	// The YAML library has had inputs at which it panics. One such file must not hide the others.
	defer func() {
		if problem := recover(); problem != nil {
			documents, template, err = nil, 0, fmt.Errorf("yaml: %v", problem)
		}
	}()
	if c.blank() || c.definition() {
		return nil, 0, nil
	}
	parser := yaml.NewDecoder(bytes.NewReader(c.text))
	for {
		var document yaml.Node
		switch err := parser.Decode(&document); {
		case errors.Is(err, io.EOF):
			return documents, 0, nil
		case err != nil:
			return nil, 0, err
		}
		if template := prepare(&document, c); template > 0 {
			return nil, template, nil
		}
		documents = append(documents, document.Content[0])
	}
}

// likeManifest matches what is meant for Kubernetes, even if it is not YAML.
var likeManifest = wording.Regexp(`(?m)(?:^|[{,])\s*"?(?:kind|apiVersion)"?\s*:`)

// likeJSON matches a key in the form of JSON.
var likeJSON = wording.Regexp(`[{,]\s*"[^"\n]*"\s*:`)

// explain returns what is wrong with the chunk, and where.
func (c chunk) explain(err error, isJSON bool) registry.Fault {
	var syntax *json.SyntaxError
	if isJSON || bytes.HasPrefix(bytes.TrimSpace(c.text), []byte("{")) && likeJSON.Get().Match(c.text) {
		_ = errors.As(json.Unmarshal(c.text, new(any)), &syntax)
	}
	fault := registry.Fault{}
	if syntax != nil {
		before := c.text[:min(int(syntax.Offset), len(c.text))]
		fault.Line = 1 + bytes.Count(before, []byte("\n"))
		fault.Column = max(1, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]))
		fault.Text = "is not JSON: " + wording.Printable(syntax.Error()) + ": want a manifest that kubectl can read"
	} else if fault = registry.SyntaxFault(c.text, err); !strings.HasPrefix(fault.Text, "is not YAML") {
		fault.Text = "is not YAML: " + fault.Text
	}
	fault.Line += c.before
	return fault
}
