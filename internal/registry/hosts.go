package registry

import (
	"path"
	"slices"
	"strings"
)

// maxHostName is the length of the longest host name (RFC 1035, 2.3.4).
const maxHostName = 253

// glob is a pattern for host names, as in path.Match, in lower case: host names ignore case (RFC 4343).
type glob struct {
	pattern string
	// name is set if the pattern is a host name, which matches nothing else.
	name bool
}

// checkGlob returns what is wrong with a glob, or nothing.
func checkGlob(text string) string {
	switch {
	case text == "":
		return `is empty: want a host name or a glob such as "web-*"`
	case len(text) > maxHostName:
		return "is longer than any host name: want at most 253 bytes"
	case strings.Contains(text, "/"):
		return `contains a /, which no host name does: want a host name or a glob such as "web-*"`
	}
	if _, err := path.Match(strings.ToLower(text), ""); err != nil {
		return `does not parse: want * for any characters, ? for one, [a-z] for one of some, and \ before one that stands for itself`
	}
	return ""
}

// matches reports whether the glob matches a host name in lower case.
func (g glob) matches(host string) bool {
	matched, _ := path.Match(g.pattern, host) // checkGlob found no error
	return matched
}

// servicesFor returns the services that are declared for a host, whose name is in lower case.
func (r *Registry) servicesFor(host string) []*service {
	return slices.DeleteFunc(slices.Clone(r.services), func(s *service) bool {
		return len(s.hosts) > 0 && !slices.ContainsFunc(s.hosts, func(g glob) bool { return g.matches(host) })
	})
}
