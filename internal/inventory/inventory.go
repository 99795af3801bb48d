//go:build linux

// Package inventory joins what is known about the listening sockets into one stable Snapshot. It holds everything that is
// remembered between two snapshots.
package inventory

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/guard"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
	"github.com/listen-exporter/listen_exporter/internal/users"
)

// Inventory makes snapshots. Several goroutines may use it; those that overlap share one read.
type Inventory struct {
	mu     sync.Mutex
	flight *flight // under way, or nil

	source      string // of Snapshot.Source
	observesOwn bool
	options     Options
	cpuTime     func() time.Duration // the processor time that the program has used
	watch       atomic.Int64         // how often Watch looks, in nanoseconds

	// Only the flight uses the rest. The stages are in the order in which read runs them.
	main        *namespace
	mainSources socket.Sources
	rounds      *rounds      // nil unless all network namespaces are observed
	others      *roundResult // what the last round read; empty without rounds
	listing     listing
	attribution *attribution // nil unless holders are asked for
	judge       *judge       // nil unless there is a registry
	events      *events      // nil unless the kernel is asked for events, and reports them
	eventsErr   error        // why it does not
	memory      *memory
	selection   selection
	traffic     *traffic // nil unless it is asked for
	troubles    troubles
}

// Open returns an inventory of the sockets that o names, and logs which those are. It tries netlink with a dump, and makes no
// snapshot yet.
func Open(o Options, logger log.Logger) (*Inventory, error) {
	config := socket.Config{Procfs: o.Procfs, Netns: o.Netns, Source: o.Source, Protocols: o.protocols()}
	main, observed, err := socket.Open(config)
	if err != nil {
		return nil, err
	}
	for _, warning := range observed.Warnings {
		level.Warn(logger).Log("msg", warning)
	}
	if observed.NotNetlink != nil {
		level.Warn(logger).Log("msg", "netlink cannot be used: reading procfs, whose cost grows with all sockets of the host", "err", observed.NotNetlink)
	}
	level.Info(logger).Log("msg", "observing a network namespace",
		"netns", o.Netns, "seen_through", observed.Dir, "own", observed.Own, "source", main.Name())
	sources := sources{main: main, clock: readClock, cpuTime: cpuTime}
	if o.Netns == "all" {
		others, notEntered := socket.OpenNamespaces(config)
		if notEntered != nil {
			level.Warn(logger).Log("msg", "the other network namespaces cannot be entered: reading procfs, whose cost grows with all their sockets", "err", notEntered)
		}
		sources.others = others
	}
	if o.Holders {
		finder, err := holder.New(o.Procfs, o.Sysfs)
		if err != nil {
			level.Warn(logger).Log("msg", "no usable cgroup2 hierarchy: a holder is known only if its process can be seen", "err", err)
		}
		sources.holders = finder
	}
	i, err := newInventory(sources, o, logger, time.Now)
	if err != nil {
		main.Close()
		return nil, err
	}
	i.observesOwn = observed.Own
	i.openEvents(observed, logger)
	if o.Traffic {
		i.traffic = openTraffic(&i.options, observed)
	}
	return i, nil
}

// openEvents has the kernel report events if the options ask for that.
func (i *Inventory) openEvents(observed socket.Observed, logger log.Logger) {
	if i.options.Events != EventsOn && i.options.Events != EventsAuto {
		return
	}
	e, err := openEvents(&i.options, observed, i.main.ledgers[0].source, i.judge)
	switch {
	case err == nil:
		source := e.source.(*event.Source)
		level.Info(logger).Log("msg", "the kernel reports each listener that opens and closes", "hooks", source.Hooks())
		if err := source.WithoutUDP(); err != nil && i.options.UDP {
			level.Warn(logger).Log("msg", "openings and closings of UDP are those that looks see: the kernel reports only TCP", "err", err)
		}
		i.begin(e)
	case i.options.Events == EventsAuto:
		level.Info(logger).Log("msg", "openings and closings are those that looks see: the kernel does not report them", "err", err)
	default:
		i.eventsErr = err
	}
}

// begin takes in events from now on.
func (i *Inventory) begin(e *events) {
	i.events, i.memory.events, i.main.number = e, e, e.main
	go e.run()
}

// TakeInEvents takes in the events that the kernel has reported until now: at the end, when no snapshot does so any more.
func (i *Inventory) TakeInEvents() {
	if i.events != nil {
		_ = i.events.drainAll(context.Background())
	}
}

// Close closes what the inventory has open, but for what a read uses that hangs. No snapshot may be under way, and none may follow.
func (i *Inventory) Close() {
	if i.main.isIdle() {
		i.mainSources.Close()
	}
	if i.rounds != nil {
		i.rounds.close()
	}
	if i.events != nil {
		_ = i.events.source.Close()
	}
	if i.traffic != nil {
		i.traffic.close()
	}
}

// sources are what an inventory reads.
type sources struct {
	main    socket.Sources
	others  namespaceFinder // nil unless all network namespaces are observed
	holders holderFinder    // nil unless holders are asked for
	clock   func() (sinceBoot time.Duration, wall time.Time)
	cpuTime func() time.Duration
}

// newInventory returns an inventory of sources, at the time that now returns.
func newInventory(s sources, o Options, logger log.Logger, now func() time.Time) (*Inventory, error) {
	i := &Inventory{
		source:      s.main.Name(),
		options:     o,
		cpuTime:     s.cpuTime,
		mainSources: s.main,
		others:      new(roundResult),
		selection:   selection{options: &o, logger: logger},
		troubles:    troubles{logger: logger, last: make(map[string]string)},
	}
	i.main = newNamespace("", func(proto socket.Protocol) socket.Source { return s.main[proto] }, &i.options, now)
	i.memory = newMemory(&i.options, s.clock)
	if s.others != nil {
		i.rounds = newRounds(s.others, &i.options, now)
	}
	if s.holders != nil {
		i.attribution = &attribution{finder: s.holders}
		i.memory.processes = i.attribution.processesOf
	}
	if len(o.RegistryFiles) > 0 {
		var err error
		if i.judge, err = newJudge(&i.options, logger); err != nil {
			return nil, err
		}
		if o.Leases != nil {
			i.main.proves = i.judge.proves
			i.judge.leases = &leasing{leases: o.Leases, clock: s.clock, users: users.Own()}
		}
	}
	return i, nil
}

// flight is one read that several callers wait for.
type flight struct {
	deadline time.Time          // of the caller that began it, or zero
	cut      context.CancelFunc // ends it with what is known by then
	done     chan struct{}
	snapshot *Snapshot // this and the rest are known when done is closed
	wasCut   bool      // some caller's time was over

	processes atomic.Bool // some caller asks for Snapshot.Processes
}

// hadLess reports whether a flight that is done had less time than a caller has: it gave up on a read for which the caller can wait.
func (f *flight) hadLess(ctx context.Context) bool {
	deadline, has := ctx.Deadline()
	return f.wasCut || !f.deadline.IsZero() && (!has || f.deadline.Before(deadline))
}

// Snapshot reads what listens now. A read that fails is in Snapshot.Reads and logged; it does not affect what else is read. So is one
// that has not ended by ctx's deadline: it goes on, and a later snapshot has its result.
//
// Callers that overlap share a read, and the one with the least time ends it. If something was still being read then, the others
// begin another one.
func (i *Inventory) Snapshot(ctx context.Context) *Snapshot {
	return i.snapshot(ctx, i.options.Processes)
}

// SnapshotWithProcesses returns a Snapshot that has its Processes. They take time and memory that a scrape need not spend.
func (i *Inventory) SnapshotWithProcesses(ctx context.Context) *Snapshot {
	return i.snapshot(ctx, true)
}

func (i *Inventory) snapshot(ctx context.Context, processes bool) *Snapshot {
	for {
		f := i.join(ctx, processes)
		stop := context.AfterFunc(ctx, f.cut)
		<-f.done
		stop()
		tooLittle := f.snapshot.unfinished() && f.hadLess(ctx) ||
			processes && f.snapshot.Processes == nil && f.snapshot.Succeeded(CollectorHolder) // asked for too late
		if ctx.Err() != nil || !tooLittle {
			return f.snapshot
		}
	}
}

// join returns the flight under way, or a new one that has ctx's time.
func (i *Inventory) join(ctx context.Context, processes bool) *flight {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.flight != nil {
		if processes {
			i.flight.processes.Store(true)
		}
		return i.flight
	}
	shared := context.Background() // others may wait for it when this caller no longer does
	deadline, has := ctx.Deadline()
	var cut context.CancelFunc
	if has {
		shared, cut = context.WithDeadline(shared, deadline)
	} else {
		shared, cut = context.WithCancel(shared)
	}
	f := &flight{deadline: deadline, cut: cut, done: make(chan struct{}), snapshot: &Snapshot{Source: i.source}}
	f.processes.Store(processes)
	i.flight = f
	go func() {
		defer cut()
		err := guard.Do(func() error { i.read(shared, f.snapshot, &f.processes); return nil })
		i.troubles.report("what listens", err)
		if err != nil {
			f.snapshot = i.failed(err)
		}
		f.wasCut = shared.Err() != nil
		i.mu.Lock()
		i.flight = nil
		i.mu.Unlock()
		close(f.done)
	}()
	return f
}

// stageTime returns a context for a stage. Even if a read hangs, it leaves a quarter of ctx's time to the stages after it.
func stageTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, has := ctx.Deadline()
	if !has {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/4))
}

// failed returns a snapshot of which nothing could be read.
func (i *Inventory) failed(err error) *Snapshot {
	snapshot := &Snapshot{Source: i.source, Time: time.Now(), WatchInterval: i.watched()}
	snapshot.Saves, snapshot.Saved = i.options.saves()
	for _, proto := range i.options.protocols() {
		snapshot.Reads = append(snapshot.Reads, Read{Collector: proto.String(), Err: err})
	}
	for _, other := range []struct {
		collector string
		asked     bool
	}{{CollectorNetns, i.rounds != nil}, {CollectorHolder, i.attribution != nil}, {CollectorRegistry, i.judge != nil}, {CollectorEvent, i.asksForEvents()}, {CollectorTraffic, i.traffic != nil}} {
		if other.asked {
			snapshot.Reads = append(snapshot.Reads, Read{Collector: other.collector, Err: err})
		}
	}
	return snapshot
}

// asksForEvents reports whether there is a Read of CollectorEvent.
func (i *Inventory) asksForEvents() bool { return i.events != nil || i.eventsErr != nil }

// ReloadRegistry loads the registry again. A bad file leaves the registry as it was.
func (i *Inventory) ReloadRegistry() error {
	if i.judge == nil {
		return nil
	}
	return i.judge.watcher.Reload()
}

// read fills in a snapshot in stages. Each stage keeps its result, and works again only if the version of its input is
// another one than the last time: where nothing changed, nothing is computed. Versions only grow, so the sum of two changes
// when either does. processes says whether the snapshot is to have its Processes.
func (i *Inventory) read(ctx context.Context, snapshot *Snapshot, processes *atomic.Bool) {
	if i.events != nil {
		i.events.beginLook()
		defer i.events.endLook()
	}

	// Observe: read the sockets of the main namespace, and take what the last round read of the others.
	var declares declaration
	if i.judge != nil {
		declares = i.judge.begin(i.main)
	}
	observing, stop := stageTime(ctx)
	defer stop()
	snapshot.Reads = i.main.observe(observing, declares, make([]Read, 0, 6))
	if i.judge != nil && i.judge.leases != nil {
		i.judge.leases.look(i.main)
	}
	i.troubles.report("port ranges (the last known or the kernel's defaults are used)", i.main.rangesErr())
	if i.rounds != nil {
		i.others = i.rounds.observe(observing)
		snapshot.Reads = append(snapshot.Reads, i.others.read)
		snapshot.Namespaces, snapshot.NamespacesOmitted = i.others.namespaces, i.others.omitted
		snapshot.NamespacesNeverRead = i.others.neverRead
	}
	version := i.main.version + i.others.version

	// Gather: list the listeners of all namespaces.
	i.listing.gather(version, i.main, i.others)

	// Attribute: find the holders of each listener.
	var read Read
	if i.attribution != nil {
		attributing, stop := stageTime(ctx)
		defer stop()
		version, read = i.attribution.attribute(attributing, version, &i.listing)
		if processes.Load() && i.listing.attributed {
			snapshot.Processes = i.attribution.processes(&i.listing)
		}
		snapshot.Reads = append(snapshot.Reads, read)
	}

	// Judge: compare the listeners with the registry.
	if i.judge != nil {
		version, snapshot.Compliance, read = i.judge.judge(version, &i.listing, i.main)
		snapshot.Reads = append(snapshot.Reads, read)
	}

	// Events: take in what the kernel has reported since the last time.
	if i.events != nil {
		version, snapshot.EventsLost, read = i.events.fill(ctx, version, &i.listing, i.others, &i.memory.clock)
		snapshot.Reads = append(snapshot.Reads, read)
	} else if i.eventsErr != nil {
		snapshot.Reads = append(snapshot.Reads, Read{Collector: CollectorEvent, Err: i.eventsErr})
	}

	// Remember: compare with what was before.
	version, snapshot.Time = i.memory.remember(version, &i.listing, i.main, i.others, i.judge, snapshot)
	if i.judge != nil {
		snapshot.Leases = i.judge.leases.shown(i.memory.clock)
	}
	snapshot.Memory, snapshot.WatchInterval = i.memory.current, i.watched()
	snapshot.Saves, snapshot.Saved = i.options.saves()
	snapshot.confirming = i.main.confirming()

	// Cut: leave out what the filters exclude, and what is too much.
	i.selection.cut(version, &i.listing)

	// Traffic: read how much the ports have that are reported.
	if i.traffic != nil {
		snapshot.Traffic, read = i.traffic.read(version, &i.selection, snapshot)
		snapshot.Reads = append(snapshot.Reads, read)
	}

	for _, read := range snapshot.Reads {
		i.troubles.report(subjects[read.Collector], read.Err)
	}
	snapshot.Gone = i.listing.gone
	snapshot.Listeners, snapshot.Omitted = i.selection.listeners, i.selection.omitted
	snapshot.Unattributed = i.selection.unattributed
}
