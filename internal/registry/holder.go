package registry

import (
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Holder is a process that has a listener's socket open. Unknown parts are empty.
type Holder struct {
	// Process is its name as in /proc/<pid>/comm, made valid UTF-8.
	Process string
	// Unit is its systemd unit, such as ssh.service.
	Unit string
}

// maxComm is how many bytes of a process name the kernel keeps: TASK_COMM_LEN in include/linux/sched.h, less the final zero
// byte.
const maxComm = 15

// isProcess reports whether a process has the declared name, or what the kernel keeps of it.
func isProcess(process, declared string) bool {
	return process == declared || len(declared) > maxComm && process == strings.ToValidUTF8(declared[:maxComm], "\ufffd")
}

// isUnit reports whether a unit is the declared one, or the socket unit that listens for it until it is first needed.
func isUnit(unit, declared string) bool {
	socket, isSocket := strings.CutSuffix(unit, ".socket")
	return unit == declared || isSocket && socket+".service" == declared
}

// activator is the name of the process that holds the sockets of a socket unit until its service takes them: systemd, as PID 1,
// which is never an exact holder, or as a user's manager.
const activator = "systemd"

// heldBy reports whether the service declares a holder. Unknown parts of the holder are not judged.
func (s *service) heldBy(h Holder) bool {
	if h.Unit != "" && s.unit != "" && !isUnit(h.Unit, s.unit) {
		return false
	}
	return h.Process == "" || s.process == "" || isProcess(h.Process, s.process) || h.Process == activator && strings.HasSuffix(h.Unit, ".socket")
}

// holder returns the holder that the service declares, for a person. It is empty if the service declares none.
func (s *service) holder() string {
	var declared []string
	if s.process != "" {
		declared = append(declared, "process "+s.process)
	}
	if s.unit != "" {
		declared = append(declared, "unit "+s.unit)
	}
	return strings.Join(declared, ", ")
}

// checkProcess returns what is wrong with the name of a process, or nothing.
func checkProcess(name string) string {
	if base := name[strings.LastIndexByte(name, '/')+1:]; strings.HasPrefix(name, "/") && base != "" {
		return "is a path: want the name of the process, such as " + base
	}
	return ""
}

// unitTypes are the types of units that have processes or sockets (systemd.unit(5)). Slices have none of their own.
var unitTypes = []string{".service", ".socket", ".scope", ".mount", ".swap"}

// checkUnit returns what is wrong with the name of a unit, or nothing.
func checkUnit(name string) string {
	for _, suffix := range unitTypes {
		if strings.HasSuffix(name, suffix) && len(name) > len(suffix) {
			return ""
		}
	}
	return "has no type: want its full name, such as " + wording.Quoted(strings.TrimRight(name, ".")+".service")
}
