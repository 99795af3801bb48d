package registry

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Holder is a process that holds a listener's socket. What is not known of it is empty.
type Holder struct {
	// Process is its name as the kernel has it in /proc/<pid>/comm, made valid UTF-8.
	Process string
	// Unit is the systemd unit that it runs in, such as ssh.service.
	Unit string
}

// maxComm is how much of a process name the kernel keeps: TASK_COMM_LEN in include/linux/sched.h, less the final zero byte.
const maxComm = 15

// processName is a name as declared, and what the kernel keeps of it. The zero value stands for any.
type processName struct{ full, comm string }

func newProcessName(name string) processName {
	comm := name
	if len(comm) > maxComm {
		comm = strings.ToValidUTF8(comm[:maxComm], "\ufffd")
	}
	return processName{full: name, comm: comm}
}

func (n processName) is(process string) bool { return process == n.comm || process == n.full }

// unitName is a unit as declared. The zero value stands for any.
type unitName struct{ name string }

// is tells whether a unit is the declared one, or the socket unit that listens in its place until it is first needed.
func (n unitName) is(unit string) bool {
	if unit == n.name {
		return true
	}
	service, isService := strings.CutSuffix(n.name, ".service")
	socket, isSocket := strings.CutSuffix(unit, ".socket")
	return isService && isSocket && service == socket
}

// activator is the name of the process that holds the sockets of a socket unit until its service takes them: PID 1.
const activator = "systemd"

// heldBy tells whether a holder is one that the service declares. What is not known is not judged.
func (s *service) heldBy(h Holder) bool {
	if s.unit.name != "" && h.Unit != "" && !s.unit.is(h.Unit) {
		return false
	}
	if s.process.full == "" || h.Process == "" || s.process.is(h.Process) {
		return true
	}
	return h.Process == activator && strings.HasSuffix(h.Unit, ".socket")
}

// holder returns what the service declares of its holder, for a person; empty if it declares nothing.
func (s *service) holder() string {
	var declared []string
	if s.process.full != "" {
		declared = append(declared, "process "+s.process.full)
	}
	if s.unit.name != "" {
		declared = append(declared, "unit "+s.unit.name)
	}
	return strings.Join(declared, ", ")
}

func (p *parser) process(n *yaml.Node) processName {
	name, ok := p.name(n, "process", "sshd")
	if !ok {
		return processName{}
	}
	if base := name[strings.LastIndexByte(name, '/')+1:]; name[0] == '/' && base != "" {
		p.at(n, "process %s is a path: want the process's name, such as %s", quoted(name), base)
		return processName{}
	}
	return newProcessName(name)
}

// unitTypes are the types of unit that processes and sockets belong to (systemd.unit(5)); slices are passed over.
var unitTypes = []string{".service", ".socket", ".scope", ".mount", ".swap"}

func (p *parser) unit(n *yaml.Node) unitName {
	name, ok := p.name(n, "unit", "ssh.service")
	if !ok {
		return unitName{}
	}
	if problem := checkUnit(name); problem != "" {
		p.at(n, "unit %s %s", quoted(name), problem)
		return unitName{}
	}
	return unitName{name}
}

func checkUnit(name string) string {
	for _, suffix := range unitTypes {
		if strings.HasSuffix(name, suffix) && len(name) > len(suffix) {
			return ""
		}
	}
	return fmt.Sprintf("has no type: want its full name, such as %s", quoted(strings.TrimRight(name, ".")+".service"))
}
