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
			return slices.DeleteFunc(slices.Clone(flags), func(f *kingpin.FlagModel) bool { return !concerns(command, f.Name) })
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
	case listCommand, auditCommand:
		return flag != "collector.udp.ephemeral-min-age" && under("help", "path.", "collector.", "registry.", "log.")
	case checkCommand:
		return under("help", "registry.file", "log.")
	}
	return true
}
