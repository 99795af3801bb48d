package socket

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/netns"
)

// youngFor is more than a container's process needs to be moved into its cgroup, which may be after it made its namespace.
const youngFor = 5 * time.Second

// Others gives a source for each network namespace beside the main one. It is used by one goroutine at a time.
type Others struct {
	procfs    string
	finder    *netns.Finder
	thread    *netns.Thread // nil where other namespaces are read through procfs
	protocols []Protocol
	buffer    []byte // of all netlink sources, which are used one after the other
	found     map[uint64]Other
}

// Other is a network namespace beside the main one. It may be used until the next Find.
type Other struct {
	// Serial is never given to another.
	Serial uint64
	// Inode is the number of the namespace's files, which the kernel gives to another after its end.
	Inode uint64
	// RunName is the name that ip-netns(8) gave the namespace; empty if it has none, or if that cannot be seen.
	RunName string
	// Started is when the oldest of its known processes started, in clock ticks after the machine's start.
	Started uint64
	// Young tells that it was found within seconds of that: it may not be yet what it is to be.
	Young  bool
	Source Source

	// Leave lets go of the namespace after a reading: an open socket in it would keep it from its end.
	Leave func()
	// Lives tells whether the namespace is there still.
	Lives func() bool
	// Members returns some of the processes that live in the namespace.
	Members func() []int
}

// OpenOthers returns the namespaces beside the main one of c. why is why they cannot be entered, as netlink needs it, or nil
// where they can or need not; that does not change afterwards.
func OpenOthers(c Config) (o *Others, why error) {
	o = &Others{
		procfs:    c.Procfs,
		finder:    netns.NewFinder(c.Procfs),
		protocols: c.Protocols,
		found:     make(map[uint64]Other),
	}
	if c.Source == "procfs" {
		return o, nil
	}
	if why = netns.CanEnter(c.Procfs); why != nil {
		return o, why
	}
	o.thread = netns.NewThread()
	o.buffer = make([]byte, receiveBuffer)
	return o, nil
}

// Find returns the namespaces that live now, and how many more there are that are left out.
func (o *Others) Find() (found []Other, omitted int, err error) {
	namespaces, err := o.finder.Find()
	if err != nil {
		return nil, 0, err
	}
	next := make(map[uint64]Other, len(namespaces))
	var names netns.RunNames
	for _, n := range namespaces {
		other, known := o.found[n.Serial]
		if !known {
			if names == nil {
				names = netns.ReadRunNames(o.procfs, netns.RunNamesDir(o.procfs))
			}
			other = o.open(n)
			other.RunName = names.Of(n)
		}
		next[n.Serial] = other
		found = append(found, other)
	}
	o.found = next
	return found, o.finder.Omitted(), nil
}

func (o *Others) open(n *netns.Namespace) Other {
	other := Other{
		Serial: n.Serial, Inode: n.Inode, Leave: func() {}, Lives: n.Alive, Members: n.Members,
		Started: n.Started(), Young: n.Age() < youngFor,
	}
	if o.thread == nil {
		other.Source = &elsewhere{namespace: n}
		return other
	}
	// The right to open the namespace of one process does not tell of the next: that is tried in each.
	source := newNetlink("", o.dialer(n), o.buffer, o.protocols...)
	err := source.try(o.protocols)
	source.close()
	if err != nil {
		other.Source = &elsewhere{namespace: n}
		return other
	}
	other.Source, other.Leave = source, source.close
	return other
}

// dialer returns what opens a netlink socket in a namespace.
func (o *Others) dialer(n *netns.Namespace) func() (int, error) {
	return func() (fd int, err error) {
		namespace, err := n.OpenNS()
		if err != nil {
			return -1, err
		}
		defer func() { _ = unix.Close(namespace) }()
		err = o.thread.In(namespace, func() (err error) {
			fd, err = dialSockDiag()
			return err
		})
		return fd, err
	}
}

// elsewhere reads the socket tables of another network namespace, through whichever process lives in it.
type elsewhere struct{ namespace inhabited }

// inhabited is a network namespace by the processes that are known to live in it: a *netns.Namespace.
type inhabited interface {
	PID() int
	Name() string
	Dir() string
	Alive() bool
}

var _ Source = (*elsewhere)(nil)

// Name returns "procfs".
func (e *elsewhere) Name() string { return "procfs" }

// Detailed returns false.
func (e *elsewhere) Detailed() bool { return false }

// PortRanges returns the kernel's defaults: sysctls of another namespace cannot be read.
func (e *elsewhere) PortRanges() (PortRanges, error) { return defaultPortRanges, nil }

// Confirm implements Source.
func (e *elsewhere) Confirm(proto Protocol, _ []Socket) ([]Socket, error) {
	sockets, _, err := e.Read(proto)
	return sockets, err
}

// Read implements Source. Where the process ends or leaves meanwhile, what was read counts for nothing, and the next one that is
// known takes its place. It fails if none is left.
func (e *elsewhere) Read(proto Protocol) (sockets []Socket, same bool, err error) {
	through := &Procfs{}
	for alive := true; alive; {
		pid := e.namespace.PID()
		through.dir, through.via = e.namespace.Name(), e.namespace.Dir()
		sockets, same, err = through.Read(proto)
		if alive = e.namespace.Alive(); alive && e.namespace.PID() == pid {
			return sockets, same, err
		}
	}
	return nil, false, fmt.Errorf("read %s/net: the process has ended or is in another network namespace now", through.dir)
}
