//go:build linux

package inventory

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// Options say what is read, and which listeners are reported.
type Options struct {
	// Procfs is where the procfs is mounted.
	Procfs string
	// Sysfs is where the sysfs is mounted, which has the cgroups.
	Sysfs string
	// Netns is whose network namespace is observed: host, self, or all for the host's and every other.
	Netns string
	// Source is how the kernel is asked: netlink, procfs, or auto for the better one that works.
	Source string

	// Events is whether the kernel reports each listener that opens and closes: EventsOff, EventsAuto or EventsOn.
	Events string

	// TCP and UDP say which protocols are read.
	TCP, UDP bool
	// RegistryFiles are the files, or directories of files, of the registry that judges the listeners. Without any there is none.
	RegistryFiles []string
	// LastRegistry is what they had when they were last good, or nil. If they are bad now, that is in force.
	LastRegistry *LastRegistry
	// RegistryHost is the name of this host in the registry.
	RegistryHost string
	// OwnPorts are the TCP ports on which the exporter serves. They need not be declared.
	OwnPorts []uint16
	// Leases, unless they are nil, say which listeners are as declared for a time. They count only with a registry.
	Leases Leases `json:"-"` // an interface is none of an object
	// Holders says whether to find the holders of each listener.
	Holders bool
	// Processes says whether a snapshot has the PIDs of exact holders.
	Processes bool
	// Traffic says whether to count the packets of the ports that are reported. It takes eBPF.
	Traffic bool
	// EphemeralMinAge is how long a UDP socket on an ephemeral port must have been open before it is reported. A younger one is
	// most often a client.
	EphemeralMinAge time.Duration
	// Interval is how often Watch looks, or 0 if it does not.
	Interval time.Duration
	// SettledAfter is how long a port must have been open for its loss to be remembered, and Remember is for how long it is.
	SettledAfter, Remember time.Duration
	// Remembered is what was remembered before the start, or nil.
	Remembered *Remembered
	// StateWritten reports whether what is remembered could be saved the last time. It is nil if it is not saved.
	StateWritten *atomic.Bool
	// Changed, unless it is nil, is called for each listener that opened or closed and passes the filters, but for clients. It must
	// return at once. Several goroutines may call it at the same time.
	Changed func(Change) `json:"-"` // a function is none of an object
	// MaxPorts is how many listeners are reported at most.
	MaxPorts int

	// PortInclude, unless it is empty, has the only ports that are reported. PortExclude and ScopeExclude leave listeners out.
	PortInclude, PortExclude ports.Set
	ScopeExclude             ScopeSet
}

// The values of Options.Events.
const (
	EventsOff  = "off"
	EventsAuto = "auto" // where the rights and the kernel's features are there
	EventsOn   = "on"   // a failed read where they are not
)

// DefaultOptions returns the options of a command line without flags.
func DefaultOptions() Options {
	return Options{
		Procfs: "/proc", Sysfs: "/sys", Netns: "host", Source: "auto", Events: EventsOff, TCP: true, UDP: true, Holders: true,
		EphemeralMinAge: time.Minute, MaxPorts: 20_000,
		Interval: 5 * time.Second, SettledAfter: time.Hour, Remember: 24 * time.Hour,
	}
}

// NeededForHolders returns what this process lacks to see the processes that hold listeners, or nothing.
func (o *Options) NeededForHolders() string { return holder.Needs(o.Procfs) }

// protocols returns the protocols that are read.
func (o *Options) protocols() []socket.Protocol {
	var protocols []socket.Protocol
	if o.TCP {
		protocols = append(protocols, socket.TCP)
	}
	if o.UDP {
		protocols = append(protocols, socket.UDP)
	}
	return protocols
}

// saves reports whether what is remembered is saved, and whether that succeeded the last time.
func (o *Options) saves() (saves, saved bool) {
	saves = o.StateWritten != nil
	return saves, saves && o.StateWritten.Load()
}

// seen returns what the options say is seen of a namespace. With others, what is new is perhaps only newly seen.
func (o *Options) seen() string {
	return fmt.Sprintf("tcp %t udp %t include %v exclude %v scopes %v", o.TCP, o.UDP, o.PortInclude, o.PortExclude, o.ScopeExclude)
}

// passes reports whether a listener passes the filters.
func (o *Options) passes(k Key) bool {
	port := k.Addr.Port()
	return (len(o.PortInclude) == 0 || o.PortInclude.Contains(port)) &&
		!o.PortExclude.Contains(port) &&
		!slices.Contains(o.ScopeExclude, k.Scope)
}
