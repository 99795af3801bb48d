package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// The commands.
const (
	serveCommand = "serve"
	listCommand  = "list"
	auditCommand = "audit"
	checkCommand = "check"
)

// addCommands declares the commands, with the flags that are theirs alone.
func addCommands(app *kingpin.Application, c *config) {
	app.Command(serveCommand, "Serve metrics: what is done without a command.")
	list := app.Command(listCommand, "Show what listens now.")
	list.Flag("format", "How: table, json, or registry for a ports.yml that declares what listens.").
		Default(formatTable).EnumVar(&c.format, formatTable, formatJSON, formatRegistry)
	app.Command(auditCommand, "Hold what listens now against --registry.file: show each violation and each missing service. Exit code 1 if there is any.")
	check := app.Command(checkCommand, "Show the faults of registries and of Kubernetes manifests. Exit code 1 if there is any.")
	check.Flag("manifests", "Look through this directory of Kubernetes manifests for host ports that are taken twice, and for ports outside of the ranges that the registry reserves. Repeatable.").
		PlaceHolder("DIR").StringsVar(&c.manifests)
	check.Arg("FILE", "A registry, ports.yml. Repeatable.").StringsVar(&c.files)
}

// parseCommand parses the command line and returns the command. Without one it is serve: kingpin's own defaults for commands
// pass over a flag that lacks its value.
func parseCommand(app *kingpin.Application, args []string) (string, error) {
	context, err := app.ParseContext(args)
	switch {
	case context == nil || context.SelectedCommand != nil || asksForText(context):
	case err == nil:
		args = append(slices.Clone(args), serveCommand)
	case context.Peek().Type == kingpin.TokenArg:
		return "", fmt.Errorf("unknown command %q: want serve, list, audit or check", context.Peek().Value)
	}
	return app.Parse(args)
}

// asksForText tells whether a command line asks for a text alone, such as --help.
func asksForText(context *kingpin.ParseContext) bool {
	return slices.ContainsFunc(context.Elements, func(e *kingpin.ParseElement) bool {
		flag, isFlag := e.Clause.(*kingpin.FlagClause)
		if !isFlag {
			return false
		}
		kind, _, _ := strings.Cut(flag.Model().Name, "-")
		return slices.Contains([]string{"help", "version", "completion"}, kind)
	})
}

// ended is how a text that was asked for ends parsing: with an exit code. The flag library takes it that what it calls then does
// not return.
type ended int

func (e ended) err() error {
	if e == 0 {
		return nil
	}
	return errors.New("no such command")
}
