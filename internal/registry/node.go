//go:build linux

package registry

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
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
		return "a boolean"
	case "!!timestamp":
		return "a date"
	default:
		return "text"
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// keys are the keys of a mapping, in the order in which errors list them.
type keys []string

// field is a key of a mapping, with its value.
type field struct{ key, value *yaml.Node }

type fields []field

// get returns the value of a key, or nil.
func (f fields) get(key string) *yaml.Node {
	for i := range f {
		if f[i].key.Value == key {
			return f[i].value
		}
	}
	return nil
}

// mapping returns the fields of a mapping, and notes unknown and duplicate keys. A value under a misspelled key is returned under the
// right one, so that its faults are reported too.
func (r *report) mapping(n *yaml.Node, known keys, what, want string) (found fields, ok bool) {
	if n.Kind != yaml.MappingNode {
		r.addAt(r.placeOf(n), "%s is %s: %s", own(what), own(kindOf(n)), own(want))
		return nil, false
	}
	found = make(fields, 0, len(n.Content)/2)
	var guessed fields
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], within(n, n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode:
			r.at(key, "a key is %s: want one of %s", own(kindOf(key)), strings.Join(known, ", "))
		case strings.HasPrefix(key.Value, "x-"): // of the user's own, such as a place for anchors
		case !slices.Contains(known, key.Value):
			if section := known.elsewhere(key.Value); section != "" {
				r.at(key, "key %s belongs %s: here, want one of %s", wording.Quoted(key.Value), own(section), own(strings.Join(known, ", ")))
				continue
			}
			meant := known.nearest(key.Value)
			if meant == "" {
				r.at(key, "unknown key %s: want one of %s", wording.Quoted(key.Value), strings.Join(known, ", "))
				continue
			}
			r.at(key, "unknown key %s: did you mean %q?", wording.Quoted(key.Value), meant)
			guessed = append(guessed, field{&yaml.Node{Value: meant}, value})
		default:
			if first := slices.IndexFunc(found, func(f field) bool { return f.key.Value == key.Value }); first >= 0 {
				r.at(key, "duplicate key %s: already on line %d: want it once", wording.Quoted(key.Value), found[first].key.Line)
				continue
			}
			found = append(found, field{key, value})
		}
	}
	return append(found, guessed...), true
}

// elsewhere returns where a word is a key, if that is not here: "under services". A plural for a singular is a slip, no other key.
func (k keys) elsewhere(word string) string {
	if slices.ContainsFunc(k, func(key string) bool { return key+"s" == word || word+"s" == key }) {
		return ""
	}
	switch {
	case slices.Contains(rootKeys, word):
		return "at the start of a line"
	case slices.Contains(serviceKeys, word):
		return "under services"
	case slices.Contains(forbiddenKeys, word):
		return "under forbidden"
	case slices.Contains(reservedKeys, word):
		return "under reserved"
	}
	return ""
}

// nearest returns the key that a word most likely means, or nothing: one that starts like it, or has all but two of its letters.
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
		if differingLetters(key, word) <= 2 {
			return key
		}
	}
	return ""
}

// differingLetters counts the letters that only one of two words has, in any order.
func differingLetters(a, b string) int {
	difference := 0
	for _, letter := range a {
		rest := strings.Replace(b, string(letter), "", 1)
		if rest == b {
			difference++
		}
		b = rest
	}
	return difference + len(b)
}

// list returns the items of a list. It notes a fault if n is not a list, or is empty.
func (r *report) list(n *yaml.Node, key, want string) []*yaml.Node {
	switch {
	case n.Kind != yaml.SequenceNode:
		r.addAt(r.placeOf(n), "%s is %s: %s", own(key), own(kindOf(n)), own(want))
		return nil
	case len(n.Content) == 0:
		r.at(n, "%s is an empty list: %s, or leave it out", own(key), own(want))
	}
	return parts(n)
}

// items returns the scalars of a value that is a scalar or a list of them.
func (r *report) items(n *yaml.Node, key, want string) []*yaml.Node {
	values := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		if values = parts(n); len(values) == 0 {
			r.at(n, "%s is an empty list: %s", own(key), own(want))
		}
	}
	var items []*yaml.Node
	for _, value := range values {
		switch {
		case value.Kind != yaml.ScalarNode, isNull(value):
			r.addAt(r.placeOf(value), "%s is %s: %s", own(key), own(kindOf(value)), own(want))
		default:
			items = append(items, value)
		}
	}
	return items
}

// text returns a scalar that is text.
func (r *report) text(n *yaml.Node, key, example string) (string, bool) {
	switch {
	case n.Style&yaml.TaggedStyle != 0: // noted as unsupported
		return "", false
	case n.Kind != yaml.ScalarNode, isNull(n):
		r.addAt(r.placeOf(n), "%s is %s: want text such as %s", own(key), own(kindOf(n)), own(example))
		return "", false
	case n.Tag != "!!str":
		r.addAt(r.placeOf(n), "%s is %s: want text, in quotes: %s", own(key), own(kindOf(n)), wording.Quoted(n.Value))
		return "", false
	}
	return n.Value, true
}

// name returns text that can be the value of a label.
func (r *report) name(n *yaml.Node, key, example string) (string, bool) {
	text, ok := r.text(n, key, example)
	if !ok {
		return "", false
	}
	if problem := checkName(text); problem != "" {
		r.at(n, "%s %s such as %s", own(key), problem, own(example))
		return "", false
	}
	return text, true
}

// prose returns text that may be empty and have several lines, as one line.
func (r *report) prose(n *yaml.Node, key, example string) string {
	text, _ := r.text(n, key, example)
	for _, c := range text {
		if kind := unprintable(c); kind != "" && c != '\n' && c != '\t' && !unicode.Is(unicode.Zs, c) {
			r.at(n, "%s contains the %s character %U: want printable text", own(key), own(kind), c)
			return ""
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

func (r *report) boolean(n *yaml.Node, key, want string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		found := kindOf(n)
		if found == "text" {
			found = wording.Quoted(n.Value)
		}
		r.addAt(r.placeOf(n), "%s is %s: %s", own(key), found, own(want))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// maxName is how many bytes a name may have: it becomes the value of a label.
const maxName = 200

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
			return fmt.Sprintf("contains the %s character %U: want printable text", kind, r)
		}
	}
	return ""
}

// unprintable returns the kind of a character that nobody can see, or nothing. Such characters can reverse the text after
// them, or make two names look the same. U+200C and U+200D, which join letters or keep them apart, are part of some scripts.
func unprintable(r rune) string {
	switch {
	case unicode.IsControl(r):
		return "control"
	case unicode.IsPrint(r), r == '\u200c', r == '\u200d':
		return ""
	}
	return "invisible"
}
