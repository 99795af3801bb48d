package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

const (
	// maxSize is how many bytes a file may have.
	maxSize = 10 << 20
	// maxValues limits the memory for a file: the parser needs some 200 bytes for each value. 65 535 services with every key
	// and some hosts each have 1 300 000 (see tooManyValues).
	maxValues = 2_000_000
)

const noServices = "has no services: want at least services: or reserved:"

// document returns the root of the YAML document in data, or nil with a fault if there is none.
func (r *report) document(data []byte) *yaml.Node {
	if len(data) > maxSize {
		r.add(1, 1, "is larger than %d MiB: want a shorter file", maxSize>>20)
		return nil
	}
	if !r.isText(data) || r.tooManyValues(data) {
		return nil
	}
	first, second, err := decode(data)
	switch {
	case errors.Is(err, io.EOF):
		r.add(1, 1, noServices)
		return nil
	case err != nil:
		r.notYAML(data, err)
		return nil
	case second != nil:
		r.at(second, "a second YAML document begins here: want one document in a file")
	}
	root := first.Content[0]
	if isNull(root) {
		// An empty document's root has no place.
		root.Line, root.Column = first.Line, first.Column
	}
	return root
}

// decode returns the first YAML document of data, and the second one if there is one. It fails with io.EOF if there is none.
func decode(data []byte) (first, second *yaml.Node, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			first, second, err = nil, nil, fmt.Errorf("yaml: %v", problem)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var one, two yaml.Node
	if err := decoder.Decode(&one); err != nil {
		return nil, nil, err
	}
	switch err := decoder.Decode(&two); {
	case errors.Is(err, io.EOF):
		return &one, nil, nil
	case err != nil:
		return nil, nil, err
	}
	return &one, &two, nil
}

// isText reports whether data has only characters that YAML allows (YAML 1.2.2, 5.1). It notes the first other one, whose place
// the parser does not know.
func (r *report) isText(data []byte) bool {
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		problem := ""
		switch {
		case c == utf8.RuneError && size == 1:
			problem = fmt.Sprintf("byte 0x%02x is not UTF-8: want a text file in UTF-8", data[i])
		case c == '\ufeff' && i == 0: // a byte order mark
		case c < ' ' && c != '\t' && c != '\n' && c != '\r', c >= 0x7f && c < 0xa0 && c != 0x85, c == '\ufeff', c == 0xfffe, c == 0xffff:
			problem = fmt.Sprintf("%U is a control character: want printable text", c)
		}
		if problem != "" {
			line, column := placeAfter(data[:i])
			r.add(line, column, "%s", problem)
			return false
		}
		i += size
	}
	return true
}

// tooManyValues reports whether data has more values than fit into memory, and notes it. It counts YAML's indicators, in texts
// as well.
func (r *report) tooManyValues(data []byte) bool {
	count := 0
	for i, c := range data {
		switch c {
		case ',', ':', '-', '?', '[', '{':
			if count++; count > maxValues {
				line, column := placeAfter(data[:i])
				r.add(line, column, "more than %d values: want a shorter file", maxValues)
				return true
			}
		}
	}
	return false
}

// unsupported notes anchors, aliases and tags. The parser does not expand them.
func (r *report) unsupported(n *yaml.Node) {
	const want = "not supported: want the value itself, in quotes if it begins with"
	switch {
	case n.Kind == yaml.AliasNode:
		r.at(n, "alias *%s is %s *", n.Value, want)
		return
	case n.Anchor != "":
		r.at(n, "anchor &%s is %s &", n.Anchor, want)
	case n.Style&yaml.TaggedStyle != 0:
		r.at(n, "tag %s is %s !", wording.Quoted(n.Tag), want)
	}
	for _, child := range n.Content {
		r.unsupported(child)
	}
}
