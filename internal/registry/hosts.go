//go:build linux

package registry

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// maxHostName is the length of the longest host name (RFC 1035, 2.3.4).
const maxHostName = 253

// glob is a pattern with the globs of a shell, in lower case: host names ignore case (RFC 4343).
type glob struct {
	pattern string // as in path.Match, which writes [!a] as [^a]
	// name is set if the pattern has no globs, and matches nothing but itself.
	name bool
	// Whatever it matches begins with head and ends with tail.
	head, tail string
}

// globOf returns the glob of a text in which checkGlob finds nothing wrong.
func globOf(text string) glob {
	g := glob{pattern: pathPattern(text), head: strings.ToLower(text), tail: strings.ToLower(text)}
	first := strings.IndexAny(text, "*?[")
	if g.name = first < 0; !g.name {
		g.head, g.tail = g.head[:first], g.tail[strings.LastIndexAny(text, "*?]")+1:]
	}
	return g
}

func pathPattern(text string) string { return strings.ReplaceAll(strings.ToLower(text), "[!", "[^") }

// matches reports whether the glob matches a name in lower case.
func (g glob) matches(name string) bool {
	if g.name {
		return g.pattern == name
	}
	matched, _ := path.Match(g.pattern, name) // checkGlob found no error
	return matched
}

// differs reports whether what both match begins or ends differently.
func (g *glob) differs(o *glob) bool {
	return !strings.HasPrefix(g.head, o.head) && !strings.HasPrefix(o.head, g.head) ||
		!strings.HasSuffix(g.tail, o.tail) && !strings.HasSuffix(o.tail, g.tail)
}

// covers reports whether the glob matches whatever the other one does, as far as that shows without solving it.
func (g *glob) covers(o *glob) bool {
	switch {
	case *g == *o:
		return true
	case g.name, g.differs(o):
		return false
	case o.name:
		return g.matches(o.pattern)
	}
	if o.pattern == "*" && g.pattern != "*" {
		return false
	}
	// What the globs of o stand for is a character that only * and ? of g match.
	const wild = "\x00"
	pattern := strings.ReplaceAll(g.pattern, "[^", "[^"+wild)
	single := strings.ReplaceAll(o.pattern, "?", wild)
	if strings.Contains(single, "[") {
		single = class.Get().ReplaceAllString(single, wild)
	}
	for _, some := range []string{wild + wild + wild, ""} {
		name := strings.ReplaceAll(single, "*", some)
		if matched, _ := path.Match(pattern, name); !matched {
			return false
		}
	}
	return true
}

// class matches a class of characters in a glob.
var class = wording.Regexp(`\[[^\]]+\]`)

// checkGlob returns what is wrong with a glob for host names that comes after a "!" or nothing, or "" if nothing is.
func checkGlob(not, text string) string {
	const example = `want a host name or a glob such as "web-*"`
	switch {
	case text == "":
		return "is empty: " + example
	case len(text) > maxHostName:
		return "is longer than any host name: want at most 253 bytes"
	}
	problem := neverHost(text)
	if problem == "" {
		return ""
	}
	nearest := nearestGlobs(text)
	for i, g := range nearest {
		nearest[i] = strconv.Quote(not + g)
	}
	switch len(nearest) {
	case 0:
		return problem + ": " + example
	case 1:
		return problem + ": want " + nearest[0]
	default:
		return problem + ": want [" + strings.Join(nearest, ", ") + "]"
	}
}

// neverHost returns why a glob matches no host name (RFC 952, RFC 1123), or nothing. It forgives the _ that some hosts have.
func neverHost(text string) string {
	if strings.Count(text, ".") > 1 && strings.Trim(text, "0123456789.*?") == "" {
		return "is an address, not the name of a host"
	}
	class := -1 // where the characters of an open class begin
	for i, c := range text {
		switch {
		case c == '[' && class < 0:
			class = i + 1
		case c == ']' && class >= 0:
			if numbers := text[class:i]; rangeOfNumbers.Get().MatchString(numbers) {
				return "has [" + numbers + "], which is one character and not a number"
			}
			class = -1
		case (c == '!' || c == '^') && class == i && text[i-1] == '[':
			class = i + 1
		case unicode.IsLetter(c), unicode.IsDigit(c), strings.ContainsRune("-._", c), class < 0 && (c == '*' || c == '?'):
		default:
			return "has " + wording.Quoted(string(c)) + ", which no host name has"
		}
	}
	if _, err := path.Match(pathPattern(text), ""); err != nil {
		return "does not parse: its [ has no ], or nothing in between"
	}
	for label := range strings.SplitSeq(text, ".") {
		switch {
		case label == "":
			return "has a part without characters, which no host name has"
		case label[0] == '-', label[len(label)-1] == '-':
			return "has a - at the end of a part, which no host name has"
		}
	}
	return ""
}

// rangeOfNumbers matches what people write in brackets for numbers of several digits.
var rangeOfNumbers = wording.Regexp(`^\d\d+-\d+$|^\d+-\d\d+$`)

// hosts are the hosts that an entry of the file is for: those that a glob of include matches, or every host without one, less those
// that a glob of exclude matches.
type hosts struct{ include, exclude []glob }

// some reports whether these are not all hosts.
func (h hosts) some() bool { return len(h.include)+len(h.exclude) > 0 }

// named reports whether they are all given by name.
func (h hosts) named() bool {
	return len(h.include) > 0 && !slices.ContainsFunc(h.include, func(g glob) bool { return !g.name })
}

// match reports whether a host, whose name is in lower case, is one of them.
func (h hosts) match(host string) bool {
	is := func(g glob) bool { return g.matches(host) }
	return (len(h.include) == 0 || slices.ContainsFunc(h.include, is)) && !slices.ContainsFunc(h.exclude, is)
}

// misname reports whether a host would be one of them, or left out, without its domain, or with one if it has none.
func (h hosts) misname(host string) bool {
	short, _, hasDomain := strings.Cut(host, ".")
	otherwise := func(g glob) bool {
		if hasDomain {
			return g.matches(short)
		}
		first, _, hasDomain := strings.Cut(g.pattern, ".")
		return hasDomain && first != "*" && globOf(first).matches(host)
	}
	if h.match(host) {
		return slices.ContainsFunc(h.exclude, otherwise)
	}
	left := slices.ContainsFunc(h.exclude, func(g glob) bool { return g.matches(host) || otherwise(g) })
	return !left && slices.ContainsFunc(h.include, otherwise)
}

// excludes reports whether no host that a glob matches is left.
func (h hosts) excludes(g *glob) bool {
	return slices.ContainsFunc(h.exclude, func(e glob) bool { return e.covers(g) })
}

// every matches every host.
var every = []glob{{pattern: "*"}}

func (h hosts) included() []glob {
	if len(h.include) == 0 {
		return every
	}
	return h.include
}

// meet reports whether both have a host in common, as far as that shows without solving globs: a host that one names, or a glob of
// one that is within a glob of the other. Two different globs can have a host in common too, such as "web-*" and "*-db":
// [Registry.conflictsOn] finds that on such a host. Each comparison adds to work.
func (h hosts) meet(o hosts, work *int) bool {
	if !h.some() && !o.some() {
		return true
	}
	ours, theirs := h.included(), o.included()
	for i := range ours {
		for j := range theirs {
			a, b := &ours[i], &theirs[j]
			if *work++; a.differs(b) {
				continue
			}
			*work += len(a.pattern) * len(b.pattern) / 8
			common := a
			switch {
			case a.covers(b):
				common = b
			case !b.covers(a):
				continue
			}
			if !h.excludes(common) && !o.excludes(common) {
				return true
			}
		}
	}
	return false
}

// servicesFor returns the services that are declared for a host, whose name is in lower case.
func (r *Registry) servicesFor(host string) []*service {
	return slices.DeleteFunc(slices.Clone(r.services), func(s *service) bool { return !s.hosts.match(host) })
}
