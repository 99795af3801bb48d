package manifest

import (
	"fmt"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// Skipped is a file, or a value in one, that was not checked.
type Skipped struct {
	File string
	// Line counts from 1.
	Line int
	// Reason is why it was not checked.
	Reason string
}

// place is the line and column of a value, as in a Fault. What an alias stands for is where it is written.
type place struct{ line, column int }

// maxFindings bounds the report of one file, as for a registry's.
const maxFindings = 1000

// report collects the findings of one file.
type report struct {
	// file is the file's name, safe to print.
	file     string
	findings []registry.Fault
	skipped  []Skipped
}

// find adds a finding. The last one says that there are more.
func (r *report) find(at place, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case len(r.findings) > maxFindings:
		return
	case len(r.findings) == maxFindings:
		text = fmt.Sprintf("more than %d findings: the rest is not shown: want these fixed first", maxFindings)
	}
	r.findings = append(r.findings, registry.Fault{File: r.file, Line: at.line, Column: at.column, Text: text})
}

// skip adds a file or value that is not checked.
func (r *report) skip(line int, format string, args ...any) {
	if len(r.skipped) < maxFindings {
		r.skipped = append(r.skipped, Skipped{File: r.file, Line: line, Reason: fmt.Sprintf(format, args...)})
	}
}
