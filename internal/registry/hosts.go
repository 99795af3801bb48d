package registry

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// glob is a pattern for host names, as path.Match reads it, in lower case: host names have none (RFC 4343).
type glob struct {
	pattern string
	// head and tail are the characters that all its names begin and end with. If it is literal, that is the only name.
	head, tail string
	literal    bool
	// parts and ranges are how many parts the pattern has, and how many ranges those.
	parts, ranges int64
}

// globPart is a character of a pattern: any run of characters for *, else one of a set.
type globPart struct {
	star bool
	set  runeSet
}

// runeSet are the characters that lie in ranges, which are sorted and have gaps between them. A / is in none of them.
type runeSet []runeRange

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
	parts := g.all()
	g.parts = int64(len(parts))
	for _, part := range parts {
		g.ranges += int64(len(part.set))
	}
	end, start := 0, len(parts)
	for end < len(parts) && parts[end].set.isOne() {
		end++
	}
	for start > 0 && parts[start-1].set.isOne() {
		start--
	}
	g.head, g.tail, g.literal = textOf(parts[:end]), textOf(parts[start:]), end == len(parts)
	return g
}

// textOf returns the characters of parts that have one each.
func textOf(parts []globPart) string {
	text := make([]rune, len(parts))
	for i, part := range parts {
		text[i] = part.set[0].first
	}
	return string(text)
}

// all returns the parts of the pattern. They are not kept: a file may have millions.
func (g *glob) all() []globPart {
	parts := make([]globPart, 0, g.parts)
	for rest := g.pattern; rest != ""; {
		var part globPart
		switch rest[0] {
		case '*':
			part.star, rest = true, rest[1:]
		case '?':
			part.set, rest = newRuneSet(nil, true), rest[1:]
		case '[':
			part.set, rest = cutClass(rest[1:])
		default:
			var r rune
			r, rest = cutRune(rest)
			part.set = runeSet{{r, r}}
		}
		parts = append(parts, part)
	}
	return parts
}

// cutClass reads a class of characters up to and including its ].
func cutClass(text string) (set runeSet, rest string) {
	not := strings.HasPrefix(text, "^")
	if not {
		text = text[1:]
	}
	var ranges []runeRange
	for text != "" && (text[0] != ']' || len(ranges) == 0) {
		var r runeRange
		r.first, text = cutRune(text)
		if r.last = r.first; strings.HasPrefix(text, "-") {
			r.last, text = cutRune(text[1:])
		}
		ranges = append(ranges, r)
	}
	return newRuneSet(ranges, not), strings.TrimPrefix(text, "]")
}

// newRuneSet returns the characters in ranges or, with not, those that are in none.
func newRuneSet(ranges []runeRange, not bool) runeSet {
	slices.SortFunc(ranges, func(a, b runeRange) int { return cmp.Compare(a.first, b.first) })
	var in, out runeSet
	next := rune(0) // behind what is in the set so far
	for _, r := range ranges {
		if r.first = max(r.first, next); r.first <= r.last {
			out = out.with(next, r.first-1)
			in = in.with(r.first, r.last)
			next = r.last + 1
		}
	}
	if not {
		return out.with(next, utf8.MaxRune)
	}
	return in
}

// with adds a range behind the others, less what no host name holds.
func (s runeSet) with(first, last rune) runeSet {
	if first <= '/' && '/' <= last {
		return s.with(first, '/'-1).with('/'+1, last)
	}
	if first > last {
		return s
	}
	return append(s, runeRange{first, last})
}

// cutRune reads one character, which a \ may stand before.
func cutRune(text string) (r rune, rest string) {
	text = strings.TrimPrefix(text, `\`)
	r, size := utf8.DecodeRuneInString(text)
	return r, text[size:]
}

// matches tells whether the glob matches a host name in lower case.
func (g *glob) matches(host string) bool {
	if !strings.HasPrefix(host, g.head) || !strings.HasSuffix(host, g.tail) {
		return false
	}
	matched, err := path.Match(g.pattern, host)
	return err == nil && matched
}

// work returns how much meets takes at most, in steps of maxWork: reading both, and a step or two for each part of the one with
// each of the other.
func (g *glob) work(o *glob) int64 {
	if g.differs(o) {
		return pairWork
	}
	return pairWork*(1+g.parts+g.ranges+o.parts+o.ranges) + g.parts*o.parts + g.parts*o.ranges + g.ranges*o.parts
}

// differs tells whether two globs begin or end in different ways, so that no name matches both.
func (g *glob) differs(o *glob) bool {
	return !strings.HasPrefix(g.head, o.head) && !strings.HasPrefix(o.head, g.head) ||
		!strings.HasSuffix(g.tail, o.tail) && !strings.HasSuffix(o.tail, g.tail)
}

// meets tells whether there is a name that both globs match.
func (g *glob) meets(o *glob) bool {
	switch {
	case g.differs(o):
		return false
	case g.literal:
		return o.matches(g.head)
	case o.literal:
		return g.matches(o.head)
	}
	a, b := g.all(), o.all()
	// reached[j] tells that the parts of a so far and the first j of b have a match in common, and next the same with one part
	// of a more.
	reached, next := make([]bool, len(b)+1), make([]bool, len(b)+1)
	reached[0] = true
	for i := range len(a) + 1 {
		clear(next)
		for j, here := range reached {
			if !here {
				continue
			}
			// A * takes no character, or one more.
			starA, starB := i < len(a) && a[i].star, j < len(b) && b[j].star
			if starA {
				next[j] = true
			}
			if starB {
				reached[j+1] = true
			}
			switch {
			case i == len(a) || j == len(b) || starA && starB:
			case starA:
				reached[j+1] = true
			case starB:
				next[j] = true
			case !next[j+1] && a[i].set.meets(b[j].set):
				next[j+1] = true
			}
		}
		if i < len(a) {
			reached, next = next, reached
		}
	}
	return reached[len(b)]
}

// isOne tells whether a set has one character alone.
func (s runeSet) isOne() bool { return len(s) == 1 && s[0].first == s[0].last }

// meets tells whether a character lies in both sets.
func (s runeSet) meets(o runeSet) bool {
	for len(s) > 0 && len(o) > 0 {
		switch {
		case s[0].last < o[0].first:
			s = s[1:]
		case o[0].last < s[0].first:
			o = o[1:]
		default:
			return true
		}
	}
	return false
}

// isFor tells whether the service is declared for a host, which is in lower case.
func (s *service) isFor(host string) bool {
	return len(s.hosts) == 0 || slices.ContainsFunc(s.hosts, func(g glob) bool { return g.matches(host) })
}
