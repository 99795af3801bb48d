package wording

import (
	"regexp"
	"sync"
)

// Regexp returns a regular expression that is compiled when it is first used: a server uses few of those that the program has, and all
// of them would be a fifth of what its start allocates.
func Regexp(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
