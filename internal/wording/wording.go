// Package wording has the sentences and forms that people read, each in one place, for the commands and the page.
package wording

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Program is the name of the program.
const Program = "listen_exporter"

// Printable returns text that is safe to show on a terminal, in a log and on a page: a character that cannot be seen is
// written as Go writes it, such as \x1b or \u202e, and so is a byte that is not UTF-8. Processes choose their own names, and
// such characters could colour the screen, turn the direction of the text, or make two names look the same.
func Printable(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(text[i:], string(unicode.ReplacementChar)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// Path returns the name of a file, printable, for the start of a line. A line that starts with "::" would be a command to the
// runners of GitHub Actions.
func Path(name string) string {
	name = Printable(name)
	if strings.HasPrefix(strings.TrimLeft(name, " "), "::") {
		return "./" + name
	}
	return name
}

// Quoted returns text in quotes, and cut if it is long, as errors show foreign text.
func Quoted(text string) string {
	const longest = 60
	return strconv.Quote(cut(text, longest))
}

// Name returns a name as it is, or as Quoted returns it if it is long or has more than ASCII letters, digits and -.: in it.
func Name(name string) string {
	unusual := func(r rune) bool {
		return !strings.ContainsRune("-.:", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	if quoted := Quoted(name); name == "" || strings.ContainsFunc(name, unusual) || quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// cut returns the start of a text with an ellipsis if it has more than so many characters.
func cut(text string, characters int) string {
	for i := range text {
		if characters == 0 {
			return text[:i] + "…"
		}
		characters--
	}
	return text
}

// ShortContainer returns the start of a container's ID, as container tools show it.
func ShortContainer(id string) string { return id[:min(len(id), 12)] }

// ShortPod returns the start of a pod's UID that is enough to tell pods apart.
func ShortPod(uid string) string { return uid[:min(len(uid), 8)] }

// Count returns a number with its noun: "1 listener", "2 listeners", "3 registries".
func Count(n int, noun string) string {
	return strconv.Itoa(n) + " " + Plural(n, noun)
}

// Plural returns a noun in the form that a number asks for.
func Plural(n int, noun string) string {
	stem, isY := strings.CutSuffix(noun, "y")
	switch {
	case n == 1:
		return noun
	case isY && !strings.HasSuffix(stem, "e") && !strings.HasSuffix(stem, "a") && !strings.HasSuffix(stem, "o"):
		return stem + "ies"
	}
	return noun + "s"
}

// Violation returns why a listener violates the registry. reason is the verdict's; service is the name of the service, or of
// the team for "reserved"; declared is what the registry wants instead, or empty. It is safe to print.
func Violation(reason, service, declared string) string {
	if declared != "" {
		declared = " (" + Printable(declared) + ")"
	}
	switch reason {
	case "unregistered":
		return "no service declares the port"
	case "reserved":
		return "the port is reserved for " + Printable(service)
	case "bind":
		return "listens on a wider or another address than declared" + declared
	case "process":
		return "is held by another process or unit than declared" + declared
	}
	return reason
}
