// Package wording has the sentences and forms that people read, each in one place, for the commands and the page.
package wording

import (
	"errors"
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

// Quoted returns text in quotes, cut if it is long. Errors show foreign text in this form.
func Quoted(text string) string {
	const longest = 60 // characters
	characters := 0
	for i := range text {
		if characters == longest {
			text = text[:i] + "…"
			break
		}
		characters++
	}
	return strconv.Quote(text)
}

// Public returns what an answer to the network says of an error. An error that shows what a file holds, such as a piece of a registry or a
// row of a table, has a method Public that leaves it out: the text goes to the log only.
func Public(err error) string {
	const longest = 1000 // characters of a line
	text := err.Error()
	if public := interface{ Public() string }(nil); errors.As(err, &public) {
		text = public.Public()
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = Printable(line)
		if runes := []rune(line); len(runes) > longest {
			line = string(runes[:longest]) + "…"
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

// Name returns a name as it is, or as Quoted returns it if the name is empty, long, or has other characters than ASCII letters,
// digits, '-', '.' and ':'.
func Name(name string) string {
	const longest = 60 // bytes
	if name == "" || len(name) > longest {
		return Quoted(name)
	}
	for _, c := range []byte(name) {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '-', c == '.', c == ':':
		default:
			return Quoted(name)
		}
	}
	return name
}

// ShortContainer returns the start of a container's ID, as container tools show it. A name, which LXC gives, stays whole.
func ShortContainer(id string) string {
	if strings.Trim(id, "0123456789abcdef") == "" {
		return id[:min(len(id), 12)]
	}
	return id
}

// ShortPod returns the start of a pod's UID that is enough to tell pods apart.
func ShortPod(uid string) string { return uid[:min(len(uid), 8)] }

// Count returns a number with its noun: "1 listener", "2 listeners".
func Count(n int, noun string) string {
	return strconv.Itoa(n) + " " + Plural(n, noun)
}

// Plural returns the form of a noun that goes with n: "listener" or "listeners".
func Plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// Violation returns why a listener violates the registry. reason is the verdict's; service is the name of the service, or of
// the team for "reserved"; declared is what the registry wants instead, or why it forbids the port, or empty. It is safe to print.
func Violation(reason, service, declared string) string {
	if declared != "" {
		declared = " (" + Printable(declared) + ")"
	}
	switch reason {
	case "forbidden":
		return "the port is forbidden" + declared
	case "unregistered":
		return "no service declares the port" + declared
	case "reserved":
		return "the port is reserved for " + Printable(service) + declared
	case "bind":
		return "listens on a wider or another address than declared" + declared
	case "process":
		return "is held by another process or unit than declared" + declared
	}
	return reason
}
