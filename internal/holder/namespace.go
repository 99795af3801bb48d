//go:build linux

package holder

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/users"
)

// shortID is how many digits of a container's ID name a network namespace: as many as container tools show.
const shortID = 12

// Namer names network namespaces by the processes that live in them.
type Namer struct {
	processes
	users users.Namespace
}

// NewNamer returns a namer for the processes under the procfs mounted at procfs, and the cgroups under sysfs.
func NewNamer(procfs, sysfs string) *Namer {
	root, _ := FindCgroup2(procfs, sysfs) // without it pods are known only outside of a cgroup namespace
	return &Namer{newProcesses(procfs, root), users.Own()}
}

// Name returns the name of the namespace in which processes live: the UID of their pod, or else the first digits of their
// container's ID or its name, or else "".
func (n *Namer) Name(pids []int) string {
	container := ""
	for _, pid := range pids {
		from, err := n.originOf(pid)
		if err != nil {
			continue
		}
		if from.podUID != "" {
			return from.podUID
		}
		if container == "" && from.containerID != "" {
			container = from.containerID
			if len(container) == 64 && isHex(container) {
				container = container[:shortID]
			}
		}
	}
	return container
}

// Inhabitants is what all processes of a network namespace have in common. It is empty unless they are in one container, pod or
// machine.
type Inhabitants struct {
	common Holder
	users  users.Namespace
}

// Inhabitants returns what the processes of a namespace have in common, which are all that there are.
func (n *Namer) Inhabitants(pids []int) Inhabitants {
	if len(pids) > maxNamed {
		return Inhabitants{}
	}
	var common Holder
	first := true
	for _, pid := range pids {
		of, err := n.originOf(pid)
		name, failed := n.comm(pid)
		if _, gone := os.Stat(n.pidDir(pid)); errors.Is(gone, fs.ErrNotExist) {
			continue
		}
		if err != nil || failed != nil {
			return Inhabitants{}
		}
		next := Holder{Process: name, Unit: of.unit, ContainerID: of.containerID, PodUID: of.podUID}
		if first {
			common, first = next, false
		}
		for _, same := range [][2]*string{
			{&common.Process, &next.Process}, {&common.Unit, &next.Unit}, {&common.ContainerID, &next.ContainerID}, {&common.PodUID, &next.PodUID},
		} {
			if *same[0] != *same[1] {
				*same[0] = ""
			}
		}
	}
	if common.ContainerID == "" && common.PodUID == "" && !isMachine(common.Unit) {
		return Inhabitants{}
	}
	return Inhabitants{common, n.users}
}

// isMachine reports whether a unit is a container of systemd-nspawn, or a virtual machine, as systemd-machined names them.
func isMachine(unit string) bool {
	return strings.HasPrefix(unit, "systemd-nspawn@") || strings.HasPrefix(unit, "machine-") && strings.HasSuffix(unit, ".scope")
}

// Holders returns who holds a socket of the namespace if nothing better is known: nobody else may be there.
func (i Inhabitants) Holders(s Socket) []Holder {
	if i == (Inhabitants{}) {
		return nil
	}
	h := i.common
	h.UID, h.UIDUnknown = i.users.Number(s.UID)
	return []Holder{h}
}
