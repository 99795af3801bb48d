//go:build linux

package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSteps limits the time for a file whose aliases make much of little: a file of maxValues values without aliases takes fewer.
// maxDepth does so for a value that contains itself.
const (
	maxSteps = 4 * maxValues
	maxDepth = 1000
)

// tree looks into the nodes of a file. Aliases and merges are followed.
type tree struct {
	steps, depth int
	// excessive is the place at which aliases made too much.
	excessive place
}

// resolve returns what an alias stands for, and nil for null.
func (t *tree) resolve(n *yaml.Node) *yaml.Node {
	t.steps++
	if n == nil || t.excessive.line > 0 {
		return nil
	}
	if t.steps > maxSteps || t.depth > maxDepth {
		t.excessive = place{n.Line, n.Column}
		return nil
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return n
}

// get returns the value of a key in a mapping, or nil. Of several it is the last one, which counts in Kubernetes.
func (t *tree) get(n *yaml.Node, key string) *yaml.Node {
	if n = t.resolve(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	t.depth++
	defer func() { t.depth-- }()
	for i := len(n.Content) - 2; i >= 0; i -= 2 {
		if n.Content[i].Value == key && n.Content[i].Kind == yaml.ScalarNode {
			return t.resolve(n.Content[i+1])
		}
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		merged := []*yaml.Node{n.Content[i+1]}
		if merged[0].Kind == yaml.SequenceNode {
			merged = merged[0].Content
		}
		for _, m := range merged {
			if value := t.get(m, key); value != nil {
				return value
			}
		}
	}
	return nil
}

// path returns the value at the end of several keys.
func (t *tree) path(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		n = t.get(n, key)
	}
	return n
}

// list returns the items of a list, without those that a patch deletes.
func (t *tree) list(n *yaml.Node, keys ...string) (items []*yaml.Node) {
	if n = t.resolve(t.path(n, keys...)); n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	for _, item := range n.Content {
		if item = t.resolve(item); item != nil && t.value(item, "$patch").text != "delete" {
			items = append(items, item)
		}
	}
	return items
}

// value is a scalar and its place. It is the zero value if the scalar is absent or null.
type value struct {
	place
	// text is empty if the value is a list or a mapping.
	text   string
	tag    string
	quoted bool
}

// value returns the value at the end of several keys.
func (t *tree) value(n *yaml.Node, keys ...string) value {
	if n = t.resolve(t.path(n, keys...)); n == nil {
		return value{}
	}
	v := value{place: place{n.Line, n.Column}, tag: n.Tag}
	switch {
	case n.Kind == yaml.ScalarNode:
		v.text, v.quoted = n.Value, n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
	case n.Style&yaml.FlowStyle != 0 && len(n.Content) > 0 && n.Content[0].Kind == n.Kind && n.Kind == yaml.SequenceNode:
		v.text = "[[ ]]" // a template, without quotes
	case n.Style&yaml.FlowStyle != 0 && n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[1].Tag == "!!null":
		v.text = "{ }" // likewise
	}
	return v
}

func (v value) exists() bool { return v.line > 0 }

// isTrue reports whether a value is true, as Kubernetes reads it: yes and on are true as well, but not in quotes.
func (v value) isTrue() bool {
	switch strings.ToLower(v.text) {
	case "true", "yes", "on", "y":
		return !v.quoted
	}
	return false
}

// isFalse reports whether a value is false, as Kubernetes reads it.
func (v value) isFalse() bool {
	switch strings.ToLower(v.text) {
	case "false", "no", "off", "n":
		return !v.quoted
	}
	return false
}

// prepare makes the places of nodes those of the file, and values that a template fills in ones that are not null. It returns the
// line of the first template that YAML reads as a mapping with a mapping as a key.
func prepare(n *yaml.Node, c chunk) (template int) {
	if n.Line == 1 {
		n.Column += c.indent
	}
	n.Line += c.before
	for i, child := range n.Content {
		switch {
		case n.Kind != yaml.MappingNode:
		case i%2 == 0 && child.Kind == yaml.MappingNode:
			return n.Line
		case i%2 == 1 && child.Tag == "!!null" && comment.Get().MatchString(n.Content[i-1].LineComment):
			child.Tag, child.Value = "!!str", "#{ }"
		}
		if template := prepare(child, c); template > 0 {
			return template
		}
	}
	return 0
}
