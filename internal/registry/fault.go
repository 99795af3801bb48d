package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Fault is one thing that is wrong in a registry file.
type Fault struct {
	File string
	// Line and Column count from 1, columns in characters.
	Line, Column int
	// Text says what is wrong, and what would be right.
	Text string
}

// String returns the fault as compilers write theirs: file:line:column: text.
func (f Fault) String() string { return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text) }

// Error returns the same as String.
func (f Fault) Error() string { return f.String() }

// Faults are all that is wrong in a file, in the order of their places.
type Faults []Fault

// Error returns one line a fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults, so that each can be told on its own.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i, fault := range f {
		errs[i] = fault
	}
	return errs
}

const (
	// maxFaults bounds the report: nobody reads more, and a file of another kind is wrong in every line.
	maxFaults = 1000
	// maxKept bounds what is kept until they are sorted.
	maxKept = 100 * maxFaults
	// maxQuoted is how much of a bad value is shown, in bytes.
	maxQuoted = 60
)

// report collects the faults of one file.
type report struct {
	file   string
	faults Faults
	// unkept is how many more there were.
	unkept int
	// shifts are how many columns the text of a line is right of where it stands in the file.
	shifts map[int]int
}

// add notes a fault at a place.
func (r *report) add(line, column int, format string, args ...any) {
	if len(r.faults) == maxKept {
		r.unkept++
		return
	}
	column = max(column-r.shifts[line], 1)
	r.faults = append(r.faults, Fault{File: r.file, Line: line, Column: column, Text: fmt.Sprintf(format, args...)})
}

// at notes a fault where a node begins.
func (r *report) at(n *yaml.Node, format string, args ...any) {
	r.add(n.Line, n.Column, format, args...)
}

// err returns the faults sorted by place, or nil if there are none.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortFunc(r.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Text, b.Text))
	})
	r.faults = slices.Compact(r.faults)
	if len(r.faults) > maxFaults {
		next := r.faults[maxFaults]
		next.Text = fmt.Sprintf("and %d more faults from here on", len(r.faults)-maxFaults+r.unkept)
		r.faults = append(r.faults[:maxFaults:maxFaults], next)
	}
	return r.faults
}

// quoted returns a value in quotes, cut to a length that a line can bear.
func quoted(value string) string {
	if len(value) <= maxQuoted {
		return strconv.Quote(value)
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(value[cut]) {
		cut--
	}
	return strconv.Quote(value[:cut] + "…")
}
