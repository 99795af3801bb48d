//go:build linux

// Package completion writes the scripts with which shells complete a command line, from kingpin's model of a program. kingpin's own
// scripts complete no values, and offer every flag to every command.
package completion

import (
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// Shared returns which flags of the program a command takes, as they are for it.
type Shared func(command string, flags []*kingpin.FlagModel) []*kingpin.FlagModel

// defaultCommand is the command of a command line without one.
const defaultCommand = "serve"

// program is what the scripts need to know of a program.
type program struct {
	name     string
	commands []command
}

// command is a command with all flags that it takes.
type command struct {
	name, help string
	flags      []flag
	arg        string // the name of its arguments; empty without any
}

// flag is a flag with what its value may be: nothing, one of some words, a list of them, a file, or anything.
type flag struct {
	name, help  string
	placeholder string
	isBool      bool
	words       []string
	isList      bool
	file, dir   bool
	repeatable  bool
}

func newProgram(app *kingpin.ApplicationModel, shared Shared) program {
	p := program{name: app.Name}
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		all := command{name: c.Name, help: firstSentence(c.Help)}
		for _, f := range slices.Concat(c.Flags, shared(c.Name, app.Flags)) {
			if !f.Hidden {
				all.flags = append(all.flags, newFlag(f))
			}
		}
		for _, arg := range c.Args {
			all.arg = arg.Name
		}
		p.commands = append(p.commands, all)
	}
	return p
}

func newFlag(f *kingpin.FlagModel) flag {
	made := flag{
		name: f.Name, help: firstSentence(f.Help), isBool: f.IsBoolFlag(), placeholder: f.PlaceHolder,
		file: f.PlaceHolder == "FILE" || f.PlaceHolder == "PATH" || strings.HasSuffix(f.Name, ".file"),
		dir:  strings.HasPrefix(f.Name, "path."),
	}
	if made.placeholder == "" {
		made.placeholder = "VALUE"
	}
	if cumulative, can := f.Value.(interface{ IsCumulative() bool }); can {
		made.repeatable = cumulative.IsCumulative()
	}
	if words, has := f.Value.(interface{ Options() []string }); has {
		made.words, made.isList = words.Options(), made.repeatable
	}
	return made
}

// names returns how the flag is written, with an equals sign if a value must follow.
func (f flag) names() []string {
	switch {
	case f.name == "help", f.name == "version":
		return []string{"--" + f.name}
	case f.isBool:
		return []string{"--" + f.name, "--no-" + f.name}
	default:
		return []string{"--" + f.name + "="}
	}
}

// runs reports whether the command's arguments are a command line of another program, after a "--".
func (c command) runs() bool { return c.arg == "COMMAND" }

// takesFiles reports whether the command's arguments are files.
func (c command) takesFiles() bool { return c.arg == "FILE" }

func (p program) names() (names []string) {
	for _, c := range p.commands {
		names = append(names, c.name)
	}
	return names
}

// others returns the commands but the default one.
func (p program) others() []string {
	return slices.DeleteFunc(p.names(), func(name string) bool { return name == defaultCommand })
}

func (p program) flagsOf(name string) []flag {
	for _, c := range p.commands {
		if c.name == name {
			return c.flags
		}
	}
	return nil
}

// firstSentence returns what fits next to a word: what comes before a list, or the first sentence.
func firstSentence(text string) string {
	text, _, _ = strings.Cut(text, ". ")
	text, _, _ = strings.Cut(text, ": ")
	return strings.TrimSuffix(text, ".")
}

// quoted returns a text as one word of a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
