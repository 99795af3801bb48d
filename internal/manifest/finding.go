//go:build linux

package manifest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// The rules by which manifests are checked. They are names for machines, and never change.
const (
	RuleDuplicate   = "duplicate-port"     // two workloads or Services take one port of a node
	RuleTwice       = "service-port-twice" // a Service has one port twice
	RuleHostNetwork = "host-network-port"  // a hostPort differs from its containerPort
	RuleRange       = "port-range"         // a port is reserved for others, or not for its namespace
	RulePrivileged  = "privileged-port"    // a namespace does not allow a port below 1024
	RuleForbidden   = "forbidden-port"     // the registry forbids a port of a node
	RuleService     = "registered-port"    // a nodePort is the port of a service of the registry
	RuleAnnotation  = "annotation"         // an annotation of a Namespace is wrong
	RuleValue       = "bad-value"          // a value is none that Kubernetes accepts
	RuleUnread      = "not-checked"        // a file cannot be read as a manifest
)

// Finding is a fault of a manifest, and the rule that it breaks.
type Finding struct {
	registry.Fault
	Rule string
}

// Skipped is a file, or a value in one, that was not checked, for a reason that is no fault.
type Skipped struct {
	File string
	// Line counts from 1.
	Line int
	// Reason is why it was not checked.
	Reason string
}

// Report is the result of a check.
type Report struct {
	// Findings are sorted by place.
	Findings []Finding
	// Unread is what should have been checked, and could not be. The answer is not whole.
	Unread  []Finding
	Skipped []Skipped
	// Files is how many files were looked into. Workloads are the objects with pods in them.
	Files, Workloads, Services int
	// Namespaces is how many Namespaces with an annotation there were.
	Namespaces int
	// NotChecked counts what was not looked into, by its kind: HelmRelease, template.
	NotChecked map[string]int

	// found is how many findings a file has.
	found map[string]int
}

func newReport() *Report {
	return &Report{NotChecked: make(map[string]int), found: make(map[string]int)}
}

// place is the line and column of a value, as in a Fault. What an alias stands for is where it is written.
type place struct{ line, column int }

// maxFindings bounds the report of one file, as for a registry's.
const maxFindings = 1000

// find adds a finding. The last one of a file says that there are more.
func (r *Report) find(rule, file string, at place, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.found[file]++
	switch {
	case r.found[file] > maxFindings+1:
		return
	case r.found[file] > maxFindings:
		text = fmt.Sprintf("more than %d findings: the rest is not shown: want these fixed first", maxFindings)
	}
	r.Findings = append(r.Findings, Finding{registry.Fault{File: file, Line: at.line, Column: at.column, Text: text}, rule})
}

// unread adds what should have been checked.
func (r *Report) unread(file string, at place, format string, args ...any) {
	r.Unread = append(r.Unread, Finding{
		registry.Fault{File: file, Line: at.line, Column: at.column, Text: fmt.Sprintf(format, args...)}, RuleUnread,
	})
}

// skip adds a file or value that is not checked.
func (r *Report) skip(file string, line int, format string, args ...any) {
	r.Skipped = append(r.Skipped, Skipped{File: file, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// sort sorts the report by place, and removes what is in it twice.
func (r *Report) sort() {
	for _, list := range []*[]Finding{&r.Findings, &r.Unread} {
		slices.SortStableFunc(*list, func(a, b Finding) int { return a.Compare(b.Fault) })
		*list = slices.Compact(*list)
	}
	slices.SortFunc(r.Skipped, func(a, b Skipped) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Reason, b.Reason))
	})
	r.Skipped = slices.Compact(r.Skipped)
}
