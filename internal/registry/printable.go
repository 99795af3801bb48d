package registry

import (
	"strings"
	"unicode/utf8"
)

// Printable returns text for a terminal or a log, where each character that cannot be seen is replaced.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unprintable(r) != "" {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(text, string(utf8.RuneError)))
}

// PrintablePath returns the name of a file so that a line can begin with it. On the runners of GitHub Actions, one that begins
// with :: would be a command.
func PrintablePath(name string) string {
	name = Printable(name)
	if strings.HasPrefix(strings.TrimLeft(name, " "), "::") {
		return "./" + name
	}
	return name
}
