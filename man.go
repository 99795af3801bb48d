//go:build linux

package main

import (
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
)

// manTemplate is the man page: kingpin's own has the several lines of the version in its title, no --[no-] forms, and none of the
// sections at the end.
const manTemplate = `{{define "Flags"}}{{range .}}{{if not .Hidden}}.TP
\fB{{flagForm .|roff}}\fR
{{.Help|roff}}
{{end}}{{end}}{{end -}}

{{title}}
.SH NAME
listen_exporter \- Prometheus exporter for the ports that this host listens on
.SH SYNOPSIS
.B listen_exporter
[\fIflags\fR] [\fIcommand\fR [\fIargs\fR ...]]
.SH DESCRIPTION
{{.App.Help|roff}}
Without a command it serves metrics and a page.
list, audit and check read the host or files once, print an answer and end.
lease takes ports for a command that it runs.
.SH COMMANDS
{{range .App.Commands}}{{if and (not .Hidden) (ne .Name "help")}}.SS "{{.Name}}{{if .Flags}} [flags]{{end}}{{range .Args}} [{{if eq .Name "COMMAND"}}-- {{end}}{{.Name}}...]{{end}}"
{{.Help|roff}}
{{template "Flags" .Flags}}{{range .Args}}.TP
\fI{{.Name}}\fR
{{.Help|roff}}
{{end}}{{if ne .Name "serve"}}.PP
It takes these flags of serve as well:
{{range $n, $flag := shared .Name $.App.Flags}}{{if not $flag.Hidden}}{{if $n}},
{{end}}\fB{{printf "--%s" $flag.Name|roff}}\fR{{end}}{{end}}.
{{end}}{{end}}{{end -}}
.SH FLAGS OF SERVE
{{template "Flags" .App.Flags -}}
.SH EXAMPLES
{{range .App.Commands}}{{if ne .Name "help"}}{{range examples .Name}}.TP
\fB{{.Line|roff}}\fR
{{.What|roff}}
{{end}}{{end}}{{end -}}
.SH EXIT STATUS
.TP
.B 0
serve: a signal ended it.
list: it printed an answer, and something listens on each port that was asked for.
audit: every listener is as declared, and no service is missing.
check: there is no fault.
lease without a command: it printed a lease, renewed it or ended it.
.TP
.B 1
serve: it cannot start, or stopped with an error.
list: nothing listens on one of the ports.
audit and check: they found something.
lease without a command: too few ports are left.
All: standard output could not be written.
.TP
.B 2
The command line is wrong.
list, audit and check: there is no answer, or not all could be read.
list: the file of \fB\-\-output\fR could not be written.
lease without a command: the exporter did not answer, or refused.
.TP
.BR 125 ", " 126 ", " 127
lease with a command: there is no lease; the command cannot be executed; it is not found.
.TP
.B other
lease with a command: that of the command, or 128 and the number of the signal that ended it.
.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
serve: finishes the scrapes under way and exits with 0.
A second one ends it at once.
list \-\-watch: restores the terminal and exits with 0.
.TP
.B SIGHUP
serve: reloads the files of \fB\-\-registry.file\fR.
If one is bad, the last good registry stays in force.
list \-\-watch: ends as by SIGTERM.
.TP
.B all others
lease: passes every signal that can be caught on to the command.
It ends when the command does.
.SH ENVIRONMENT
.TP
.BR LISTEN_FDS ", " LISTEN_PID
The sockets that systemd passes, with \fB\-\-web.systemd\-socket\fR.
.TP
.BR GOMEMLIMIT ", " GOGC
Limits of memory, as every Go program takes them. listen_exporter.service sets the first.
.TP
.BR NO_COLOR ", " TERM
The table has no colours if NO_COLOR is set, or TERM is dumb or not set.
.TP
.BR PORT ", " PORT_1 ", " PORT_2 " ..."
The ports of a lease, which lease gives to the command.
PORT and PORT_1 are the first one.
.TP
.B COLUMNS
The width of the text of \fB\-\-help\fR.
.TP
.B TZ
The time zone of times in the answers about ports.
.SH FILES
.TP
.I /etc/default/listen_exporter
The flags of listen_exporter.service.
.TP
.I /etc/listen_exporter/ports.yml
The registry, if there is one: see \fB\-\-registry.file\fR.
The service reads it if it is there when it starts.
Where the state file is not known, list reads it for the answers about ports.
.TP
.I /etc/listen_exporter/ports.d
A directory for more of it, as files *.yml.
.TP
.I /var/lib/listen_exporter/state
What listen_exporter.service remembers: see \fB\-\-state.file\fR.
.TP
.I /var/lib/listen_exporter/leases.db
The leases, with \fB\-\-lease.enable\fR: see \fB\-\-lease.file\fR.
.TP
.I /run/listen_exporter/lease.sock
Where leases are asked for: see \fB\-\-lease.listen\-address\fR.
.TP
.I /usr/share/doc/listen\-exporter/examples/ports.yml
A registry that explains itself.
.SH SEE ALSO
.BR ss (8),
{{address}}
`

// address is where the project is.
const address = "https://github.com/listen-exporter/listen_exporter"

// manTitle returns the first line of the man page. Its day is that of the commit, so that one commit always makes the same page.
func manTitle() string {
	day := ""
	if built, err := time.Parse("20060102-15:04:05", version.BuildDate); err == nil {
		day = built.Format(time.DateOnly)
	}
	return `.TH LISTEN_EXPORTER 1 "` + roff(day) + `" "listen_exporter ` + roff(version.Version) + `" "User Commands"`
}

// roff escapes a text for a man page. An unescaped hyphen would be typeset, and could not be copied into a shell.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// flagForm returns how a flag is written.
func flagForm(flag *kingpin.FlagModel) string {
	short := ""
	if flag.Short != 0 {
		short = "-" + string(flag.Short) + ", "
	}
	switch {
	case flag.Name == "help", flag.Name == "version":
		return short + "--" + flag.Name
	case flag.IsBoolFlag():
		return short + "--[no-]" + flag.Name
	default:
		return short + "--" + flag.Name + "=" + flag.FormatPlaceHolder()
	}
}
