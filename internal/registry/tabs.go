package registry

import (
	"bytes"
	"strings"
)

// isTab tells whether err is about a tab, for which the library has two messages, one of them for other characters too.
func isTab(data []byte, err error) bool {
	if strings.Contains(err.Error(), "cannot start any token") {
		text, _ := lineAt(data, badLine(data, messageOf(err)))
		return strings.HasPrefix(strings.TrimLeft(text, " "), "\t")
	}
	return strings.Contains(err.Error(), "tab character")
}

// untabbed notes each line that a tab indents, and returns data with spaces instead, and how that parses. It returns nil if what
// err tells is all that can be told.
func (p *parser) untabbed(data []byte, err error, work *int) ([]byte, error) {
	tabs := make(map[int]int) // how many are before the text of a line
	number := 0
	for line := range bytes.Lines(data) {
		number++
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		blank := len(bytes.TrimSpace(line)) == 0 || line[len(indent)] == '#'
		if at := bytes.IndexByte(indent, '\t'); at >= 0 && !blank {
			p.add(number, at+1, tabAdvice)
			tabs[number] = bytes.Count(indent, []byte("\t"))
		}
	}
	if len(tabs) == 0 {
		return data, err
	}
	// How wide a tab was meant to be, nobody knows.
	for _, width := range [...]int{2, 4, 8} {
		fixed := widened(data, width)
		if *work -= len(fixed); *work < 0 {
			break
		}
		_, _, err := decode(fixed)
		if err == nil || unknownAnchor.MatchString(err.Error()) || strings.Contains(err.Error(), looseMessage) {
			p.shifts = make(map[int]int, len(tabs))
			for line, count := range tabs {
				p.shifts[line] = count * (width - 1)
			}
			return fixed, err
		}
	}
	return nil, nil
}

// widened returns data with as many spaces as width in place of each tab that indents.
func widened(data []byte, width int) []byte {
	var fixed bytes.Buffer
	for line := range bytes.Lines(data) {
		text := bytes.TrimLeft(line, " \t")
		indent := line[:len(line)-len(text)]
		fixed.Write(bytes.ReplaceAll(indent, []byte("\t"), bytes.Repeat([]byte(" "), width)))
		fixed.Write(text)
	}
	return fixed.Bytes()
}

// closing are the brackets that end what others begin.
var closing = map[byte]byte{'[': ']', '{': '}'}

// openAtEnd returns where a [ or { stands with which data ends, but for comments, or -1.
func openAtEnd(data []byte) int {
	for {
		data = bytes.TrimRight(data, " \t\r\n")
		start := bytes.LastIndexByte(data, '\n') + 1
		if bytes.HasPrefix(bytes.TrimSpace(data[start:]), []byte("#")) {
			data = data[:start]
			continue
		}
		if len(data) > 0 && closing[data[len(data)-1]] != 0 {
			return len(data) - 1
		}
		return -1
	}
}
