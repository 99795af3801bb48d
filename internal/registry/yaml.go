//go:build linux

package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

const (
	// maxSize is how many bytes the files of a registry may have together.
	maxSize = 10 << 20
	// maxValues limits the memory for a file: the parser needs some 200 bytes for each value. 65 535 services with every key
	// and some hosts each have 1 300 000 (see tooManyValues).
	maxValues = 2_000_000
)

const noServices = "has no services: want at least services: or reserved:"

// document returns the root of the YAML document in data, or nil with a fault if there is none.
func (r *report) document(data []byte) *yaml.Node {
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
		if c := data[i]; c >= ' ' && c < 0x7f {
			i++
			continue
		}
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

// expansion replaces the aliases and merges of a file by what they bring in.
type expansion struct {
	*report
	sizes map[*yaml.Node]int // of each node with an anchor, with all that is in it; 0 while that is being expanded
	size  int                // of all that was expanded
}

// expand replaces each alias by what it is an alias of, and each merge ("<<: *defaults") by the keys that it adds. It notes tags, which
// are not supported. It reports whether the result is small enough to be read.
//
// What takes the place of an alias is a copy whose field Alias is the alias. It keeps its own place in the file, where its faults are.
func (r *report) expand(root *yaml.Node) bool {
	e := expansion{report: r, sizes: make(map[*yaml.Node]int)}
	return e.expand(root)
}

func (e *expansion) expand(n *yaml.Node) bool {
	before := e.size
	e.size++
	if n.Anchor != "" {
		e.sizes[n] = 0
	}
	if n.Style&yaml.TaggedStyle != 0 {
		e.at(n, "tag %s is not supported: want the value itself, in quotes if it begins with !", wording.Quoted(n.Tag))
	}
	for i, child := range n.Content {
		switch {
		case child.Kind != yaml.AliasNode:
			if !e.expand(child) {
				return false
			}
		case e.sizes[child.Alias] == 0:
			e.at(child, "alias *%s is within its own anchor: want the value itself", child.Value)
			n.Content[i] = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: child.Line, Column: child.Column}
		default:
			if e.size += e.sizes[child.Alias]; e.size > maxValues {
				e.at(child, "with alias *%s there are more than %d values: want fewer aliases", child.Value, maxValues)
				return false
			}
			n.Content[i] = new(*child.Alias)
			n.Content[i].Alias = child
		}
	}
	if n.Kind == yaml.MappingNode {
		e.merge(n)
	}
	if n.Anchor != "" {
		e.sizes[n] = e.size - before
	}
	return true
}

// merge replaces the key << of a mapping. The mapping's own keys count first, then those of the first mapping that is merged.
func (e *expansion) merge(n *yaml.Node) {
	isMerge := func(key *yaml.Node) bool { return key.Tag == "!!merge" }
	if !slices.ContainsFunc(n.Content, isMerge) {
		return
	}
	var content, merged []*yaml.Node
	has := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case !isMerge(key):
			content, has[key.Value] = append(content, key, value), true
		case value.Kind == yaml.SequenceNode:
			merged = append(merged, parts(value)...)
		default:
			merged = append(merged, value)
		}
	}
	for _, m := range merged {
		if m.Kind != yaml.MappingNode {
			e.at(m, `"<<" is %s: want an alias of a mapping, or a list of them`, own(kindOf(m)))
			continue
		}
		for i := 0; i+1 < len(m.Content); i += 2 {
			if key := m.Content[i]; !has[key.Value] {
				content, has[key.Value] = append(content, key, within(m, m.Content[i+1])), true
			}
		}
	}
	n.Content = content
}

// parts returns the items of a list.
func parts(n *yaml.Node) []*yaml.Node {
	if n.Alias == nil {
		return n.Content
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = within(n, item)
	}
	return items
}

// within returns a part of n. What is within an alias's value is there by that alias too.
func within(n, part *yaml.Node) *yaml.Node {
	if n.Alias == nil {
		return part
	}
	copied := new(*part)
	copied.Alias = n.Alias
	return copied
}

// placeOf returns where the file has a value: if it is there by an alias, the place of the alias.
func (r *report) placeOf(n *yaml.Node) place {
	if n.Alias != nil {
		n = n.Alias
	}
	return place{r.file, n.Line, n.Column}
}
