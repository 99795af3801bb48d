//go:build linux

package registry

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Version 3 of the parser, which reads every file, knows no columns and often names the line of another part. Version 4 has exact
// places, so it looks at files that version 3 has refused. It does not decide, because it accepts more.

// maxSecondLook limits the memory of the second look, which is more than that of the first.
const maxSecondLook = 1 << 20

// gitConflict matches where Git has left a conflict of two versions.
var gitConflict = wording.Regexp(`(?m)^<<<<<<< `)

var lineOf = wording.Regexp(`^yaml: (?:line (\d+): )?`)

// SyntaxFault returns why data is not YAML, and where. err is the parser's error.
func SyntaxFault(data []byte, err error) Fault {
	r := &report{}
	if r.isText(data) {
		r.notYAML(data, err)
	}
	return r.faults[0]
}

// notYAML notes why data is not YAML. err is the parser's error.
func (r *report) notYAML(data []byte, err error) {
	if at := gitConflict.Get().FindIndex(data); at != nil {
		line, column := placeAfter(data[:at[0]])
		r.add(line, column, "a conflict that Git has marked: want it resolved")
		return
	}
	line := 0
	if m := lineOf.Get().FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
	}
	message := wording.Printable(lineOf.Get().ReplaceAllString(err.Error(), ""))
	const around = `want "key: value", indented like the lines around it`
	if len(data) > maxSecondLook {
		r.add(max(line, 1), 1, "is not YAML: %s: %s", message, around)
		return
	}
	bad := secondLook(data)
	if bad == nil {
		r.onlyNewer(data, line, message)
		return
	}
	at, context := bad.Mark, bad.ContextMark
	if bad.ContextMsg == "while scanning a simple key" { // a line without a colon, which shows after it
		at = context
	}
	at.Line, at.Column = max(at.Line, 1), max(at.Column, 1) // the parser has no place for some
	if line, column := placeAfter(data); at.Line > line {   // it counts a line after the end
		at.Line, at.Column = line, column
	}
	rest := textAt(data, at)
	atEnd := len(bytes.TrimSpace(rest)) == 0
	found, opened := firstOf(rest), " "
	if context != at && context.Line > 0 {
		opened = firstOf(textAt(data, context))
	}
	switch {
	case found == "\t":
		r.add(at.Line, at.Column, "a tab: want spaces")
	case strings.HasPrefix(message, "unknown anchor"):
		r.add(at.Line, at.Column, "an alias of nothing: want its anchor above it, such as &defaults, or quotes if it is a glob")
	case found == "%":
		r.add(at.Line, at.Column, "a directive of YAML: want the file without it")
	case found == `\`:
		r.add(at.Line, at.Column, `unknown escape in double quotes: want \\, or single quotes`)
	case opened == "[" || opened == "{":
		r.add(context.Line, context.Column, `unclosed %q: want "," between its items and %q at its end`, opened, map[string]string{"[": "]", "{": "}"}[opened])
	case atEnd && (opened == `"` || opened == `'`):
		r.add(context.Line, context.Column, "unclosed quotes: want %s at the end", opened)
	case strings.Contains(specialFirst, opened):
		r.add(context.Line, context.Column, "a value begins with %q: want it in quotes", opened)
	case atEnd:
		line, column := placeAfter(bytes.TrimRight(data, " \t\r\n"))
		r.add(line, max(column-1, 1), "the file ends too early: want the value or the bracket that is missing")
	case strings.Contains(specialFirst, found):
		r.add(at.Line, at.Column, "a value begins with %q: want it in quotes", found)
	case strings.Contains(punctuation, found):
		r.add(at.Line, at.Column, "unexpected %q: want values that contain it in quotes, and lines indented like their neighbours", found)
	default:
		r.add(max(at.Line, 1), max(at.Column, 1), "is not YAML: %s: %s", wording.Printable(bad.Message), around)
	}
}

const (
	// specialFirst are the characters with which no text begins unless it is in quotes.
	specialFirst = "*&!|>@`%?"
	// punctuation are the characters that have a meaning within a text.
	punctuation = ":-,]}[{\"'"
)

// secondLook returns the error of the newer parser, or nil if it accepts data.
func secondLook(data []byte) (bad *yaml.LoadError) {
	defer func() {
		if problem := recover(); problem != nil {
			bad = &yaml.LoadError{Message: fmt.Sprint(problem)}
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for range 2 { // the second document is refused too
		var n yaml.Node
		if err := decoder.Decode(&n); errors.As(err, &bad) {
			return bad
		}
	}
	return nil
}

// onlyNewer notes what only version 4 accepts: a list such as [::] or [web-?], a tab in an empty line, or a document that goes on
// after its end. line and message are those of version 3.
func (r *report) onlyNewer(data []byte, line int, message string) {
	if strings.HasPrefix(message, "did not find expected") { // an error of the parser: its lines count from 0
		line++
	}
	last, _ := placeAfter(bytes.TrimRight(data, "\r\n"))
	line = min(max(line, 1), last)
	text := textAt(data, yaml.Mark{Line: line})
	indent := len(text) - len(bytes.TrimLeft(text, " "))
	if firstOf(text[indent:]) == "\t" {
		r.add(line, indent+1, "a tab: want spaces")
		return
	}
	if at := tagInList.Get().FindSubmatchIndex(firstLine(text)); at != nil {
		r.add(line, utf8.RuneCount(text[:at[2]])+1, "a value begins with %q: want it in quotes", "!")
		return
	}
	r.add(line, 1, "is not YAML: %s: want values that contain [, ], ? or : in quotes, and one document in a file", message)
}

// tagInList matches a value in a list on one line that begins with !, as what hosts leave out does.
var tagInList = wording.Regexp(`[\[,]\s*(![^"',\]]*[,\]])`)

func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return line
}

// textAt returns the text of data from a place on.
func textAt(data []byte, at yaml.Mark) []byte {
	for range at.Line - 1 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	for range at.Column - 1 {
		_, size := utf8.DecodeRune(data)
		data = data[size:]
	}
	return data
}

// firstOf returns the first character of a text, or " " if there is none.
func firstOf(text []byte) string {
	if len(text) == 0 {
		return " "
	}
	_, size := utf8.DecodeRune(text)
	return string(text[:size])
}
