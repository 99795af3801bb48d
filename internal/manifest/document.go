package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// file checks the content of a file.
func (c *checker) file(r *report, data []byte, isJSON bool) {
	chunks := split
	if isJSON {
		data = jsonEscape().ReplaceAllFunc(data, yamlEscape)
		chunks = splitJSON
	}
	type document struct {
		chunk
		objects []object
		err     error
	}
	var documents []document
	for _, chunk := range chunks(data) {
		objects, template, err := chunk.read()
		if template > 0 {
			r.skip(template, "is a template, not YAML: want what it renders to, as helm template prints it")
			return
		}
		documents = append(documents, document{chunk, objects, err})
	}
	for _, doc := range documents {
		if doc.err != nil {
			line, problem := doc.explain(doc.err)
			problem = wording.Printable(problem)
			if likeManifest().Match(doc.text) {
				r.find(place{line, 1}, "is not YAML: %s: want a manifest that kubectl can read", problem)
			} else {
				r.skip(line, "is not YAML: %s", problem)
			}
		}
		for i := range doc.objects {
			c.object(r, &doc.objects[i], "", "")
		}
	}
}

// maxValues bounds the memory that a file costs: the YAML library keeps about 200 bytes for each value.
const maxValues = 2_000_000

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
	// before is how many lines of the file come before it.
	before int
}

// marker matches a line that begins a document, wherever it is (YAML 1.2.2, 9.1.2).
var marker = wording.Regexp(`^---(?:\s|$)`)

// split returns the parts of a file that begin with "---".
func split(data []byte) []chunk {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var chunks []chunk
	start, before, at, line := 0, 0, 0, 0
	for text := range bytes.Lines(data) {
		if at > start && marker().Match(text) {
			chunks = append(chunks, chunk{data[start:at], before})
			start, before = at, line
		}
		at, line = at+len(text), line+1
	}
	return append(chunks, chunk{data[start:], before})
}

// maxObjects is how many JSON objects a file may have one after the other: each costs a parser.
const maxObjects = 10_000

// splitJSON is split for a file of JSON, which may have several objects with nothing between them, as kubectl accepts.
func splitJSON(data []byte) []chunk {
	var chunks []chunk
	decoder := json.NewDecoder(bytes.NewReader(data))
	for start, before := 0, 0; ; {
		var object json.RawMessage
		switch err := decoder.Decode(&object); {
		case errors.Is(err, io.EOF) && len(chunks) > 1:
			return chunks
		case err != nil, object[0] != '{', len(chunks) == maxObjects:
			return split(data)
		}
		end := int(decoder.InputOffset())
		chunks = append(chunks, chunk{data[start:end], before})
		before += bytes.Count(data[start:end], []byte("\n"))
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

// read decodes the documents of the chunk: most often one, but "..." ends a document too. template is the line of the file at
// which it is a template, or 0.
func (c chunk) read() (objects []object, template int, err error) {
	// The YAML library has had inputs at which it panics. One such file must not hide the others.
	defer func() {
		if problem := recover(); problem != nil {
			objects, template, err = nil, 0, fmt.Errorf("yaml: %v", problem)
		}
	}()
	if c.blank() {
		return nil, 0, nil
	}
	parser := yaml.NewDecoder(bytes.NewReader(c.text))
	for {
		var document yaml.Node
		switch err := parser.Decode(&document); {
		case errors.Is(err, io.EOF):
			return objects, 0, nil
		case err != nil:
			return nil, c.markLine(), err
		}
		if template := prepare(&document, c.before); template > 0 {
			return nil, template, nil
		}
		var o object
		// A TypeError leaves out the fields of another type than expected.
		if err := document.Decode(&o); err != nil && !errors.As(err, new(*yaml.TypeError)) {
			return nil, 0, err
		}
		objects = append(objects, o)
	}
}

// likeManifest matches what is meant for Kubernetes, even if it is not YAML.
var likeManifest = wording.Regexp(`(?m)(?:^|[{,])\s*"?(?:kind|apiVersion)"?\s*:`)

// yamlError matches the errors of the YAML library.
var yamlError = wording.Regexp(`^yaml: (?:line (\d+): )?((?s:.*))`)

// explain returns the line of the file that err names, or else the first line of the chunk, and what is wrong.
func (c chunk) explain(err error) (line int, problem string) {
	m := yamlError().FindStringSubmatch(err.Error())
	if m == nil {
		return c.before + 1, err.Error()
	}
	line, _ = strconv.Atoi(m[1])
	return c.before + max(1, min(line, 1+bytes.Count(c.text, []byte("\n")))), m[2]
}

// mark matches what begins an expression in the templates of Helm, Jinja and ERB. In YAML it may be in quotes only, or in text.
var mark = wording.Regexp(`\{\{|\{%|<%`)

// markLine returns the line of the file that has the chunk's first mark of a template, or 0.
func (c chunk) markLine() int {
	at := mark().FindIndex(c.text)
	if at == nil {
		return 0
	}
	return c.before + 1 + bytes.Count(c.text[:at[0]], []byte("\n"))
}

// filledIn reports whether a template fills in a value: a template in quotes, envsubst, Kustomize or OpenShift.
func filledIn(text string) bool {
	return mark().MatchString(text) || strings.Contains(text, "${") || strings.Contains(text, "$(")
}
