// Package inventory joins what is known of the listening sockets into one stable Snapshot, and holds everything that is
// remembered between two of them.
package inventory

import (
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/singleflight"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// Options say what is read, and what of it is reported.
type Options struct {
	// Procfs is where the procfs is mounted.
	Procfs string
	// Sysfs is where the sysfs is mounted, below which the cgroups are.
	Sysfs string
	// Netns is whose network namespace is observed: host, self, or all for that of the host and every other.
	Netns string
	// Source is how the kernel is asked: netlink, procfs, or auto for the better of them that works.
	Source string

	// TCP and UDP say which protocols are read.
	TCP, UDP bool
	// RegistryFile is the registry that the listeners are judged by, or empty; RegistryHost is the name of this host in it.
	RegistryFile, RegistryHost string
	// Holders says whether it is found out who holds each listener.
	Holders bool
	// EphemeralMinAge is how long a UDP socket on an ephemeral port must have been open before it is reported: until then it
	// is most often a client.
	EphemeralMinAge time.Duration
	// MaxPorts is how many listeners are reported at most. Those stay first that the registry declares, then those of the main
	// namespace that other machines can reach, then the lowest ports.
	MaxPorts int

	// PortInclude leaves only these ports, if it is not empty; PortExclude and ScopeExclude leave out.
	PortInclude, PortExclude PortSet
	ScopeExclude             ScopeSet
}

// Inventory makes snapshots. It may be used by several goroutines; those that overlap share one read.
type Inventory struct {
	options Options
	logger  log.Logger

	flight singleflight.Group
	// What follows is written by the flight alone.
	main       *space
	others     *others        // nil unless all network namespaces are observed
	holders    *holder.Finder // nil unless holders are asked for
	all        []Listener     // of the last reading: neither filtered nor cut to size
	held       []holder.Socket
	heldEnds   []int  // where in held the sockets of each listener of all end
	attributed bool   // the holders of all are known
	judge      *judge // nil unless there is a registry
	last       *Snapshot
	shared     *shared // of the other namespaces, what last is made of
	troubles   map[string]string
	omissions  bool
}

// Open returns an inventory of the sockets that o names, and logs which those are. Netlink is tried by a dump; no
// snapshot is made yet.
func Open(o Options, logger log.Logger) (*Inventory, error) {
	config := socket.Config{Procfs: o.Procfs, Netns: o.Netns, Source: o.Source, Protocols: o.protocols()}
	source, observed, err := socket.Open(config)
	if err != nil {
		return nil, err
	}
	for _, warning := range observed.Warnings {
		level.Warn(logger).Log("msg", warning)
	}
	if observed.NotNetlink != nil {
		level.Warn(logger).Log("msg", "reading through procfs, whose cost grows with all sockets of the host: netlink cannot be used", "err", observed.NotNetlink)
	}
	level.Info(logger).Log("msg", "observing a network namespace",
		"netns", o.Netns, "seen_through", observed.Dir, "own", observed.Own, "source", source.Name())
	i := newInventory(source, o, logger, time.Now)
	if o.Netns == allNamespaces {
		all, why := socket.OpenOthers(config)
		if why != nil {
			level.Warn(logger).Log("msg", "the other network namespaces are read through procfs, whose cost grows with all their sockets: they cannot be entered", "err", why)
		}
		i.others = newOthers(all, o, time.Now)
	}
	if o.Holders {
		finder, err := holder.New(o.Procfs, o.Sysfs)
		if err != nil {
			level.Warn(logger).Log("msg", "units, pods and containers cannot be told from cgroups: holders are known only where a process shows its descriptors", "err", err)
		}
		i.holders = finder
	}
	if o.RegistryFile != "" {
		if i.judge, err = newJudge(o.RegistryFile, o.RegistryHost); err != nil {
			return nil, err
		}
		i.main.declares = func(proto string, port uint16) bool { return i.judge.table.Declares(proto, port) }
		i.judge.announce(logger)
	}
	return i, nil
}

func newInventory(source socket.Source, o Options, logger log.Logger, now func() time.Time) *Inventory {
	i := &Inventory{options: o, logger: logger, troubles: make(map[string]string)}
	i.main = newSpace("", source, &i.options, now)
	return i
}

// Snapshot reads what listens now. A read that fails is told in Snapshot.Reads and logged; what else is read is not touched
// by it.
func (i *Inventory) Snapshot() *Snapshot {
	snapshot, _, _ := i.flight.Do("", func() (any, error) { return i.read(), nil })
	return snapshot.(*Snapshot)
}

func (i *Inventory) read() *Snapshot {
	main := i.main.update()
	i.report("port ranges (the kernel's defaults are used)", main.rangesErr)
	for _, read := range main.reads {
		i.report("listening "+read.Collector+" sockets", read.Err)
	}
	snapshot := &Snapshot{Source: i.main.source.Name(), Reads: main.reads}
	same := main.same && i.last != nil
	if i.others != nil {
		shared := i.others.update()
		i.report("all network namespaces", shared.read.Err)
		same = same && i.shared != nil && shared.version == i.shared.version
		i.shared = shared
		snapshot.Reads = append(snapshot.Reads, shared.read)
		snapshot.Namespaces, snapshot.NamespacesOmitted = shared.namespaces, shared.omitted
	}
	if same {
		snapshot.Gone = i.last.Gone
	} else {
		i.gather(snapshot)
	}
	if i.holders != nil {
		same = !i.attribute(snapshot, same) && same
	}
	if i.judge != nil {
		same = !i.refresh(snapshot) && same
	}
	if same {
		snapshot.Listeners, snapshot.Omitted, snapshot.Unattributed = i.last.Listeners, i.last.Omitted, i.last.Unattributed
		if i.judge != nil {
			snapshot.Compliance.Services, snapshot.Compliance.Reserved = i.last.Compliance.Services, i.last.Compliance.Reserved
		}
	} else {
		i.finish(snapshot)
	}
	if i.judge != nil {
		snapshot.Reads = append(snapshot.Reads, Read{Collector: CollectorRegistry, Duration: i.judge.took})
	}
	i.last = snapshot
	return snapshot
}

// gather puts together the listeners of all namespaces, sorted.
func (i *Inventory) gather(snapshot *Snapshot) {
	entries, gone := i.main.appendTo(nil, nil)
	if i.shared != nil {
		entries, gone = append(entries, i.shared.entries...), append(gone, i.shared.gone...)
	}
	slices.SortFunc(entries, func(a, b entry) int { return byPort(&a.Listener, &b.Listener) })
	gone = slices.DeleteFunc(gone, func(l Listener) bool { return !i.options.reports(l.Key) })
	slices.SortFunc(gone, func(a, b Listener) int { return byPort(&a, &b) })
	snapshot.Gone = gone
	i.all = slices.Grow(i.all[:0], len(entries))
	i.held, i.heldEnds = i.held[:0], i.heldEnds[:0]
	for n := range entries {
		i.all = append(i.all, entries[n].Listener)
		i.held = append(i.held, entries[n].held...)
		i.heldEnds = append(i.heldEnds, len(i.held))
	}
}

// finish judges the listeners, and fills in those that are reported.
func (i *Inventory) finish(snapshot *Snapshot) {
	if i.judge != nil {
		i.judgeAll(snapshot)
	}
	listeners := make([]Listener, 0, len(i.all))
	for n := range i.all {
		if i.options.reports(i.all[n].Key) {
			listeners = append(listeners, i.all[n])
		}
	}
	snapshot.Listeners, snapshot.Omitted = i.cut(listeners)
	if i.attributed {
		for n := range snapshot.Listeners {
			if len(snapshot.Listeners[n].Holders) == 0 {
				snapshot.Unattributed++
			}
		}
	}
	if omits := snapshot.Omitted > 0; omits != i.omissions {
		i.omissions = omits
		if omits {
			level.Warn(i.logger).Log("msg", "more listeners than --collector.max-ports: the highest ports are left out",
				"max_ports", i.options.MaxPorts, "omitted", snapshot.Omitted)
		} else {
			level.Info(i.logger).Log("msg", "no listener is left out any more")
		}
	}
}

// cut returns as many listeners as may be reported, in their order, and how many are left out. What is declared stays first,
// then what other machines can reach: else whoever opens ports on loopback without end could hide one that is open to the world.
// Of the rest the lowest ports of the main namespace stay.
func (i *Inventory) cut(listeners []Listener) (_ []Listener, omitted int) {
	omitted = len(listeners) - i.options.MaxPorts
	if omitted <= 0 {
		return listeners, 0
	}
	var room [3]int // by rank
	for n := range listeners {
		room[listeners[n].rank()]++
	}
	left := i.options.MaxPorts
	for rank := range room {
		room[rank] = min(room[rank], left)
		left -= room[rank]
	}
	return slices.DeleteFunc(listeners, func(l Listener) bool {
		rank := l.rank()
		room[rank]--
		return room[rank] < 0
	}), omitted
}

// rank orders listeners by how much it matters that they are reported.
func (l *Listener) rank() int {
	switch {
	case l.declared():
		return 0
	case l.Netns == "" && l.Scope != ScopeLoopback:
		return 1
	default:
		return 2
	}
}

// protocols returns what is read.
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

// reports tells whether a listener passes the filters.
func (o *Options) reports(k Key) bool {
	port := k.Addr.Port()
	return (o.PortInclude.Empty() || o.PortInclude.Contains(port)) &&
		!o.PortExclude.Contains(port) &&
		!o.ScopeExclude.Contains(k.Scope)
}

// report logs a trouble when it begins, when it changes and when it ends, and not at each scrape.
func (i *Inventory) report(subject string, err error) {
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble == i.troubles[subject] {
		return
	}
	i.troubles[subject] = trouble
	if err == nil {
		level.Info(i.logger).Log("msg", "can read "+subject+" again")
		return
	}
	level.Error(i.logger).Log("msg", "cannot read "+subject, "err", err)
}
