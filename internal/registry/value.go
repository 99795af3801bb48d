package registry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxName is how many bytes a name may have: it becomes the value of a label.
	maxName = 200
	// maxRequired is how many ports one service may require: each is a series.
	maxRequired = 1000
	// maxHostGlob is the most that a host name has (RFC 1035, 2.3.4).
	maxHostGlob = 253
)

// kindOf names what a node is, as people say it.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	switch n.Tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a truth value"
	case "!!timestamp":
		return "a date"
	default:
		return "text"
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// isAlias tells that a node has been noted already as what is not supported.
func isAlias(n *yaml.Node) bool { return n.Kind == yaml.AliasNode }

// mapping returns the values of a mapping by their keys, and notes keys that are unknown or stand there twice.
func (p *parser) mapping(n *yaml.Node, known keys, what, want string) (fields map[string]*yaml.Node, ok bool) {
	if isAlias(n) {
		return nil, false
	}
	if n.Kind != yaml.MappingNode {
		p.at(n, "%s is %s: %s", what, kindOf(n), want)
		return nil, false
	}
	fields = make(map[string]*yaml.Node, len(n.Content)/2)
	lines := make(map[string]int, len(n.Content)/2)
	guessed := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case isAlias(key):
		case key.Kind != yaml.ScalarNode:
			p.at(key, "a key is %s: want one of %s", kindOf(key), strings.Join(known, ", "))
		case key.Tag == "!!merge":
			p.at(key, `unknown key "<<": merging is not supported: write the keys out`)
		case !slices.Contains(known, key.Value):
			meant := known.nearest(key.Value)
			if meant == "" {
				p.at(key, "unknown key %s: want one of %s", quoted(key.Value), strings.Join(known, ", "))
				continue
			}
			p.at(key, "unknown key %s: did you mean %q?", quoted(key.Value), meant)
			guessed[meant] = value
		case lines[key.Value] != 0:
			p.at(key, "duplicate key %s: it stands on line %d already", quoted(key.Value), lines[key.Value])
		default:
			fields[key.Value], lines[key.Value] = value, key.Line
		}
	}
	// What a wrong key holds is looked at too, so that all faults are told at once.
	for key, value := range guessed {
		if fields[key] == nil {
			fields[key] = value
		}
	}
	return fields, true
}

// nearest returns the key that was most likely meant by a word, or nothing.
func (k keys) nearest(word string) string {
	if word = strings.ToLower(strings.TrimSpace(word)); len(word) < 3 {
		return ""
	}
	for _, key := range k {
		if strings.HasPrefix(key, word) || strings.HasPrefix(word, key) {
			return key
		}
	}
	for _, key := range k {
		if distance(key, word) <= (len(key)+3)/4 {
			return key
		}
	}
	return ""
}

// distance counts what must be done to make one word of another: change, add or leave out a letter, or swap two neighbours.
func distance(a, b string) int {
	if len(b) > 2*len(a) {
		return len(b)
	}
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
		for j := range d[i] {
			switch {
			case i == 0:
				d[i][j] = j
			case j == 0:
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = 1 + min(d[i-1][j-1], d[i-1][j], d[i][j-1])
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					d[i][j] = min(d[i][j], 1+d[i-2][j-2])
				}
			}
		}
	}
	return d[len(a)][len(b)]
}

// list returns the items of a list, and notes what is none, or empty.
func (p *parser) list(n *yaml.Node, key, want string) []*yaml.Node {
	switch {
	case isAlias(n):
		return nil
	case n.Kind != yaml.SequenceNode:
		p.at(n, "%s is %s: %s", key, kindOf(n), want)
	case len(n.Content) == 0:
		p.at(n, "%s is an empty list: %s, or leave it out", key, want)
	}
	if n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// items returns the scalars of a value that is one or a list of them.
func (p *parser) items(n *yaml.Node, key, want string) []*yaml.Node {
	values := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		if values = n.Content; len(values) == 0 {
			p.at(n, "%s is an empty list: %s", key, want)
		}
	}
	var items []*yaml.Node
	for _, value := range values {
		switch {
		case isAlias(value):
		case value.Kind != yaml.ScalarNode, isNull(value):
			p.at(value, "%s is %s: %s", key, kindOf(value), want)
		default:
			items = append(items, value)
		}
	}
	return items
}

// text returns a scalar that is text.
func (p *parser) text(n *yaml.Node, key, example string) (string, bool) {
	switch {
	case isAlias(n), n.Style&yaml.TaggedStyle != 0: // noted already
		return "", false
	case n.Kind != yaml.ScalarNode, isNull(n):
		p.at(n, "%s is %s: want text such as %s", key, kindOf(n), example)
		return "", false
	case n.Tag != "!!str":
		p.at(n, "%s is %s: want text, in quotes: %q", key, kindOf(n), n.Value)
		return "", false
	}
	return n.Value, true
}

// name returns text that can be the value of a label and be shown on a line.
func (p *parser) name(n *yaml.Node, key, example string) (string, bool) {
	text, ok := p.text(n, key, example)
	if !ok {
		return "", false
	}
	if problem := checkName(text); problem != "" {
		p.at(n, "%s %s such as %s", key, problem, example)
		return "", false
	}
	return text, true
}

// checkName returns what is wrong with a name, or nothing.
func checkName(text string) string {
	if strings.TrimSpace(text) == "" {
		return "is empty: want text"
	}
	if !utf8.ValidString(text) {
		return "is not UTF-8: want text"
	}
	if len(text) > maxName {
		return fmt.Sprintf("has %d bytes: want at most %d,", len(text), maxName)
	}
	for _, r := range text {
		if kind := unprintable(r); kind != "" {
			return fmt.Sprintf("holds the %s character %U: want printable text", kind, r)
		}
	}
	return ""
}

// prose returns text that may be empty and have several lines.
func (p *parser) prose(n *yaml.Node, key string) string {
	text, _ := p.text(n, key, `"remote administration"`)
	for _, r := range text {
		if kind := unprintable(r); kind != "" && r != '\n' && r != '\t' && !unicode.Is(unicode.Zs, r) {
			p.at(n, "%s holds the %s character %U: want printable text", key, kind, r)
			return ""
		}
	}
	return strings.TrimSpace(text) // text in a block ends in a new line
}

func (p *parser) boolean(n *yaml.Node, key string) (value, ok bool) {
	if isAlias(n) {
		return false, false
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		said := kindOf(n)
		if said == "text" {
			said = quoted(n.Value)
		}
		p.at(n, "%s is %s: want true or false", key, said)
		return false, false
	}
	return strings.EqualFold(n.Value, "true"), true
}

func (p *parser) protos(n *yaml.Node) (protos [protocols]bool) {
	const want = "want tcp, udp, or a list of both"
	for _, item := range p.items(n, "proto", want) {
		switch proto := protoOf(item.Value); {
		case proto < 0 && protoOf(strings.ToLower(item.Value)) >= 0:
			p.at(item, "unknown proto %s: want %q", quoted(item.Value), strings.ToLower(item.Value))
		case proto < 0:
			p.at(item, "unknown proto %s: %s", quoted(item.Value), want)
		case protos[proto]:
			p.at(item, "proto %s stands in this list already: want it once", item.Value)
		default:
			protos[proto] = true
		}
	}
	return protos
}

// namespaceName is the form of a Kubernetes namespace's name (RFC 1123, 2.1).
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (p *parser) namespaces(n *yaml.Node) (names []string) {
	for _, item := range p.items(n, "namespaces", "want the names of Kubernetes namespaces: [team-alpha]") {
		name, ok := p.text(item, "a namespace", "team-alpha")
		switch {
		case !ok:
		case !namespaceName.MatchString(name):
			p.at(item, "%s is no Kubernetes namespace: want at most 63 of a-z, 0-9 and -, such as team-alpha", quoted(name))
		case slices.Contains(names, name):
			p.at(item, "namespace %s stands in this list already: want it once", name)
		default:
			names = append(names, name)
		}
	}
	return names
}
