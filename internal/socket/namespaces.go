package socket

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/netns"
)

// settleTime is the age at which a namespace's processes are surely in the cgroups that name it. A container's process may be
// moved into its cgroup after it made its namespace; that takes less than this.
const settleTime = 5 * time.Second

// Namespaces has a source for each network namespace other than the main one. It is used by one goroutine at a time.
type Namespaces struct {
	procfs    string
	finder    *netns.Finder
	thread    *netns.Thread // nil where the namespaces are read through procfs
	protocols []Protocol
	buffer    []byte               // shared by all netlink sources, which take turns
	found     map[uint64]Namespace // by serial number
}

// Namespace is a network namespace other than the main one. It may be used until the next Find.
type Namespace struct {
	// Serial is never given to another namespace.
	Serial uint64
	// Inode is the number of the namespace's files. The kernel reuses it when the namespace has ended.
	Inode uint64
	// RunName is the name that ip-netns(8) gave the namespace. It is empty if there is none, or if it cannot be seen.
	RunName string
	// Started is when the oldest of its known processes started, in clock ticks after the machine's start.
	Started uint64
	// Young reports whether the namespace was found within seconds of that: its processes may still change their cgroups.
	Young  bool
	Source Source

	// Leave lets go of the namespace after a reading: an open socket in it would keep it alive.
	Leave func()
	// Lives reports whether the namespace still exists.
	Lives func() bool
	// Members returns some of the processes that live in the namespace.
	Members func() []int
}

// OpenNamespaces returns the namespaces other than the main one, read as c says. notEntered is why they cannot be entered, as
// netlink requires, or nil if they can, or need not be. It holds for as long as the exporter runs.
func OpenNamespaces(c Config) (n *Namespaces, notEntered error) {
	n = &Namespaces{
		procfs:    c.Procfs,
		finder:    netns.NewFinder(c.Procfs),
		protocols: c.Protocols,
		found:     make(map[uint64]Namespace),
	}
	if c.Source == "procfs" {
		return n, nil
	}
	if notEntered = netns.CanEnter(c.Procfs); notEntered != nil {
		return n, notEntered
	}
	n.thread = new(netns.Thread)
	n.buffer = make([]byte, receiveBuffer)
	return n, nil
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
		}
		next[live.Serial] = namespace
		found = append(found, namespace)
	}
	n.found = next
	return found, n.finder.Omitted(), nil
}

func (n *Namespaces) open(live *netns.Namespace) Namespace {
	namespace := Namespace{
		Serial: live.Serial, Inode: live.Inode, Started: live.Started(), Young: live.Age() < settleTime,
		Source: &memberProcfs{members: live}, Leave: func() {}, Lives: live.Alive, Members: live.Members,
	}
	if n.thread == nil {
		return namespace
	}
	// The right to open the namespace of one process says nothing about the next, so it is tried in each.
	source := newNetlink(n.procfs, n.inside(live), n.buffer, n.protocols...)
	err := source.try(n.protocols)
	source.close()
	if err == nil {
		namespace.Source, namespace.Leave = source, source.close
	}
	return namespace
}

// inside returns a function that calls another with the calling thread in a namespace.
func (n *Namespaces) inside(live *netns.Namespace) func(do func() error) error {
	return func(do func() error) error {
		namespace, err := live.OpenNS()
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(namespace) }()
		return n.thread.In(namespace, do)
	}
}

// memberProcfs reads the socket tables of another network namespace, through one of the processes that live in it. It knows only
// the kernel's default port ranges: sysctls of another namespace cannot be read.
type memberProcfs struct {
	Procfs
	members members
}

// members are the processes that are known to live in a network namespace: a *netns.Namespace.
type members interface {
	PID() int
	DirForPeople() string
	Dir() string
	Alive() bool
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
	for alive := true; alive; {
		pid := m.members.PID()
		m.dir, m.via = m.members.DirForPeople(), m.members.Dir()
		sockets, same, err = m.Procfs.Read(proto)
		if alive = m.members.Alive(); alive && m.members.PID() == pid {
			return sockets, same, err
		}
	}
	return nil, false, fmt.Errorf("read %s/net: the process has ended or is in another network namespace now", m.dir)
}
