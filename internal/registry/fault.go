//go:build linux

package registry

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Fault is one mistake in a file: a registry, or a Kubernetes manifest.
type Fault struct {
	File string
	// Line and Column count from 1, columns in characters.
	Line, Column int
	// Text says what is wrong, and what would be right.
	Text string
	// Kind is Text with … for the words of the file.
	Kind string
}

// Error returns the fault in the form of compilers: file:line:column: text.
func (f Fault) Error() string { return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text) }

// Compare orders faults by file, place and text.
func (f Fault) Compare(o Fault) int {
	return cmp.Or(cmp.Compare(f.File, o.File), cmp.Compare(f.Line, o.Line), cmp.Compare(f.Column, o.Column), cmp.Compare(f.Text, o.Text))
}

// Faults are all mistakes in the files of a registry, sorted by place.
type Faults []Fault

// Error returns one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Public returns the places and kinds of the first faults, for an answer to the network: whoever may ask for it need not be allowed
// to read the file.
func (f Faults) Public() string {
	const most = 10
	var lines []string
	for i, fault := range f {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(f)-most))
			break
		}
		fault.Text = fault.Kind
		lines = append(lines, fault.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults as separate errors.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i, fault := range f {
		errs[i] = fault
	}
	return errs
}

const (
	// maxFaults is how many faults are reported. Nobody reads more, and a file of another kind is wrong in every line.
	maxFaults = 1000
	// maxKept is how many faults are kept in memory until they are sorted.
	maxKept = 100 * maxFaults
)

// report collects the faults of one file after the other.
type report struct {
	file   string // the present one
	faults Faults
}

// add notes a fault at a place of the present file.
func (r *report) add(line, column int, format string, args ...any) {
	r.addAt(place{r.file, line, column}, format, args...)
}

// addAt notes a fault at a place of any file.
func (r *report) addAt(at place, format string, args ...any) {
	if len(r.faults) < maxKept {
		fault := Fault{File: at.file, Line: at.line, Column: at.column, Text: fmt.Sprintf(format, args...)}
		for i, arg := range args {
			switch arg.(type) {
			case int, own:
			default:
				args[i] = hidden{}
			}
		}
		fault.Kind = fmt.Sprintf(format, args...)
		if strings.Trim(fault.Kind, "… ") == "" {
			fault.Kind = "bad value"
		}
		r.faults = append(r.faults, fault)
	}
}

// own is an argument of a fault that has no word of the file. Kind shows it.
type own string

// hidden takes the place of the other ones. Every verb shows it as ….
type hidden struct{}

// Format implements fmt.Formatter.
func (hidden) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "…") }

// at notes a fault at the start of a node.
func (r *report) at(n *yaml.Node, format string, args ...any) {
	r.add(n.Line, n.Column, format, args...)
}

// err returns the faults sorted by place, or nil if there are none.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortFunc(r.faults, Fault.Compare)
	r.faults = slices.Compact(r.faults)
	if len(r.faults) > maxFaults {
		next := r.faults[maxFaults]
		next.Text = "and more faults from here on"
		next.Kind = next.Text
		r.faults = append(r.faults[:maxFaults:maxFaults], next)
	}
	return r.faults
}

// placeAfter returns the place of what follows a text.
func placeAfter(text []byte) (line, column int) {
	start := bytes.LastIndexByte(text, '\n') + 1
	return bytes.Count(text, []byte("\n")) + 1, utf8.RuneCount(text[start:]) + 1
}
