// Package inventory joins what is known of the listening sockets into one stable Snapshot, and holds everything that is
// remembered between two of them.
package inventory

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/sync/singleflight"

	"listen_exporter/internal/socket"
)

// Options say what is read, and what of it is reported.
type Options struct {
	// Procfs is where the procfs is mounted.
	Procfs string
	// Netns is whose network namespace is observed: host or self.
	Netns string
	// Source is how the kernel is asked: netlink, procfs, or auto for the better of them that works.
	Source string

	// TCP and UDP say which protocols are read.
	TCP, UDP bool
	// EphemeralMinAge is how long a UDP socket on an ephemeral port must have been open before it is reported: until then it
	// is most often a client.
	EphemeralMinAge time.Duration
	// MaxPorts is how many listeners are reported at most; the lowest ports stay.
	MaxPorts int

	// PortInclude leaves only these ports, if it is not empty; PortExclude and ScopeExclude leave out.
	PortInclude, PortExclude PortSet
	ScopeExclude             ScopeSet
}

// Inventory makes snapshots. It may be used by several goroutines; those that overlap share one read.
type Inventory struct {
	source  socket.Source
	options Options
	logger  log.Logger
	now     func() time.Time

	flight singleflight.Group
	// What follows is written by the flight alone.
	ledgers   []*ledger
	missing   []socket.Socket // the buffer of all confirmations
	ranges    socket.PortRanges
	last      *Snapshot // of which no read failed; nil before
	troubles  map[string]string
	omissions bool
}

// Open returns an inventory of the sockets that o names, and logs which those are. Netlink is tried by a dump; no
// snapshot is made yet.
func Open(o Options, logger log.Logger) (*Inventory, error) {
	source, observed, err := socket.Open(socket.Config{
		Procfs: o.Procfs, Netns: o.Netns, Source: o.Source, Protocols: o.protocols(),
	})
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
	return newInventory(source, o, logger, time.Now), nil
}

func newInventory(source socket.Source, o Options, logger log.Logger, now func() time.Time) *Inventory {
	i := &Inventory{source: source, options: o, logger: logger, now: now, troubles: make(map[string]string)}
	for _, proto := range o.protocols() {
		i.ledgers = append(i.ledgers, newLedger(proto, o.MaxPorts))
	}
	return i
}

// Snapshot reads what listens now. A read that fails is told in Snapshot.Reads and logged; the other protocol is not
// touched by it.
func (i *Inventory) Snapshot() *Snapshot {
	snapshot, _, _ := i.flight.Do("", func() (any, error) { return i.read(), nil })
	return snapshot.(*Snapshot)
}

func (i *Inventory) read() *Snapshot {
	ranges, err := i.source.PortRanges()
	i.report("port ranges (the kernel's defaults are used)", err)
	same := i.last != nil && ranges == i.ranges
	i.ranges = ranges

	snapshot := &Snapshot{Source: i.source.Name(), Detailed: i.source.Detailed()}
	failed := false
	for _, l := range i.ledgers {
		start := time.Now()
		sameSockets, err := i.update(l, ranges)
		i.report("listening "+l.proto.String()+" sockets", err)
		snapshot.Reads = append(snapshot.Reads, Read{Proto: l.proto.String(), Err: err, Duration: time.Since(start)})
		l.failed = err != nil
		failed = failed || l.failed
		same = same && sameSockets
	}
	if same {
		snapshot.Listeners, snapshot.Gone, snapshot.Omitted = i.last.Listeners, i.last.Gone, i.last.Omitted
		return snapshot
	}
	for _, l := range i.ledgers {
		if !l.failed {
			i.add(snapshot, l, ranges)
		}
	}
	i.arrange(snapshot)
	if i.last = snapshot; failed {
		i.last = nil
	}
	return snapshot
}

// update brings a ledger up to date, and tells whether that changed nothing. A panic is a failed read: it must not take the
// success gauge with it.
func (i *Inventory) update(l *ledger, ranges socket.PortRanges) (same bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			same, err = false, fmt.Errorf("read %s sockets: panic: %v", l.proto, r)
		}
	}()
	start := i.now()
	sockets, same, err := i.source.Read(l.proto)
	if err != nil {
		return false, err
	}
	if same && l.still && ranges == l.ranges {
		return true, nil
	}
	l.begin()
	l.absorb(sockets, i.now())
	i.missing = l.missing(i.missing[:0])
	for l.doubtful(i.missing) && (l.reads-l.round < 2 && !l.settled || i.now().Sub(start) <= confirmTime) {
		if sockets, err = i.source.Confirm(l.proto, i.missing); err != nil {
			return false, err
		}
		l.absorb(sockets, i.now())
		i.missing = l.missing(i.missing[:0])
	}
	l.ranges = ranges
	l.settle(i.now(), func(port uint16, open time.Duration) bool {
		return l.proto == socket.UDP && open < i.options.EphemeralMinAge && rangeOf(port, ranges) == RangeEphemeral
	})
	return false, nil
}

// add appends a ledger's listeners to a snapshot.
func (i *Inventory) add(snapshot *Snapshot, l *ledger, ranges socket.PortRanges) {
	for at, of := range l.listeners {
		key := Key{
			Proto: l.proto.String(), Addr: at.addr, Device: at.device,
			Scope: scopeOf(at.addr.Addr()), Range: rangeOf(at.addr.Port(), ranges),
		}
		if !i.options.reports(key) {
			continue
		}
		entry := Listener{Key: key, Drops: of.drops, HasDrops: l.proto == socket.UDP || snapshot.Detailed}
		switch {
		case of.reported:
			entry.Sockets = of.sockets
			entry.IPv6Only = of.ipv6Only
			entry.FirstSeen = of.firstSeen
			if l.proto == socket.TCP {
				entry.AcceptQueueLength, entry.AcceptQueueLimit = of.fullest.Queue, of.fullest.QueueLimit
			} else {
				entry.ReceiveQueueBytes, entry.ReceiveBufferLimitBytes = of.queue, of.queueLimit
			}
			snapshot.Listeners = append(snapshot.Listeners, entry)
		case l.keeps(of, i.now()):
			snapshot.Gone = append(snapshot.Gone, entry)
		}
	}
}

// arrange sorts a snapshot and cuts it to size.
func (i *Inventory) arrange(snapshot *Snapshot) {
	slices.SortFunc(snapshot.Listeners, byPort)
	slices.SortFunc(snapshot.Gone, byPort)
	if excess := len(snapshot.Listeners) - i.options.MaxPorts; excess > 0 {
		snapshot.Listeners = snapshot.Listeners[:i.options.MaxPorts]
		snapshot.Omitted = excess
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
