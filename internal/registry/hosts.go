package registry

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// glob is a pattern for host names, as path.Match reads it, in lower case: host names have none (RFC 4343).
type glob struct {
	pattern string
	// parts are the pattern's characters, but those of literal, with which it begins.
	literal string
	parts   []globPart
}

// globPart is a character of a pattern: any run of characters for *, else one of a set.
type globPart struct {
	star bool
	set  runeSet
}

// runeSet are the characters that lie in ranges or, if not is true, that do not.
type runeSet struct {
	not    bool
	ranges []runeRange
}

type runeRange struct{ first, last rune }

func (p *parser) hosts(n *yaml.Node) (globs []glob) {
	for _, item := range p.items(n, "hosts", `want globs on the host name: ["web-*"]`) {
		text, ok := p.text(item, "a host", "web-*")
		if !ok {
			continue
		}
		if problem := checkGlob(text); problem != "" {
			p.at(item, "glob %s %s", quoted(text), problem)
			continue
		}
		globs = append(globs, newGlob(text))
	}
	return globs
}

func checkGlob(text string) string {
	switch {
	case text == "":
		return `is empty: want a host name or a glob such as "web-*"`
	case len(text) > maxHostGlob:
		return "is longer than any host name"
	case strings.Contains(text, "/"):
		return "holds a /, which no host name does: want a glob on the host name alone"
	}
	if _, err := path.Match(strings.ToLower(text), ""); err != nil {
		return `does not parse: want * for any characters, ? for one, [a-z] for one of some, and \ before one that stands for itself`
	}
	return ""
}

// newGlob returns the glob of a pattern that checkGlob finds good.
func newGlob(text string) glob {
	g := glob{pattern: strings.ToLower(text)}
	var literal strings.Builder
	for rest := g.pattern; rest != ""; {
		var part globPart
		switch rest[0] {
		case '*':
			part.star, rest = true, rest[1:]
		case '?':
			part.set, rest = runeSet{not: true}, rest[1:]
		case '[':
			part.set, rest = cutClass(rest[1:])
		default:
			var r rune
			r, rest = cutRune(rest)
			if len(g.parts) == 0 {
				literal.WriteRune(r)
				continue
			}
			part.set = runeSet{ranges: []runeRange{{r, r}}}
		}
		g.parts = append(g.parts, part)
	}
	g.literal = literal.String()
	return g
}

// cutClass reads a class of characters up to and including its ].
func cutClass(text string) (set runeSet, rest string) {
	if set.not = strings.HasPrefix(text, "^"); set.not {
		text = text[1:]
	}
	for text != "" && (text[0] != ']' || len(set.ranges) == 0) {
		var r runeRange
		r.first, text = cutRune(text)
		if r.last = r.first; strings.HasPrefix(text, "-") {
			r.last, text = cutRune(text[1:])
		}
		set.ranges = append(set.ranges, r)
	}
	return set, strings.TrimPrefix(text, "]")
}

// cutRune reads one character, which a \ may stand before.
func cutRune(text string) (r rune, rest string) {
	text = strings.TrimPrefix(text, `\`)
	r, size := utf8.DecodeRuneInString(text)
	return r, text[size:]
}

// isLiteral tells whether the glob matches one name alone.
func (g glob) isLiteral() bool { return len(g.parts) == 0 }

// matches tells whether the glob matches a host name in lower case.
func (g glob) matches(host string) bool {
	if !strings.HasPrefix(host, g.literal) {
		return false
	}
	matched, err := path.Match(g.pattern, host)
	return err == nil && matched
}

// meets tells whether there is a name that both globs match.
func (g glob) meets(o glob) bool {
	switch {
	case g.isLiteral():
		return o.matches(g.literal)
	case o.isLiteral():
		return g.matches(o.literal)
	case !strings.HasPrefix(g.literal, o.literal) && !strings.HasPrefix(o.literal, g.literal):
		return false
	}
	a, b := g.all(), o.all()
	// reached[i][j] tells that the first i parts of a and the first j of b have a match in common.
	reached := make([][]bool, len(a)+1)
	for i := range reached {
		reached[i] = make([]bool, len(b)+1)
	}
	reached[0][0] = true
	for i := range reached {
		for j := range reached[i] {
			if !reached[i][j] {
				continue
			}
			// A * takes no character, or one more.
			starA, starB := i < len(a) && a[i].star, j < len(b) && b[j].star
			if starA {
				reached[i+1][j] = true
			}
			if starB {
				reached[i][j+1] = true
			}
			switch {
			case i == len(a) || j == len(b) || starA && starB:
			case starA:
				reached[i][j+1] = true
			case starB:
				reached[i+1][j] = true
			case a[i].set.meets(b[j].set):
				reached[i+1][j+1] = true
			}
		}
	}
	return reached[len(a)][len(b)]
}

// all returns the parts of the whole pattern.
func (g glob) all() []globPart {
	parts := make([]globPart, 0, len(g.literal)+len(g.parts))
	for _, r := range g.literal {
		parts = append(parts, globPart{set: runeSet{ranges: []runeRange{{r, r}}}})
	}
	return append(parts, g.parts...)
}

func (s runeSet) contains(r rune) bool {
	for _, in := range s.ranges {
		if in.first <= r && r <= in.last {
			return !s.not
		}
	}
	return s.not
}

// meets tells whether a character lies in both sets. If any does, one does that begins a range or follows one.
func (s runeSet) meets(o runeSet) bool {
	both := func(r rune) bool { return s.contains(r) && o.contains(r) && r != '/' && r <= utf8.MaxRune }
	if both(0) || both('/'+1) {
		return true
	}
	for _, ranges := range [2][]runeRange{s.ranges, o.ranges} {
		for _, r := range ranges {
			if both(r.first) || both(r.last+1) {
				return true
			}
		}
	}
	return false
}

// hostsMeet tells whether there is a host that is in both lists; an empty one has every host.
func hostsMeet(a, b []glob) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, g := range a {
		if slices.ContainsFunc(b, g.meets) {
			return true
		}
	}
	return false
}
