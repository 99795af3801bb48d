package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxSize is how many bytes of a file are read. Kubernetes takes objects of 1.5 MiB at most, which is etcd's limit.
	maxSize = 10 << 20
	// maxValues bounds the memory that a file costs: the library keeps about 200 bytes for each value.
	maxValues = 2_000_000
)

// read returns the content of a file, unless it is too large.
func read(fsys fs.FS, name string) (data []byte, tooLarge bool, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, false, reason(err)
	}
	defer func() { _ = f.Close() }()
	if data, err = io.ReadAll(io.LimitReader(f, maxSize+1)); err != nil {
		return nil, false, reason(err)
	}
	return data, len(data) > maxSize, nil
}

// reason returns an error without the name of the file, which is that within the directory.
func reason(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

// tooManyValues tells whether a file would cost too much memory. It counts the values that YAML's indicators stand for; in text
// they stand for none, so that it counts too many rather than too few.
func tooManyValues(data []byte) bool {
	count := 0
	for i, c := range data {
		switch c {
		case ',', '{':
			count++
		case '[':
			count += 2 // the list and its first item
		case '-', ':', '?':
			quotedKey := c == ':' && i > 0 && (data[i-1] == '"' || data[i-1] == '\'')
			if quotedKey || i+1 == len(data) || strings.IndexByte(" \t\r\n", data[i+1]) >= 0 {
				count++
				if c != '-' {
					count++ // a key and what it holds
				}
			}
		}
	}
	return count > maxValues
}

// chunk is a part of a file that begins with --- or is the first.
type chunk struct {
	text []byte
	// before is how many lines of the file come before it.
	before int
}

// split returns the parts of a file that are parsed each by itself, so that a bad one does not hide the others. A line that
// begins with --- begins a document wherever it stands (YAML 1.2.2, 9.1.2).
func split(data []byte) []chunk {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var chunks []chunk
	start, before, line := 0, 0, 0
	for at := 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if text := data[at:end]; at > start && bytes.HasPrefix(text, []byte("---")) && (len(text) == 3 || strings.IndexByte(" \t\r\n", text[3]) >= 0) {
			chunks = append(chunks, chunk{data[start:at], before})
			start, before = at, line
		}
		at = end
	}
	return append(chunks, chunk{data[start:], before})
}

// maxObjects is how many objects a file of JSON may have behind each other: each costs a parser.
const maxObjects = 10_000

// splitJSON is split for a file of JSON, which may have several objects behind each other with nothing between them.
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

// blank tells whether there is nothing in the chunk but comments and directives.
func (c chunk) blank() bool {
	for line := range bytes.Lines(c.text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

// documents returns the roots of the YAML documents in the chunk: most often one, but ... ends a document too.
func (c chunk) documents() (roots []*yaml.Node, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			roots, err = nil, fmt.Errorf("yaml: %v", problem)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(c.text))
	for {
		var document yaml.Node
		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return roots, nil
		case err != nil:
			return nil, err
		}
		roots = append(roots, document.Content...)
	}
}

// How the YAML library tells its errors.
var (
	syntaxError   = regexp.MustCompile(`^yaml: (?:line (\d+): )?((?s:.*))`)
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// place returns the line of the file that err names, or else the first line of the chunk, and what it says.
func (c chunk) place(err error) (line int, message string) {
	m := syntaxError.FindStringSubmatch(err.Error())
	if m == nil {
		return c.before + 1, err.Error()
	}
	line, lineErr := strconv.Atoi(m[1])
	if lineErr != nil || line < 1 {
		line = 1
		// Some come without a line, and a tab with that of what it belongs to.
		if anchor := unknownAnchor.FindStringSubmatch(m[2]); anchor != nil {
			before, _, _ := bytes.Cut(c.text, []byte("*"+anchor[1]))
			line += bytes.Count(before, []byte("\n"))
		}
	}
	if strings.Contains(m[2], "tab character") {
		line += c.linesToTab(line)
	}
	return c.before + min(line, 1+bytes.Count(c.text, []byte("\n"))), m[2]
}

// linesToTab returns how many lines come between a line of the chunk and the next one that a tab indents.
func (c chunk) linesToTab(from int) int {
	number := 0
	for line := range bytes.Lines(c.text) {
		if number++; number >= from && bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("\t")) {
			return number - from
		}
	}
	return 0
}

// mark is what Helm's, Jinja's and ERB's templates have in them. In YAML it may stand in quotes only, or in text.
var mark = regexp.MustCompile(`\{\{|\{%|<%`)

// markLine returns the line of the file where the chunk's first mark of a template stands, or 0 if there is none.
func (c chunk) markLine() int {
	at := mark.FindIndex(c.text)
	if at == nil {
		return 0
	}
	return c.before + 1 + bytes.Count(c.text[:at[0]], []byte("\n"))
}

// templated returns the first node that is what {{ … }} is as YAML, or nil: a mapping with a mapping for a key.
func templated(n *yaml.Node) *yaml.Node {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.MappingNode {
			return n
		}
		if found := templated(child); found != nil {
			return found
		}
	}
	return nil
}

// filledIn tells whether a value is to be filled in: by a template in quotes, by envsubst, or by Kustomize or OpenShift.
func filledIn(value string) bool {
	return mark.MatchString(value) || strings.Contains(value, "${") || strings.Contains(value, "$(")
}

// likeManifest tells that something that is not YAML is meant for Kubernetes.
var likeManifest = regexp.MustCompile(`(?m)(?:^|[{,])\s*"?(?:kind|apiVersion)"?\s*:`)

// jsonEscape is an escape sequence of JSON, or half of one.
var jsonEscape = regexp.MustCompile(`\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)`)

// yamlEscape returns what the YAML library takes for an escape of JSON that it does not know: half a character, or a slash. It is
// as long, and not quite the same, but neither stands in what is looked at.
func yamlEscape(escape []byte) []byte {
	switch {
	case len(escape) == len(`\ufffd`):
		return []byte(`\ufffd`)
	case string(escape) == `\/`:
		return []byte("//")
	}
	return escape
}
