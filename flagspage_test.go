//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// The page is generated from what kingpin knows, so that each flag is explained once: in its help.
func TestThePageOfTheFlagsIsCurrent(t *testing.T) {
	app, c := kingpin.New("", "").Version(""), new(config)
	addFlags(app, c)
	addCommands(app, c)
	model := app.Model()
	page := new(strings.Builder)
	for _, name := range []string{serveCommand, listCommand, auditCommand, checkCommand, leaseCommand} {
		if name == serveCommand {
			flagTable(page, name, model.Flags, func(flag *kingpin.FlagModel) string {
				var also []string
				for _, other := range []string{listCommand, auditCommand, checkCommand, leaseCommand} {
					if affects(flag.Name, other) {
						also = append(also, "`"+other+"`")
					}
				}
				return " " + strings.Join(also, ", ") + " |"
			})
			continue
		}
		command := model.Commands[slices.IndexFunc(model.Commands, func(c *kingpin.CmdModel) bool { return c.Name == name })]
		flags := slices.Clone(command.Flags)
		for _, shared := range sharedFlags(name, model.Flags) {
			of := model.Flags[slices.IndexFunc(model.Flags, func(f *kingpin.FlagModel) bool { return f.Name == shared.Name })]
			if shared.Help != of.Help || !slices.Equal(shared.Default, of.Default) { // here it is another one
				flags = append(flags, shared)
			}
		}
		flagTable(page, name, flags, func(*kingpin.FlagModel) string { return "" })
	}
	tools.Generated(t, "docs/flags.md", strings.TrimPrefix(page.String(), "\n"), *update)
}

// flagTable writes the table of a command's flags. more returns further cells.
func flagTable(page *strings.Builder, command string, flags []*kingpin.FlagModel, more func(*kingpin.FlagModel) string) {
	fmt.Fprintf(page, "\n## %s\n\n", command)
	if command == serveCommand {
		page.WriteString("| flag | default | meaning | also of |\n|---|---|---|---|\n")
	} else {
		page.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	}
	for _, flag := range flags {
		if flag.Hidden {
			continue
		}
		form, value := "--"+flag.Name, ""
		switch {
		case flag.Name == "help" || flag.Name == "version":
		case flag.IsBoolFlag():
			form = "--[no-]" + flag.Name
			value = "off"
			if slices.Equal(flag.Default, []string{"true"}) {
				value = "on"
			}
		case len(flag.Default) > 0 && flag.Default[0] != "":
			value = "`" + strings.Join(flag.Default, ",") + "`"
		}
		fmt.Fprintf(page, "| `%s` | %s | %s |%s\n", form, value, tools.Cell(flag.Help), more(flag))
	}
}
