//go:build linux

package command

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/manifest"
	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// The formats of check and audit.
const (
	FormatText  = "text"
	FormatSARIF = "sarif"
)

// RuleRegistry is the rule that a fault of a registry breaks. The rules of manifests are those of package manifest, those of audit
// the states of its listeners.
const RuleRegistry = "registry"

// report is the answer of check or audit, in every format.
type report struct {
	text     bytes.Buffer
	findings []finding
	// notes are what audit says without finding fault.
	notes []finding
	// skipped is what was not checked, and need not be.
	skipped []manifest.Skipped
	// unknown is what could not be found out, a clause each.
	unknown []string
	// registry and checked are of check.
	registry *jsonCheckedRegistry
	checked  *jsonCoverage
	// about is of audit.
	about *jsonAudit
}

// finding is something that is wrong.
type finding struct {
	rule, message string
	// file is where it is, or empty. line and column count from 1, columns in characters; 0 is unknown.
	file         string
	line, column int
	// entry is what audit finds it of.
	entry *entry
}

// find adds a finding and its line.
func (r *report) find(f finding, line string) {
	r.findings = append(r.findings, f)
	fmt.Fprintln(&r.text, line)
}

func findingOf(f registry.Fault, rule string) finding {
	return finding{rule: rule, message: f.Text, file: f.File, line: f.Line, column: f.Column}
}

// count returns how many findings break a rule that makes the answer one of something found. What is not checked breaks none.
func (r *report) count() (n int) {
	for _, f := range r.findings {
		if f.rule != manifest.RuleUnread {
			n++
		}
	}
	return n
}

// finishReport writes a report in its format, and returns the exit code.
func (s Streams) finishReport(r *report, format string, err error) int {
	out := &r.text
	write := map[string]func(*report, []string) any{FormatJSON: jsonReport, FormatSARIF: sarifReport}[format]
	if write != nil {
		var problems []string
		for _, one := range separate(err) {
			problems = append(problems, one.Error())
		}
		out = new(bytes.Buffer)
		if failed := writeIndented(out, write(r, problems)); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	return s.finish(out, r.count() > 0, err, r.unknown)
}

// separate returns the errors that an error joins.
func separate(err error) (all []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	for _, one := range joined.Unwrap() {
		all = append(all, separate(one)...)
	}
	return all
}

// subject returns what an entry is about: "tcp 0.0.0.0:22" for a listener, "tcp 25" for a service.
func (e entry) subject() string {
	if e.listener == nil {
		return e.proto + " " + e.ports()
	}
	return e.proto + " " + addressAndPort(e.listener)
}

// serviceEntry returns the entry of a service.
func serviceEntry(state inventory.ServiceState, about string) *entry {
	return &entry{proto: state.Proto, port: state.Port, state: about, service: state}
}

// firstFile returns the first file of a registry.
func firstFile(files []string) string {
	if len(files) == 0 || files[0] == Stdin {
		return ""
	}
	return strings.TrimSuffix(files[0], "/")
}
