//go:build linux

package holder

import (
	"strconv"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/users"
)

// Limits of what an Identifier remembers.
const (
	identityKept  = time.Second
	maxIdentities = 256
)

// Identifier finds out who a process is that was just seen to do something. It is used by one goroutine at a time.
type Identifier struct {
	processes
	users users.Namespace
	now   func() time.Time

	recent map[caller]identified
}

// caller is a process as the kernel reported it.
type caller struct {
	pid  int
	comm string
}

// identified is what was found out about a caller.
type identified struct {
	identity
	known bool
	at    time.Time
}

// NewIdentifier returns an identifier of the processes under the procfs mounted at procfs, and the cgroups under sysfs.
func NewIdentifier(procfs, sysfs string) *Identifier {
	root, _ := FindCgroup2(procfs, sysfs) // without it units are known only outside of a cgroup namespace
	return &Identifier{
		processes: newProcesses(procfs, root), users: users.Own(), now: time.Now, recent: make(map[caller]identified),
	}
}

// Identify returns who a process is that has this comm, and a user who owns a socket. known is false if it has ended, or is another one
// by now: then the holder has only the comm and the user. What is found out counts for a second.
func (i *Identifier) Identify(pid int, comm string, uid uint32) (h Holder, known bool) {
	now := i.now()
	who := caller{pid, comm}
	found, ok := i.recent[who]
	if !ok || now.Sub(found.at) > identityKept {
		found = i.read(who)
		found.at = now
		if len(i.recent) >= maxIdentities {
			clear(i.recent)
		}
		i.recent[who] = found
	}
	return holderOf(i.users, uid, found.name, found.executable, found.of, found.placed), found.known
}

// read reads who a process is.
func (i *Identifier) read(who caller) identified {
	id, err := i.identify(who.pid, i.procfs+"/"+strconv.Itoa(who.pid))
	if err != nil || id.name != who.comm {
		return identified{identity: identity{name: who.comm}}
	}
	return identified{identity: id, known: true}
}
