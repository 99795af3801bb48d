package wording

import (
	"regexp"
	"sync"
)

// Regexp returns a regular expression that is compiled when it is first used: a server uses few of those that the program has, and all
// of them would be a fifth of what its start allocates.
func Regexp(expression string) *LazyRegexp { return &LazyRegexp{expression: expression} }

// LazyRegexp is what [Regexp] returns. The compiler makes it, so a package with only such variables has nothing to do at the start, and
// its code is in no memory until it is used.
type LazyRegexp struct {
	expression string
	once       sync.Once
	compiled   *regexp.Regexp
}

// Get returns the compiled expression.
func (r *LazyRegexp) Get() *regexp.Regexp {
	r.once.Do(func() { r.compiled = regexp.MustCompile(r.expression) })
	return r.compiled
}
