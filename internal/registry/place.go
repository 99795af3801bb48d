package registry

import (
	"bytes"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func messageOf(err error) string { return yamlLine.ReplaceAllString(err.Error(), "yaml: ") }

// badLine returns the line that a message of the library is about: with an empty line before it, so that no place counts as
// line 0, which the library takes for none.
func badLine(data []byte, message string) int {
	_, _, err := decode(append([]byte("\n"), data...))
	line := 1
	if err != nil {
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
		}
	}
	switch {
	case strings.Contains(message, "expected ',' or"):
		// The line of the bracket, counted from 0.
	case strings.Contains(message, "expected key"), strings.Contains(message, "expected '-'"), strings.Contains(message, "expected node"),
		strings.Contains(message, "exceeded"), strings.Contains(message, "<document start>"):
		line = firstBad(data, message)
	default:
		// The scanner's errors count from 1.
		line--
	}
	last := bytes.Count(data, []byte("\n")) + 1
	line = min(max(line, 1), last)
	if strings.Contains(message, "tab character") {
		// What the line is about began before the tab.
		for line < last && !bytes.ContainsRune(data[startOf(data, line):startOf(data, line+1)], '\t') {
			line++
		}
	}
	return line
}

// lookahead is how many lines the library reads beyond a mistake before it tells it.
const lookahead = 3

// firstBad returns the line from which on the library has the message to tell. It stops soon after the mistake: the first
// of the lines before that point without which it has nothing to tell is the one.
func firstBad(data []byte, message string) int {
	r := &slowReader{data: data}
	_, _, _ = decodeFrom(r)
	last := bytes.Count(data[:r.read], []byte("\n")) + 1
	for line := max(last-lookahead, 1); line < last; line++ {
		if _, _, err := decode(data[:startOf(data, line+1)]); err != nil && messageOf(err) == message {
			return line
		}
	}
	return last
}

// slowReader gives one byte at a time, so that read tells how far the library has come.
type slowReader struct {
	data []byte
	read int
}

func (r *slowReader) Read(buffer []byte) (int, error) {
	if r.read == len(r.data) {
		return 0, io.EOF
	}
	n := copy(buffer[:min(1, len(buffer))], r.data[r.read:])
	r.read += n
	return n, nil
}

// startOf returns the offset at which a line begins, or the end of data.
func startOf(data []byte, line int) int {
	at := 0
	for range line - 1 {
		next := bytes.IndexByte(data[at:], '\n')
		if next < 0 {
			return len(data)
		}
		at += next + 1
	}
	return at
}

// lineAt returns the text of a line and the column of its first character that is no blank.
func lineAt(data []byte, line int) (text string, column int) {
	first, _, _ := bytes.Cut(data[startOf(data, line):], []byte("\n"))
	text = strings.TrimRight(string(first), "\r")
	indent := len(text) - len(strings.TrimLeft(text, " \t"))
	if indent == len(text) {
		indent = 0
	}
	return text, indent + 1
}

// placeOf returns the line and column of an offset in data.
func placeOf(data []byte, at int) (line, column int) {
	start := bytes.LastIndexByte(data[:at], '\n') + 1
	return bytes.Count(data[:at], []byte("\n")) + 1, utf8.RuneCount(data[start:at]) + 1
}
