//go:build linux

package registry

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Holder is a process that has a listener's socket open. Unknown parts are empty.
type Holder struct {
	// Process is its name as in /proc/<pid>/comm, made valid UTF-8.
	Process string
	// Executable is the base name of /proc/<pid>/exe. Node, for one, calls every process MainThread.
	Executable string
	// Unit is its systemd unit, such as ssh.service.
	Unit string
	// NoUnit is set if it is known to be in no unit other than a container's own scope, such as a process of a Docker container.
	NoUnit bool
}

// pattern is a declared name of a process or a unit, with the globs * and ?. Every other character is literal: names may contain
// brackets and backslashes.
type pattern struct {
	text string
	// within is set if globs match no slash.
	within bool
	kept   *pattern // of what the kernel keeps of a long process name; nil for any other
}

// ProcessGlob returns a function that reports whether a holder has a name, as a service that declares this process takes it.
func ProcessGlob(name string) func(Holder) bool { return processPattern(name).isProcess }

// maxComm is how many bytes of a process name the kernel keeps: TASK_COMM_LEN in include/linux/sched.h, less the final zero
// byte.
const maxComm = 15

// processPattern returns the pattern for the name of a process, in which * matches any characters. If more than 15 bytes come
// before the first *, a process also matches with the first 15 of them.
func processPattern(text string) pattern {
	p := pattern{text: text}
	if head, _, _ := strings.Cut(text, "*"); len(head) > maxComm {
		p.kept = &pattern{text: strings.ToValidUTF8(head[:maxComm], "\ufffd")}
	}
	return p
}

// unitPattern returns the pattern for the name of a unit. Globs match no slash, so that no user's own unit, such as
// user@1000.service/web.service, matches "*.service".
func unitPattern(text string) pattern { return pattern{text: text, within: true} }

// matches reports whether a name is the declared one. If that fails after a *, it tries again with one more character for the last *:
// those before it need no other try.
func (p pattern) matches(name string) bool {
	text, star, rest := p.text, -1, ""
	at := 0 // in text
	for name != "" {
		c, size := utf8.DecodeRuneInString(name)
		free := c != '/' || !p.within
		switch {
		case at < len(text) && text[at] == '*':
			star, rest = at, name
			at++
		case at < len(text) && text[at] == '?' && free:
			name = name[size:]
			at++
		case strings.HasPrefix(text[at:], name[:size]) && text[at] != '?':
			name = name[size:]
			at += size
		case star >= 0:
			c, size := utf8.DecodeRuneInString(rest)
			if c == '/' && p.within {
				return false
			}
			rest = rest[size:]
			name, at = rest, star+1
		default:
			return false
		}
	}
	return strings.Trim(text[at:], "*") == ""
}

// isProcess reports whether a holder has the declared name: as the process calls itself, or as its executable is called.
func (p pattern) isProcess(h Holder) bool {
	return p.matches(h.Process) || p.kept != nil && p.kept.matches(h.Process) || h.Executable != "" && p.matches(h.Executable)
}

// isUnit reports whether a unit is the declared one, or the socket unit that listens for it until it is first needed.
func (p pattern) isUnit(unit string) bool {
	socket, isSocket := strings.CutSuffix(unit, ".socket")
	return p.matches(unit) || isSocket && p.matches(socket+".service")
}

// mayHold reports whether a holder is in the declared unit, as far as its unit is known. A container may have a scope to itself,
// such as docker-<id>.scope, which is not counted as its unit.
func (p pattern) mayHold(h Holder) bool {
	switch {
	case h.Unit != "":
		return p.isUnit(h.Unit)
	case h.NoUnit:
		return strings.HasSuffix(p.text, ".scope")
	default:
		return true
	}
}

// activator is the name of the process that holds the sockets of a socket unit until its service takes them: systemd, as PID 1,
// which is never an exact holder, or as a user's manager.
const activator = "systemd"

// activates reports whether a holder has the socket open for a service to come.
func (h Holder) activates() bool {
	return h.Process == activator && strings.HasSuffix(h.Unit, ".socket")
}

// toldByHolder reports whether the service says who may hold its ports.
func (s *service) toldByHolder() bool { return len(s.processes)+len(s.units) > 0 }

// holders returns who may hold the ports, such as "process sshd or dropbear, unit ssh.service".
func (s *service) holders() string {
	var parts []string
	for _, of := range []struct {
		key   string
		names []pattern
	}{{"process ", s.processes}, {"unit ", s.units}} {
		texts := make([]string, len(of.names))
		for i, p := range of.names {
			texts[i] = p.text
		}
		if len(texts) > 0 {
			parts = append(parts, of.key+shortened(texts, " or "))
		}
	}
	return strings.Join(parts, ", ")
}

// declares reports whether the service declares a holder, with its process and its unit both. Unknown parts of the holder are not
// judged.
func (s *service) declares(h Holder) bool {
	if len(s.units) > 0 && !slices.ContainsFunc(s.units, func(p pattern) bool { return p.mayHold(h) }) {
		return false
	}
	return h.Process == "" || len(s.processes) == 0 || h.activates() ||
		slices.ContainsFunc(s.processes, func(p pattern) bool { return p.isProcess(h) })
}

// names reports whether the service declares a holder, of which all that it says is known: unlike declares, it does not forgive what
// is not known.
func (s *service) names(h Holder) bool {
	inUnit := slices.ContainsFunc(s.units, func(p pattern) bool { return h.Unit != "" && p.isUnit(h.Unit) })
	if len(s.units) > 0 && !inUnit {
		return false
	}
	return len(s.processes) == 0 || inUnit && h.activates() ||
		h.Process != "" && slices.ContainsFunc(s.processes, func(p pattern) bool { return p.isProcess(h) })
}

// checkProcess returns what is wrong with the name of a process, or nothing.
func checkProcess(name string) string {
	if base := name[strings.LastIndexByte(name, '/')+1:]; strings.HasPrefix(name, "/") && base != "" {
		return "is a path: want the name of the process, such as " + base
	}
	if namesInOne.Get().MatchString(name) {
		return "is several names in one text: want [" + strings.Join(nameSeparator.Get().Split(name, -1), ", ") + "]"
	}
	return ""
}

var (
	// namesInOne matches a list of names that is one text: hardly any process has a comma or a | in its name.
	namesInOne    = wording.Regexp(`^[-\w.*?]+(\s*[,|]\s*[-\w.*?]+)+$`)
	nameSeparator = wording.Regexp(`\s*[,|]\s*`)
)

var (
	// unitTypes are the types of units that have processes or sockets (systemd.unit(5)).
	unitTypes = []string{".service", ".socket", ".scope", ".mount", ".swap"}
	// otherTypes are those that have none of their own.
	otherTypes = []string{".slice", ".timer", ".target", ".path", ".device", ".automount"}
)

// unitName is the form of the name of a unit (systemd.unit(5)), with globs.
var unitName = wording.Regexp(`^[-a-zA-Z0-9:_.\\@*?/]*$`)

// checkUnit returns what is wrong with the name of a unit, or nothing. A unit of a user's manager is in that one's unit:
// user@1000.service/web.service.
func checkUnit(name string) string {
	base := name[strings.LastIndexByte(name, '/')+1:]
	if manager, _, inside := strings.Cut(name, "/"); inside && (!strings.HasPrefix(manager, "user@") || !strings.HasSuffix(manager, ".service") || strings.Count(name, "/") > 1) {
		if at := strings.Index(name, "user@"); at >= 0 && hasType(base, unitTypes) && !strings.HasPrefix(base, "user@") {
			manager, _, _ = strings.Cut(name[at:], "/")
			base = manager + "/" + base
		}
		if !hasType(base, unitTypes) {
			base = "ssh.service"
		}
		return "is a path: want the name of the unit, such as " + wording.Quoted(base)
	}
	switch {
	case !unitName.Get().MatchString(name):
		return "is not the name of a unit: want one, such as " + wording.Quoted("ssh.service") + ", or a list of them"
	case strings.Contains(base, "@.") && hasType(name, unitTypes):
		return "is a template, which has no processes: want its instances, such as " + wording.Quoted(strings.Replace(name, "@.", "@*.", 1))
	case hasType(name, unitTypes):
		return ""
	case strings.HasSuffix(name, ".slice"):
		return "is a slice, which only groups other units: want those, such as " + wording.Quoted("ssh.service")
	case hasType(name, otherTypes):
		at := strings.LastIndexByte(name, '.')
		return "is a " + name[at+1:] + ", which has no processes: want its service, such as " + wording.Quoted(name[:at]+".service")
	}
	return "has no type: want its full name, such as " + wording.Quoted(strings.TrimRight(strings.TrimSuffix(name, ".*"), ".")+".service")
}

func hasType(name string, types []string) bool {
	return slices.ContainsFunc(types, func(suffix string) bool { return strings.HasSuffix(name, suffix) && len(name) > len(suffix) })
}
