package manifest

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// value is a node of a document, or nothing.
type value struct {
	node *yaml.Node
	// via is the alias through which it was reached first, if through any: that is where its reader finds it.
	via *yaml.Node
}

func (v value) exists() bool { return v.node != nil }

func (v value) place() *yaml.Node {
	if v.via != nil {
		return v.via
	}
	return v.node
}

// child returns what n is, seen from v.
func (v value) child(n *yaml.Node) value {
	via := v.via
	if n != nil && n.Kind == yaml.AliasNode {
		if via == nil {
			via = n
		}
		n = n.Alias
	}
	return value{n, via}
}

// maxMerges is how many << may lead from one mapping to the next.
const maxMerges = 10

// get returns what a mapping has under a path of keys, or nothing.
func (f *file) get(v value, keys ...string) value {
	for _, key := range keys {
		v = f.field(v, key, maxMerges)
	}
	return v
}

// field returns what a mapping has under a key, or what a mapping that is merged into it has.
func (f *file) field(v value, key string, merges int) value {
	if !v.exists() || v.node.Kind != yaml.MappingNode || !f.step(1+len(v.node.Content)/2) {
		return value{}
	}
	// The last one of several counts, as for Kubernetes.
	for i := len(v.node.Content) - 2; i >= 0; i -= 2 {
		if name := v.node.Content[i]; name.Kind == yaml.ScalarNode && name.Value == key && name.Tag != "!!merge" {
			return v.child(v.node.Content[i+1])
		}
	}
	if merges == 0 {
		return value{}
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if v.node.Content[i].Tag != "!!merge" {
			continue
		}
		merged := v.child(v.node.Content[i+1])
		sources := []value{merged}
		if merged.exists() && merged.node.Kind == yaml.SequenceNode {
			sources = f.items(merged)
		}
		for _, source := range sources {
			if found := f.field(source, key, merges-1); found.exists() {
				return found
			}
		}
	}
	return value{}
}

// items returns the items of a list, or none of what is no list.
func (f *file) items(v value) []value {
	if !v.exists() || v.node.Kind != yaml.SequenceNode || !f.step(1+len(v.node.Content)) {
		return nil
	}
	items := make([]value, len(v.node.Content))
	for i, item := range v.node.Content {
		items[i] = v.child(item)
	}
	return items
}

// text returns a scalar's value, or nothing for null and for what is no scalar.
func (v value) text() string {
	if !v.exists() || v.node.Kind != yaml.ScalarNode || v.node.Tag == "!!null" {
		return ""
	}
	return v.node.Value
}

// truth tells whether a value is true, as Kubernetes reads it: yes and on are true as well, but not in quotes.
func (v value) truth() bool {
	if !v.exists() || v.node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		return false
	}
	switch strings.ToLower(v.text()) {
	case "true", "yes", "on", "y":
		return true
	}
	return false
}

// maxShown is how much of a name or value is shown, in bytes.
const maxShown = 60

// shown returns a name as it is, or in quotes if it could be taken for something else on a terminal.
func shown(name string) string {
	if name != "" && len(name) <= maxShown && strings.IndexFunc(name, unusual) < 0 {
		return name
	}
	if cut := maxShown; len(name) > cut {
		for cut > 0 && !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut] + "…"
	}
	return strconv.Quote(name)
}

func unusual(r rune) bool {
	return r != '-' && r != '.' && r != ':' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}
