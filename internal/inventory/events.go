//go:build linux

package inventory

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

const (
	// maxAnnounced is how many open listeners are known by their events. Those above are counted when they open and not when they close.
	maxAnnounced = 1 << 15
	// rangesKept is how long the port ranges count. A storm of events must not read sysctls all the time.
	rangesKept = time.Second
	// initialPIDs is the namespace in which events number processes (PROC_PID_INIT_INO in include/linux/proc_ns.h).
	initialPIDs = "pid:[4026531836]"
)

// eventSource reports what the kernel does: an *event.Source.
type eventSource interface {
	Read(buffer []event.Event) ([]event.Event, error)
	Flush()
	Lost() (uint64, error)
	Watch(at event.Place, sockets int) error
	Forget(event.Place) error
	Connections(yield func(event.Place, event.Connections)) error
	Close() error
}

// events takes in, in a goroutine of its own, what the kernel reports: each listener that opens or closes, when it does.
type events struct {
	source   eventSource
	options  *Options
	main     uint32 // the number of the main network namespace
	now      func() (sinceBoot time.Duration, wall time.Time)
	table    func() *registry.Table // nil without a registry
	leases   func() lease.View      // nil without leases
	self     int                    // the exporter's process, as the kernel numbers it, or 0 if that is not known
	identify func(pid int, comm string, uid uint32) (h Holder, known bool)
	ranges   func() socket.PortRanges
	device   func(index uint32) (name string, loopback bool)
	detailed bool // looks know the interface that a socket is bound to

	// Only run uses these.
	booted     time.Time         // what the wall clock would have shown at the boot, when events were last read
	portRanges socket.PortRanges // likewise
	spare      *announced        // one that is announced no more, to be used again: in a storm most close at once

	rest atomic.Int64 // until when, since boot, no event is taken in

	mu         sync.Mutex
	names      map[uint32]string // of the other namespaces, by number
	announced  map[event.Place]*announced
	counts     map[string]Changes
	violations map[string]uint64    // by reason
	taken      uint64               // how many events were taken in
	ended      map[event.Place]bool // where a listener ended since the last look, which may still list it
	waiting    []waiter
	storms     bool  // there is a storm
	resting    bool  // the current look has events wait
	behind     bool  // events from before the last look are still to come
	failure    error // why no more events come

	// Only the flight uses the rest.
	then        time.Duration // when it was last known whether there is a storm, since boot
	takenThen   uint64        // taken until then
	adopted     bool
	lost        uint64 // at the last look
	version     uint64 // grows when what fill fills in has changed
	connections map[event.Place]event.Connections
	unused      map[event.Place]bool // places that no listener of the last look had
	placed      map[event.Place]bool // places of listeners of the last look that the kernel has known
}

// announced is a listener that is known by its events, or was open before them.
type announced struct {
	change Change        // that opened it
	since  time.Duration // since boot, or 0 if that is not known
	seen   bool          // by a look
}

// openEvents has the kernel report events about the sockets that o names, of which those of the main namespace are read from main.
func openEvents(o *Options, observed socket.Observed, main socket.Source, j *judge) (*events, error) {
	number, err := observed.Number()
	if err != nil {
		return nil, err
	}
	source, err := event.Open(func() (string, error) { return holder.FindCgroup2(o.Procfs, o.Sysfs) })
	if err != nil {
		return nil, err
	}
	e := newEvents(o, source, number)
	e.ranges, e.detailed = cached(func() socket.PortRanges { ranges, _ := main.PortRanges(); return ranges }), main.Detailed()
	e.identify = holder.NewIdentifier(o.Procfs, o.Sysfs).Identify
	if namespace, err := os.Readlink("/proc/self/ns/pid"); err == nil && namespace == initialPIDs {
		e.self = os.Getpid()
	}
	if j != nil {
		e.judgeBy(j)
	}
	return e, nil
}

func newEvents(o *Options, source eventSource, main uint32) *events {
	return &events{
		source: source, options: o, main: main, now: readClock, detailed: true, device: deviceName,
		announced: make(map[event.Place]*announced), ended: make(map[event.Place]bool), counts: make(map[string]Changes), violations: make(map[string]uint64),
		connections: make(map[event.Place]event.Connections),
	}
}

// judgeBy has listeners judged as j does.
func (e *events) judgeBy(j *judge) {
	if e.table = j.watcher.Current; j.leases != nil {
		e.leases = j.leases.leases.View
	}
}

// cached returns a function that calls f at most once in rangesKept.
func cached[T any](f func() T) func() T {
	var value T
	var at time.Time
	return func() T {
		if now := time.Now(); at.IsZero() || now.Sub(at) > rangesKept {
			value, at = f(), now
		}
		return value
	}
}

// deviceName returns the name of an interface of this namespace, and whether it reaches only this host.
func deviceName(index uint32) (name string, loopback bool) {
	device, err := net.InterfaceByIndex(int(index))
	if err != nil { // it is gone
		return socket.DeviceGone, true
	}
	return device.Name, device.Flags&net.FlagLoopback != 0
}

// take takes in one event.
func (e *events) take(ev *event.Event) {
	if ev.Others || ev.Proto == socket.TCP && !e.options.TCP || ev.Proto == socket.UDP && !e.options.UDP {
		return // the listener was open before, or stays open; or it is not asked for
	}
	if ev.Proto == socket.UDP && e.self != 0 && int(ev.PID) == e.self {
		return // it proves that a port can be leased
	}
	if !e.detailed {
		ev.Interface = 0
	}
	key, seen := e.keyOf(ev)
	if !seen || !e.options.passes(key) {
		return
	}
	var table *registry.Table
	if e.table != nil && key.Netns == "" {
		table = e.table()
	}
	client := isClient(key.Proto, key.Range)
	if client && (table == nil || !table.Expects(key.Proto, key.Addr.Port())) {
		return // a look reports it if it stays
	}
	if ev.Kind == event.Opened {
		e.takeOpened(ev, key, table)
	} else {
		e.takeClosed(ev, key)
	}
}

// keyOf returns the key of an event's listener, and whether its namespace is observed.
func (e *events) keyOf(ev *event.Event) (key Key, seen bool) {
	key = Key{Proto: ev.Proto.String(), Addr: ev.Addr, Scope: scopeOf(ev.Addr.Addr()), Range: rangeOf(ev.Addr.Port(), e.portRanges)}
	if ev.Netns == e.main {
		if loopback := false; ev.Interface != 0 {
			if key.Device, loopback = e.device(ev.Interface); loopback {
				key.Scope = ScopeLoopback
			}
		}
		return key, true
	}
	if e.options.Netns != "all" {
		return key, false
	}
	e.mu.Lock()
	key.Netns = e.names[ev.Netns]
	e.mu.Unlock()
	if key.Netns == "" { // no round has read it yet
		key.Netns = fmt.Sprintf("unknown-%d", ev.Netns)
	}
	return key, true
}

// takeOpened takes in that a socket began to listen.
func (e *events) takeOpened(ev *event.Event, key Key, table *registry.Table) {
	holder, known := e.identify(int(ev.PID), ev.Comm, ev.UID)
	change := Change{
		Key: key, Opened: true, At: e.wall(ev.Time), Exact: true, Holder: Process{Holder: holder, PID: int(ev.PID)},
	}
	if table != nil {
		change.State, change.Service = e.judge(table, key, holder, known, ev)
	}
	e.mu.Lock()
	e.taken++
	if key.Netns == "" {
		e.count(key.Proto, 1, 0)
		if !leftToLooks(key.Proto, change.State) && countsAs(change.State, key.Scope) {
			e.violations[change.State]++
		}
	}
	if len(e.announced) < maxAnnounced {
		a := e.spare
		if a == nil {
			a = new(announced)
		}
		*a, e.spare = announced{change: change, since: ev.Time}, nil
		e.announced[ev.Place] = a
	}
	e.mu.Unlock()
	e.report(change)
}

// takeClosed takes in that a socket ended that listened.
func (e *events) takeClosed(ev *event.Event, key Key) {
	e.mu.Lock()
	e.taken++
	a := e.announced[ev.Place]
	if key.Netns == "" {
		e.count(key.Proto, 0, 1)
		// Who opens a socket may hand it on to the program that serves it. A look knows who holds it then.
		if a != nil && a.change.State == ReasonProcess && !a.seen {
			e.violations[ReasonProcess]++
		}
	}
	delete(e.announced, ev.Place)
	if len(e.ended) < maxAnnounced {
		e.ended[ev.Place] = true
	}
	e.mu.Unlock()
	change := Change{Key: key, Holder: Process{Holder: Holder{Process: ev.Comm, UIDUnknown: ev.Opened == 0}, PID: int(ev.PID)}}
	opened := ev.Opened
	if a != nil {
		change = a.change
		if a.since != 0 {
			opened = a.since
		}
	}
	change.Opened, change.At, change.Exact = false, e.wall(ev.Time), true
	if opened != 0 {
		change.Lifetime = ev.Time - opened
	}
	if a != nil {
		e.spare = a
	}
	e.report(change)
}

// count adds to the counts of a protocol. The caller holds e.mu.
func (e *events) count(proto string, opened, closed uint64) {
	c := e.counts[proto]
	c.Opened += opened
	c.Closed += closed
	e.counts[proto] = c
}

// report reports a change to whoever asked for it.
func (e *events) report(c Change) {
	if e.options.Changed != nil {
		e.options.Changed(c)
	}
}

// judge returns what Listener.State and the verdict say of a listener that has just opened. If its holder has ended already, only the
// place is judged.
func (e *events) judge(table *registry.Table, key Key, holder Holder, known bool, ev *event.Event) (state, service string) {
	l := Listener{Key: key}
	if known = known && ev.PID != 1; known { // PID 1 opens sockets for others to serve
		l.held = [][]Holder{{holder}}
	}
	input := l.Input()
	input.HoldersUnread = !known
	input.Client = isClient(key.Proto, key.Range)
	input.Own = key.Proto == TCP && slices.Contains(e.options.OwnPorts, key.Addr.Port())
	if l.Verdict = table.Judge(input); l.Verdict.Undecided {
		return "", ""
	}
	if e.leases != nil && byLease(&l.Verdict) {
		view := e.leases()
		l.Lease = judgeByLease(&l.Verdict, leasesOf(&view, key), view, ev.Time, func(uid uint32) bool { return !holder.UIDUnknown && holder.UID == uid })
	}
	l.Judged = true
	return l.State(), l.Verdict.Service
}

// refresh brings booted and portRanges up to date, once for many events.
func (e *events) refresh() {
	sinceBoot, wall := e.now()
	e.booted, e.portRanges = wall.Add(-sinceBoot), e.ranges()
}

// wall returns what the wall clock showed at a time since boot.
func (e *events) wall(at time.Duration) time.Time { return e.booted.Add(at) }

// covers notes that a look has seen a listener, and reports whether events count its opening and closing, so that looks need not: each
// of TCP, and those of UDP that were announced, have ended since, or may still be announced.
func (e *events) covers(at event.Place) bool {
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failure != nil {
		return false
	}
	a := e.announced[at]
	if a != nil {
		a.seen = true
	}
	return a != nil || at.Proto == socket.TCP || e.ended[at] || e.behind
}

// failed reports whether no more events come.
func (e *events) failed() bool {
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failure != nil
}

// mayWatch reports whether a listener that a look has listed is still open, as far as events say.
func (e *events) mayWatch(at event.Place) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.behind && !e.ended[at] && len(e.ended) < maxAnnounced
}

// counted returns what events have counted, and how many were taken in. It ends a look.
func (e *events) counted() (counts map[string]Changes, violations map[string]uint64, taken uint64) {
	if e == nil {
		return nil, nil, 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.ended)
	return maps.Clone(e.counts), maps.Clone(e.violations), e.taken
}
