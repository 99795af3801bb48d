//go:build linux

package main

import (
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kingpin/v2"
)

// commandLogLevel is the default level of list, audit and check: someone waits for the answer, and only needs to see problems.
const commandLogLevel = "warn"

// usageTemplate is the template of --help. Unlike kingpin's own, the help of a command starts with the flags of that command,
// and shows only those of the other flags that have an effect on it. All of them are accepted.
const usageTemplate = `{{define "Signature"}}{{if .FlagSummary}} {{.FlagSummary}}{{end -}}
{{range .Args}} [<{{.Name}}>{{if .Value|IsCumulative}}...{{end}}]{{end}}{{end -}}

{{with .Context.SelectedCommand -}}
usage: {{$.App.Name}} {{.}}{{template "Signature" .}}

{{.Help|Wrap 0 -}}
{{if .Flags}}
Flags:
{{.Flags|FlagsToTwoColumns|FormatTwoColumns -}}
{{end -}}
{{if .Args}}
Args:
{{.Args|ArgsToTwoColumns|FormatTwoColumns -}}
{{end}}
Common flags:
{{shared .Name $.App.Flags|FlagsToTwoColumns|FormatTwoColumns -}}
{{else -}}
usage: {{.App.Name}} [<flags>] [<command> [<args> ...]]

{{.App.Help|Wrap 0}}
Flags:
{{.Context.Flags|FlagsToTwoColumns|FormatTwoColumns}}
Commands:
{{range .App.FlattenedCommands}}{{if not .Hidden}}  {{.FullCommand}}{{template "Signature" .}}{{if eq .Name "serve"}} (default){{end}}
{{.Help|Wrap 6}}{{end}}{{end -}}
{{end -}}
`

var usageFuncs = template.FuncMap{"shared": sharedFlags}

// sharedFlags returns the flags of the program that have an effect on a command, with the defaults that they have for it.
func sharedFlags(command string, flags []*kingpin.FlagModel) []*kingpin.FlagModel {
	var shared []*kingpin.FlagModel
	for _, flag := range flags {
		if !affects(flag.Name, command) {
			continue
		}
		f := *flag
		switch {
		case command == serveCommand:
		case f.Name == "collector.max-ports":
			f.Default, f.PlaceHolder, f.Help = nil, "NUMBER", f.Help+" By default all are reported."
		case f.Name == "state.file":
			f.Default, f.PlaceHolder, f.Help = []string{shippedState}, "", "With a port or a service: file in which the exporter keeps what it remembers. It is only read."
		case f.Name == "collector.udp.ephemeral-min-age":
			f.Help = "With --format=prometheus: 0s includes UDP sockets on ephemeral ports, most of which are clients."
		case f.Name == "log.level":
			f.Default = []string{commandLogLevel}
		case f.Name == "log.format":
			f.Default, f.PlaceHolder, f.Help = nil, "FORMAT", f.Help+" By default plain text, or logfmt with --log.level."
		}
		shared = append(shared, &f)
	}
	return shared
}

// affects reports whether a flag of the program has an effect on a command.
func affects(flag, command string) bool {
	startsWith := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(flag, prefix) })
	}
	switch command {
	case listCommand:
		return startsWith("help", "path.", "collector.", "registry.", "state.", "log.") &&
			!startsWith("collector.interval", "collector.settled-after", "collector.remember")
	case auditCommand: // it refuses filters
		return affects(flag, listCommand) && !startsWith("collector.port-", "collector.scope-", "collector.tcp", "collector.udp", "state.")
	case checkCommand:
		return startsWith("help", "registry.file", "log.")
	}
	return true
}
