//go:build linux

package socket

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/netns"
)

// settleTime is the age at which a namespace's processes are surely in the cgroups that name it. A container's process may be
// moved into its cgroup after it made its namespace; that takes less than this.
const settleTime = 5 * time.Second

// Namespaces has a source for each network namespace other than the main one. Find is called by one goroutine at a time, while others
// may read namespaces that it has found, each by one at a time.
type Namespaces struct {
	procfs    string
	finder    *netns.Finder
	home      *os.File // the exporter's own, if others are entered, and not read through procfs
	netlink   bool     // the exporter's own is read by netlink
	protocols []Protocol
	found     map[uint64]Namespace // by serial number
	buffers   sync.Pool            // of *[receiveBuffer]byte: readers that take turns use the same one
}

// Namespace is a network namespace other than the main one. It may be used until a Find does not return it, and by a reader that
// has begun before that.
type Namespace struct {
	// Serial is never given to another namespace.
	Serial uint64
	// Inode is the number of the namespace's files. The kernel reuses it when the namespace has ended.
	Inode uint64
	// Number is the number by which the kernel's own structures know the namespace, or 0 if that needs more rights.
	Number uint32
	// RunName is the name that ip-netns(8) gave the namespace. It is empty if there is none, or if it cannot be seen.
	RunName string
	// Started is when the oldest of its known processes started, in clock ticks after the machine's start.
	Started uint64
	// Young reports whether the namespace was found within seconds of that: its processes may still change their cgroups.
	Young  bool
	Source Source
	// Owner is whom the namespace counts for where there is not enough time for all.
	Owner string
	// Signs changes when something may listen in the namespace that did not before: a process has begun there or, where it costs much
	// to read the namespace, there are more or fewer sockets.
	Signs uint64

	// Leave lets go of the namespace after a reading: an open socket in it would keep it alive.
	Leave func()
	// Lives reports whether the namespace still exists.
	Lives func() bool
	// Members returns some of the processes that live in the namespace.
	Members func() []int
	// Residents returns all of them, as far as they are known.
	Residents func() []int
}

// OpenNamespaces returns the namespaces other than the main one, read as c says. notEntered is why they cannot be entered, as
// netlink requires, or nil if they can, or need not be. It holds for as long as the exporter runs. The exporter's own namespace, if it
// is not the main one, need not be entered.
func OpenNamespaces(c Config) (n *Namespaces, notEntered error) {
	n = &Namespaces{
		procfs:    c.Procfs,
		finder:    netns.NewFinder(c.Procfs),
		netlink:   c.Source != "procfs",
		protocols: c.Protocols,
		found:     make(map[uint64]Namespace),
		buffers:   sync.Pool{New: func() any { return new([receiveBuffer]byte) }},
	}
	if n.netlink {
		n.home, notEntered = netns.OpenHome(c.Procfs)
	}
	return n, notEntered
}

// Find returns the namespaces that live now, and how many more were left out.
func (n *Namespaces) Find() (found []Namespace, omitted int, err error) {
	lives, err := n.finder.Find()
	if err != nil {
		return nil, 0, err
	}
	next := make(map[uint64]Namespace, len(lives))
	var names netns.RunNames
	for _, live := range lives {
		namespace, known := n.found[live.Serial]
		if !known {
			if names == nil {
				names = netns.ReadRunNames(n.procfs, netns.RunNamesDir(n.procfs))
			}
			namespace = n.open(live)
			namespace.RunName = names.Of(live)
			namespace.Owner = live.Group()
		}
		namespace.Signs = live.Comers()
		if n.home == nil {
			namespace.Signs = signsOf(namespace.Signs, live.ReadFile)
		}
		next[live.Serial] = namespace
		found = append(found, namespace)
	}
	n.found = next
	return found, n.finder.Omitted(), nil
}

// Close lets go of all namespaces. No reader may use them any more.
func (n *Namespaces) Close() {
	n.finder.Close()
	if n.home != nil {
		_ = n.home.Close()
	}
}

func (n *Namespaces) open(live *netns.Namespace) Namespace {
	tables := &memberProcfs{members: live, Procfs: Procfs{foreign: true}}
	namespace := Namespace{
		Serial: live.Serial, Inode: live.Inode, Number: live.Number(), Started: live.Started(), Young: live.Age() < settleTime,
		Source: tables, Leave: func() {}, Lives: live.Alive, Members: live.Members, Residents: live.Residents,
	}
	switch {
	case live.IsOwn():
		tables.sysctls = sysctls{procfs: n.procfs, inside: here}
		if n.netlink {
			if source, err := OpenNetlink(n.procfs, n.protocols...); err == nil {
				namespace.Source, namespace.Leave = source, source.close
			}
		}
	case n.home != nil:
		var source *Netlink
		source = newNetlink(n.procfs, func(do func() error) error {
			if source.buffer == nil {
				source.buffer = n.buffers.Get().(*[receiveBuffer]byte)[:]
			}
			return n.inside(live, do)
		}, nil, n.protocols...)
		namespace.Source = &enteredSource{Source: source, tables: tables, protocols: n.protocols}
		namespace.Leave = func() {
			source.close()
			if source.buffer != nil {
				n.buffers.Put((*[receiveBuffer]byte)(source.buffer))
				source.buffer = nil
			}
		}
	}
	return namespace
}

// inside calls a function with the calling thread in a namespace. It is for a goroutine that ends soon: see [netns.Visit].
func (n *Namespaces) inside(live *netns.Namespace, do func() error) error {
	namespace, err := live.OpenNS()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(namespace) }()
	return netns.Visit(n.home, namespace, do)
}

// enteredSource reads a namespace that is entered. The right to open the namespace of one process says nothing about the next, so the
// first read finds out whether it has it. Without it, or if netlink does not work there, the namespace is read through procfs.
type enteredSource struct {
	Source    // procfs if netlink has failed
	tables    *memberProcfs
	protocols []Protocol
	tried     bool
}

var _ Source = (*enteredSource)(nil)

// Read implements Source.
func (e *enteredSource) Read(proto Protocol) (sockets []Socket, same bool, err error) {
	if !e.tried {
		e.tried = true
		if e.Source.(*Netlink).try(e.protocols) != nil {
			e.Source = e.tables
		}
	}
	return e.Source.Read(proto)
}

// memberProcfs reads the socket tables of another network namespace, through one of the processes that live in it. Unless that is the
// exporter's own, it knows only the kernel's default port ranges: sysctls of another namespace cannot be read.
type memberProcfs struct {
	Procfs
	members members
}

// members are the processes that are known to live in a network namespace: a *netns.Namespace.
type members interface {
	View() (netns.View, error)
}

var _ Source = (*memberProcfs)(nil)

// Confirm implements Source.
func (m *memberProcfs) Confirm(proto Protocol, _ []Socket) ([]Socket, error) {
	sockets, _, err := m.Read(proto)
	return sockets, err
}

// Read implements Source. If the process ends or leaves the namespace meanwhile, Read discards what it read and goes on with
// the next process that is known. It fails if none is left.
func (m *memberProcfs) Read(proto Protocol) (sockets []Socket, same bool, err error) {
	view, err := m.members.View()
	if err != nil {
		return nil, false, err
	}
	defer view.Close()
	m.dir, m.via = view.DirForPeople, view.Dir
	sockets, same, err = m.Procfs.Read(proto)
	if !view.Stays() {
		return m.Read(proto)
	}
	return sockets, same, err
}
