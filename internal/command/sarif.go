//go:build linux

package command

import (
	"net/url"
	"path/filepath"
	"slices"

	"github.com/prometheus/common/version"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/manifest"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// SARIF 2.1.0, as far as findings need it:
// https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/sarif-v2.1.0-errata01-os-complete.html

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool        sarifTool         `json:"tool"`
	Invocations []sarifInvocation `json:"invocations"`
	// ColumnKind is how columns count. In UTF-16, which is the default, a character may be two.
	ColumnKind string        `json:"columnKind"`
	Results    []sarifResult `json:"results"`
}

type sarifTool struct {
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	Version        string      `json:"version"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID               string    `json:"id"`
	ShortDescription sarifText `json:"shortDescription"`
}

type sarifText struct {
	Text string `json:"text"`
}

// sarifInvocation is how the run went. Notifications are what was not checked, and why.
type sarifInvocation struct {
	ExecutionSuccessful bool                `json:"executionSuccessful"`
	Notifications       []sarifNotification `json:"toolExecutionNotifications"`
}

type sarifNotification struct {
	Level     string          `json:"level"`
	Message   sarifText       `json:"message"`
	Locations []sarifLocation `json:"locations,omitempty"`
}

type sarifResult struct {
	RuleID    string          `json:"ruleId"`
	RuleIndex int             `json:"ruleIndex"`
	Kind      string          `json:"kind"`
	Level     string          `json:"level"`
	Message   sarifText       `json:"message"`
	Locations []sarifLocation `json:"locations,omitempty"`
}

type sarifLocation struct {
	Physical *sarifPhysical `json:"physicalLocation,omitempty"`
	Logical  []sarifLogical `json:"logicalLocations,omitempty"`
}

type sarifPhysical struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   *sarifRegion  `json:"region,omitempty"`
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifRegion struct {
	StartLine   int `json:"startLine"`
	StartColumn int `json:"startColumn,omitempty"`
}

// sarifLogical is what a finding of audit is about, such as "tcp 0.0.0.0:22".
type sarifLogical struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

const (
	sarifSchema    = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	sarifVersion   = "2.1.0"
	informationURI = "https://github.com/listen-exporter/listen_exporter"
)

// ruleText describes a rule that findings break, or a note of audit.
func ruleText(rule string) string {
	return map[string]string{
		RuleRegistry:                 "A registry has a fault",
		manifest.RuleDuplicate:       "Two objects take the same port of a node",
		manifest.RuleTwice:           "A Service has one port twice",
		manifest.RuleHostNetwork:     "A hostPort differs from its containerPort, which host networking does not allow",
		manifest.RuleRange:           "A port is not among those that are reserved for the namespace",
		manifest.RulePrivileged:      "The namespace does not allow this port below 1024",
		manifest.RuleForbidden:       "The registry forbids a port of a node",
		manifest.RuleService:         "A nodePort is the port of a service of the registry",
		manifest.RuleAnnotation:      "An annotation of a Namespace does not list the ports that the registry reserves for it",
		manifest.RuleValue:           "A value is none that Kubernetes accepts",
		manifest.RuleUnread:          "A file or a part of it could not be checked",
		inventory.ReasonForbidden:    "A forbidden port is open",
		inventory.ReasonUnregistered: "No service declares the port",
		inventory.ReasonReserved:     "The port is reserved for a team",
		inventory.ReasonBind:         "A service listens on a wider or another address than declared",
		inventory.ReasonProcess:      "Another process or unit than declared holds the port",
		stateMissing:                 "A required service does not listen as declared",
		noteAssumed:                  "A service is assumed to listen as declared",
		noteElsewhere:                "A service that must listen on one of its hosts does not listen on this one",
	}[rule]
}

// sarifReport returns a report for SARIF.
func sarifReport(r *report, problems []string) any {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: wording.Program, Version: version.Version, InformationURI: informationURI, Rules: []sarifRule{}}},
		Invocations: []sarifInvocation{{ExecutionSuccessful: len(problems) == 0, Notifications: []sarifNotification{}}},
		ColumnKind:  "unicodeCodePoints",
		Results:     []sarifResult{},
	}
	rules := &run.Tool.Driver.Rules
	add := func(kind, level string, f finding) {
		at := slices.IndexFunc(*rules, func(r sarifRule) bool { return r.ID == f.rule })
		if at < 0 {
			at = len(*rules)
			*rules = append(*rules, sarifRule{f.rule, sarifText{ruleText(f.rule)}})
		}
		text := f.message
		if f.entry != nil {
			text = f.entry.subject() + ": " + text
		}
		run.Results = append(run.Results, sarifResult{f.rule, at, kind, level, sarifText{text}, f.sarifLocations()})
	}
	for _, f := range r.findings {
		add("fail", "error", f)
	}
	for _, f := range r.notes {
		add("informational", "none", f)
	}
	notify := func(level, text string, locations []sarifLocation) {
		n := &run.Invocations[0].Notifications
		*n = append(*n, sarifNotification{level, sarifText{text}, locations})
	}
	for _, text := range problems {
		notify("error", text, nil)
	}
	for _, text := range r.unknown {
		notify("warning", text, nil)
	}
	for _, s := range r.skipped {
		notify("note", "not checked: "+s.Reason, finding{file: s.File, line: s.Line}.sarifLocations())
	}
	return sarifLog{Schema: sarifSchema, Version: sarifVersion, Runs: []sarifRun{run}}
}

// sarifLocations returns where a finding is.
func (f finding) sarifLocations() []sarifLocation {
	var at sarifLocation
	if f.file != "" {
		at.Physical = &sarifPhysical{Artifact: sarifArtifact{uriOf(f.file)}}
		if f.line > 0 {
			at.Physical.Region = &sarifRegion{f.line, f.column}
		}
	}
	if f.entry != nil {
		at.Logical = []sarifLogical{{f.entry.subject(), "resource"}}
	}
	if at.Physical == nil && at.Logical == nil {
		return nil
	}
	return []sarifLocation{at}
}

// uriOf returns a path as a URI, which is relative unless the path is not.
func uriOf(path string) string {
	uri := url.URL{Path: filepath.ToSlash(filepath.Clean(path))}
	if filepath.IsAbs(path) {
		uri.Scheme = "file"
	}
	return uri.String()
}
