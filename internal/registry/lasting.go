//go:build linux

package registry

import (
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// A draft declares names that are still right after a restart or an update. Where it cannot know them, they are right for the present
// holders.

var (
	// interpreter matches executables that run programs of other names.
	interpreter = wording.Regexp(`^((python|pypy|perl|ruby|php|node|nodejs|deno|bun|java|mono|dotnet|lua|luajit|tclsh|guile|` +
		`sh|bash|dash|zsh|ksh|busybox|toybox|coreutils)[-.0-9]*|(qemu-|wine|ld-).*)$`)
	// generic matches what runtimes call their main thread.
	generic = wording.Regexp(`(?i)thread|^(gil|main|pool|worker|exe)\b`)
	// changing matches where the version or the kind of CPU begins in a name. Digits without a dot are part of the name: apache2.
	changing = wording.Regexp(`[-_.]?v?\d+\.\d|[-_.](avx|sse|neon|x86|amd64|aarch64|arm64)\w*$`)
	// transient matches units that exist only while their processes run. Their names are made up at each start.
	transient = wording.Regexp(`\.scope$|^(run|app|dbus)-`)
	// number matches the part of such a name that the next unit does not have: a UUID, an ID, or a count. \x2d is an escaped minus.
	number = wording.Regexp(`(\\x2d|\b)([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z]?[0-9a-f]{8,}|[a-z]?\d+)\b`)
)

// literal replaces the globs in a name by one that matches them too, but not much else.
func literal(name string) string { return strings.ReplaceAll(name, "*", "?") }

// lastingProcess returns the name that declares a holder's process, as a list of one, or nothing if no name can.
func lastingProcess(h Holder) []string {
	comm, exe := h.Process, h.Executable
	if comm == "" {
		return nil
	}
	name, rest := exe, ""
	switch {
	case exe != "" && processPattern(literal(exe)).isProcess(Holder{Process: comm}):
	case strings.HasPrefix(exe, comm): // and the rest changes: passt.avx2, nc.openbsd
		name = comm
	case exe == "", interpreter.Get().MatchString(exe) && !generic.Get().MatchString(comm):
		name = comm
		// A process that sets its title begins with its name: "gunicorn: master [web]".
		if at := strings.IndexAny(comm, " :(["); at > 1 {
			name, rest = comm[:at], "*"
		}
	}
	if at := changing.Get().FindStringIndex(name); at != nil && at[0] > 1 {
		end := at[0]
		if name[:end] == "python" {
			end++ // an update keeps the 3
		}
		name, rest = name[:end], "*"
	}
	if name = literal(name) + rest; checkName(name) != "" || checkProcess(name) != "" {
		return nil
	}
	return []string{name}
}

// lastingUnit returns the name that declares a unit, as a list of one, or nothing if no name can. The service of a socket unit holds
// the socket from the first connection on.
func lastingUnit(unit string) []string {
	if socket, isSocket := strings.CutSuffix(unit, ".socket"); isSocket {
		unit = socket + ".service"
	}
	if checkName(unit) != "" || checkUnit(unit) != "" {
		return nil
	}
	user, name := "", literal(unit)
	if at := strings.LastIndexByte(name, '/'); at >= 0 {
		user, name = name[:at+1], name[at+1:]
	}
	if transient.Get().MatchString(name) {
		name = number.Get().ReplaceAllString(name, "${1}*")
	}
	return []string{user + name}
}
