//go:build linux

package main

import (
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kingpin/v2"
)

// commandLogLevel is the default level of all commands but serve: someone waits for the answer, and only needs to see problems.
const commandLogLevel = "warn"

// usageTemplate is the template of --help. Unlike kingpin's own, the help of a command starts with the flags of that command,
// and shows only those of the other flags that have an effect on it. All of them are accepted.
const usageTemplate = `{{define "Signature"}}{{if .FlagSummary}} {{.FlagSummary}}{{end -}}
{{range .Args}} [{{if eq .Name "COMMAND"}}-- {{end}}<{{.Name}}>{{if .Value|IsCumulative}}...{{end}}]{{end}}{{end -}}

{{with .Context.SelectedCommand -}}
usage: {{$.App.Name}} {{.}}{{template "Signature" .}}

{{.Help|Wrap 0 -}}
{{with examples .Name}}
Examples:
{{range .}}  {{.Line}}
      {{.What}}
{{end}}{{end -}}
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
Commands:
{{range helpLast .App.Commands}}{{if not .Hidden}}  {{.FullCommand}}{{template "Signature" .}}{{if eq .Name "serve"}} (default){{end}}
{{.Help|Wrap 6}}{{with index (examples .Name) 0}}      Example: {{.Line}}
{{end}}{{end}}{{end}}
Flags of serve:
{{.Context.Flags|FlagsToTwoColumns|FormatTwoColumns -}}
{{end -}}
`

var usageFuncs = template.FuncMap{
	"shared": sharedFlags, "examples": examples, "helpLast": helpLast,
	"roff": roff, "flagForm": flagForm, "title": manTitle, "address": func() string { return roff(address) },
}

// example is a command line, and what it is for.
type example struct{ Line, What string }

// examples returns examples of a command. The first one is in --help.
func examples(command string) []example {
	switch command {
	case serveCommand:
		return []example{
			{"listen_exporter --web.listen-address=127.0.0.1:10190", "Serve metrics and the page to this host only."},
			{"listen_exporter --registry.file=/etc/listen_exporter/ports.yml", "Compare the listeners with a registry at each scrape."},
			{"listen_exporter --collector.netns=all", "Report what listens in containers, too."},
		}
	case listCommand:
		return []example{
			{"listen_exporter list 443", "Show who listens on port 443, and since when."},
			{"listen_exporter list 22 udp/53 8000-8010", "Ask for several ports. Exit code 1 unless something listens on each."},
			{`listen_exporter list --process="nginx*" --scope=any,public`, "Show what nginx opens to other machines."},
			{"listen_exporter list --registry.file=ports.yml --state=violation,missing", "Show only what is not as declared."},
			{"listen_exporter list --watch", "Redraw the table every 2 s."},
			{"listen_exporter list --format=registry > ports.yml", "Write a registry that declares what listens now."},
			{"listen_exporter list --format=prometheus --output=/var/lib/prometheus/node-exporter/listen.prom", "Write metrics for node_exporter's textfile collector."},
		}
	case auditCommand:
		return []example{
			{"listen_exporter audit --registry.file=ports.yml", "Show each violation and each missing service."},
			{"listen_exporter audit --registry.file=ports.yml --format=json", "Show the same for a program."},
		}
	case checkCommand:
		return []example{
			{"listen_exporter check ports.yml", "Check a registry."},
			{"listen_exporter check ports.yml --manifests=deploy/ --format=sarif", "Check Kubernetes manifests by its ranges, for code scanning."},
		}
	case leaseCommand:
		return []example{
			{"listen_exporter lease -- npm test", "Run a command with a port of its own, in PORT."},
			{"listen_exporter lease --team=ci --count=2 -- docker compose up", "Lease two ports of a team, for PORT_1 and PORT_2."},
			{"listen_exporter lease --format=json --ttl=10m", "Only take a lease, and print it with its id and ports."},
			{"listen_exporter lease --end=6f1c0a52e4b94d7f8c33b1d09a7e5f24", "End that lease."},
		}
	case helpCommand:
		return []example{{"listen_exporter help list", "Show the flags of list."}}
	}
	return nil
}

// helpLast returns the commands in the order of --help. kingpin puts its own first.
func helpLast(commands []*kingpin.CmdModel) []*kingpin.CmdModel {
	isHelp := func(c *kingpin.CmdModel) bool { return c.Name == helpCommand }
	others := slices.DeleteFunc(slices.Clone(commands), isHelp)
	return append(others, slices.DeleteFunc(slices.Clone(commands), func(c *kingpin.CmdModel) bool { return !isHelp(c) })...)
}

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
			f.Default, f.PlaceHolder = nil, "NUMBER"
			if f.Help += " By default all are reported."; command == listCommand {
				f.Help += " With --format=prometheus the default is that of serve."
			}
		case f.Name == "state.file":
			f.Default, f.PlaceHolder, f.Help = []string{shippedState}, "", "File in which the exporter keeps what it remembers. It is only read, and only for a port or a service."
		case f.Name == "collector.udp.ephemeral-min-age":
			f.Help = "0s includes UDP sockets on ephemeral ports, most of which are clients. Only with --format=prometheus."
		case f.Name == "lease.listen-address":
			f.Help = "Where the exporter serves the API of leases."
			if command != leaseCommand {
				f.Help += " Listeners are judged by its leases if this is a unix:PATH that is there."
			}
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
		return startsWith("help", "path.", "collector.", "registry.", "state.", "lease.listen-address", "log.level", "log.format") &&
			!startsWith("collector.interval", "collector.settled-after", "collector.remember", "collector.events", "collector.traffic", "registry.optional-file")
	case auditCommand: // it refuses filters
		return affects(flag, listCommand) && !startsWith("collector.port-", "collector.scope-", "collector.tcp", "collector.udp", "state.")
	case checkCommand:
		return startsWith("help", "registry.file", "log.level", "log.format")
	case leaseCommand:
		return startsWith("help", "lease.listen-address", "log.level", "log.format")
	case helpCommand:
		return startsWith("help")
	}
	return true
}
