//go:build linux

package registry

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// People know host patterns from other tools: regular expressions, the braces of a shell, the ranges of Ansible. What is left of a
// text when those are replaced is what comes nearest to it.

var (
	// foreignPrefix is how other tools begin a pattern or the name of a group.
	foreignPrefix = wording.Regexp(`^([a-z]+://|~|/|[@%&]|(group|groups|host|hosts|tag|role|re|regex|glob|name|env)[:=])+`)
	group         = wording.Regexp(`\{([^{}()]*)\}|\((?:\?:)?([^{}()]*)\)`)
	bracketRange  = wording.Regexp(`\[(\d+|[a-z])[:-](\d+|[a-z])\]`)
	braceRange    = wording.Regexp(`^(\d+|[a-z])\.\.(\d+|[a-z])$`)
	portAtEnd     = wording.Regexp(`:\d+$`)
	repeated      = wording.Regexp(`(\[[^\]]*\]|[a-z0-9?])\{([1-9])\}`)
	separator     = wording.Regexp(`[|,;\s]+`)
)

// globsOf replaces the pieces of regular expressions by the globs for them.
func globsOf(text string) string {
	return strings.NewReplacer(`[[:digit:]]`, "[0-9]", `[[:alnum:]]`, "?", `[[:alpha:]]`, "[a-z]", `\d+`, "[0-9]*", `\d*`, "*", `\d`, "[0-9]", `\w+`, "?*", `\w*`, "*",
		`\w`, "?", `\.`, ".", `\-`, "-", `.*`, "*", `.+`, "?*", `]+`, "]*", "]*", "]*").Replace(text)
}

// maxNearest is how many globs an error proposes.
const maxNearest = 12

// nearestGlobs returns the globs that come nearest to a text that is none, or nothing. One that begins with ^ or ends
// with $ and is open at the other end is so as a glob.
func nearestGlobs(text string) []string {
	lower := strings.ToLower(strings.TrimSpace(text))
	rest := foreignPrefix.Get().ReplaceAllString(lower, "")
	prefix := lower[:len(lower)-len(rest)]
	rest = portAtEnd.Get().ReplaceAllString(strings.TrimRight(rest, "/"), "")
	begins, ends := strings.HasPrefix(rest, "^"), strings.HasSuffix(rest, "$")
	rest = strings.TrimSuffix(strings.TrimPrefix(rest, "^"), "$")
	rest = repeated.Get().ReplaceAllStringFunc(globsOf(rest), func(match string) string {
		parts := repeated.Get().FindStringSubmatch(match)
		times, _ := strconv.Atoi(parts[2])
		return strings.Repeat(parts[1], times)
	})
	var found []string
	for _, g := range expand(rest, 0) {
		if at := strings.LastIndexByte(g, '@'); at >= 0 { // after a user
			g = g[at+1:]
		}
		g = strings.TrimSuffix(g, ".")
		if strings.HasPrefix(g, ".") || ends && !begins && !strings.HasPrefix(g, "*") {
			g = "*" + g
		}
		if strings.HasSuffix(g, "-") || begins && !ends && !strings.HasSuffix(g, "*") || strings.Contains(prefix, "group") {
			g = strings.TrimSuffix(g, "*") + "*"
		}
		if neverHost(g) != "" || len(found) == maxNearest {
			return nil
		}
		if !slices.Contains(found, g) {
			found = append(found, g)
		}
	}
	return found
}

// expand returns what a text with alternatives and ranges stands for.
func expand(text string, depth int) (all []string) {
	replace := func(at []int, by []string) []string {
		for _, one := range by[:min(len(by), maxNearest+1)] {
			if all = append(all, expand(text[:at[0]]+one+text[at[1]:], depth+1)...); len(all) > maxNearest {
				break
			}
		}
		return all
	}
	if depth > 4 {
		return []string{text}
	}
	if at := group.Get().FindStringSubmatchIndex(text); at != nil {
		content := strings.Trim(text[at[0]:at[1]], "{}()")
		if m := braceRange.Get().FindStringSubmatch(content); m != nil {
			return replace(at, rangeGlobs(m[1], m[2]))
		}
		return replace(at, separator.Get().Split(strings.TrimPrefix(content, "?:"), -1))
	}
	for _, at := range bracketRange.Get().FindAllStringSubmatchIndex(text, -1) {
		if from, to := text[at[2]:at[3]], text[at[4]:at[5]]; len(from)+len(to) > 2 || strings.Contains(text[at[0]:at[1]], ":") {
			return replace(at, rangeGlobs(from, to))
		}
	}
	return slices.DeleteFunc(separator.Get().Split(text, -1), func(one string) bool { return one == "" })
}

// rangeGlobs returns globs for the numbers, or letters, from one to another: one for each number of digits. They can match more.
func rangeGlobs(from, to string) (globs []string) {
	first, err := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	if err != nil || err2 != nil || first > last || len(to) > 9 {
		return []string{"[" + from + "-" + to + "]"}
	}
	for digits := len(from); digits <= len(to); digits++ {
		low, high := first, min(last, int(math.Pow10(digits))-1)
		if digits > len(from) {
			low = int(math.Pow10(digits - 1))
		}
		globs = append(globs, digitGlob(low, high, digits))
	}
	return globs
}

// digitGlob returns a glob for the numbers from low to high, with as many digits.
func digitGlob(low, high, digits int) string {
	pad := func(n int) string {
		text := strconv.Itoa(n)
		return strings.Repeat("0", max(digits-len(text), 0)) + text
	}
	var b strings.Builder
	from, to := pad(low), pad(high)
	open := false
	for i := range digits {
		switch {
		case open:
			b.WriteString("[0-9]")
		case from[i] == to[i]:
			b.WriteByte(from[i])
		default:
			b.WriteString("[" + from[i:i+1] + "-" + to[i:i+1] + "]")
			open = true
		}
	}
	return b.String()
}
