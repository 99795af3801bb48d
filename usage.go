package main

import (
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kingpin/v2"
)

// usageTemplate is how --help looks. Of a command it shows its own flags first, and of the others those that mean something to
// it: all are taken.
const usageTemplate = `{{define "Signature"}}{{if .FlagSummary}} {{.FlagSummary}}{{end -}}
{{range .Args}}{{if not .Hidden}} [<{{.Name}}>{{if .Value|IsCumulative}}...{{end}}]{{end}}{{end}}{{end -}}

{{with .Context.SelectedCommand -}}
usage: {{$.App.Name}} {{.}}{{template "Signature" .}}

{{.Help|Wrap 0 -}}
{{if .Flags}}
Flags:
{{.Flags|FlagsToTwoColumns|FormatTwoColumns -}}
{{end -}}
{{if shownArgs .Args}}
Args:
{{.Args|ArgsToTwoColumns|FormatTwoColumns -}}
{{end}}
Flags of all commands:
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

// usageFuncs returns what usageTemplate calls.
func usageFuncs() template.FuncMap {
	return template.FuncMap{
		"shared": func(command string, flags []*kingpin.FlagModel) []*kingpin.FlagModel {
			var shown []*kingpin.FlagModel
			for _, f := range flags {
				if concerns(command, f.Name) {
					shown = append(shown, flagOf(command, *f))
				}
			}
			return shown
		},
		"shownArgs": func(args []*kingpin.ArgModel) bool {
			return slices.ContainsFunc(args, func(a *kingpin.ArgModel) bool { return !a.Hidden })
		},
	}
}

// concerns tells whether a flag that is no command's own means something to a command.
func concerns(command, flag string) bool {
	under := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(flag, p) })
	}
	switch command {
	case listCommand:
		return flag != "collector.udp.ephemeral-min-age" && under("help", "path.", "collector.", "registry.", "log.")
	case auditCommand: // which takes nothing that leaves out, see validateWhole
		return concerns(listCommand, flag) && !under("collector.port-", "collector.scope-", "collector.tcp", "collector.udp")
	case checkCommand:
		return under("help", "registry.file", "log.")
	}
	return true
}

// flagOf returns a flag that is no command's own as it is for a command: one that looks once has other defaults.
func flagOf(command string, f kingpin.FlagModel) *kingpin.FlagModel {
	if command == serveCommand {
		return &f
	}
	switch f.Name {
	case "collector.max-ports":
		f.Default, f.PlaceHolder, f.Help = nil, "NUMBER", f.Help+" By default all are reported."
	case "log.level":
		f.Default = []string{onceLogLevel}
	case "log.format":
		f.Default, f.PlaceHolder, f.Help = nil, "FORMAT", f.Help+" By default plain text, or logfmt where --log.level is given."
	}
	return &f
}
