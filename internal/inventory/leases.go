//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/guard"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/users"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Leases are the ports that are handed out for a time: a *lease.Manager, or what another program's has.
type Leases interface {
	// View returns the leases as they are known now.
	View() lease.View
	// Looked notes which ports listened at a look, and returns the leases as they are known then: see lease.Manager.
	Looked(at time.Duration, listening []uint16, whole bool) lease.View
}

var _ Leases = (*lease.Manager)(nil)

// leasing is what is known of the leases at a look.
type leasing struct {
	leases Leases
	clock  func() (sinceBoot time.Duration, wall time.Time)
	users  users.Namespace

	at      time.Duration // when the reads began, since boot
	view    lease.View
	err     error  // why there is none
	changes uint64 // how often they may have become others

	byPort  map[portID][]*Lease // at the look whose listeners are judged
	passing bool                // one by which a listener is judged will not count at the next look

	ports   []uint16 // that listen
	version uint64   // of the main namespace, whose ports they are
}

// begin notes that a look begins, and returns whether a port is declared by the table, or by a lease. While an earlier look's read is
// under way, this look is that one.
func (l *leasing) begin(main *namespace, declares declaration) declaration {
	if main.isIdle() {
		l.at, _ = l.clock()
	}
	view := l.leases.View()
	return func(proto string, port uint16) bool {
		_, leased := view.Of(proto, port)
		return leased || declares(proto, port)
	}
}

// proves reports whether the manager of the leases may bind a port for a moment, to prove that it is free: to all who see it, a UDP socket
// listens then.
func (j *judge) proves(port uint16) bool {
	return slices.ContainsFunc(j.watcher.Current().Leasable(), func(r registry.Leasable) bool { return r.Contains(port) })
}

// look hands on which ports listen, and takes in the leases. What ended since the reads began still counts.
func (l *leasing) look(main *namespace) {
	if l.version != main.version {
		l.version, l.ports = main.version, main.ports(l.ports[:0])
	}
	before := l.view
	l.err = guard.Do(func() error { l.view = l.leases.Looked(l.at, l.ports, main.whole); return nil })
	if l.passing || l.err != nil || l.view.Version != before.Version || (l.view.Err == nil) != (before.Err == nil) {
		l.changes++
		l.passing = false
	}
}

// changed returns how often the leases may have become others.
func (l *leasing) changed() uint64 {
	if l == nil {
		return 0
	}
	return l.changes
}

// failed returns why there are no leases although there should be.
func (l *leasing) failed() error {
	if l == nil {
		return nil
	}
	return l.err
}

// shown returns the leases for those who show them.
func (l *leasing) shown(c clock) *LeaseView {
	if l == nil || l.err != nil {
		return nil
	}
	return &LeaseView{l.view, c.wall(0)}
}

// ports appends the ports that listen, as far as they could be read: whatever the filters say, and clients too.
func (n *namespace) ports(ports []uint16) []uint16 {
	for _, l := range n.ledgers {
		if l.failed {
			continue
		}
		for at, ln := range l.listeners {
			if ln.sockets > 0 {
				ports = append(ports, at.addr.Port())
			}
		}
	}
	return ports
}

// index notes which leases count. A listener that may be gone, but not for certain, is judged by those of its last moments.
func (l *leasing) index() {
	l.byPort = make(map[portID][]*Lease)
	for _, leases := range [][]Lease{l.view.Leases, l.view.Ended} {
		for n := range leases {
			for _, port := range leases[n].Ports {
				id := portID{leases[n].Proto, port}
				l.byPort[id] = append(l.byPort[id], &leases[n])
			}
		}
	}
}

// judge fills in by which lease a listener is as declared although the registry does not declare it, or why it is not.
func (l *leasing) judge(o *openListener, verdict *Verdict) {
	if o.Lease = nil; !byLease(verdict) {
		return
	}
	since := l.at
	if o.unseen {
		since -= lease.EndedKept
	}
	owns := func(uid uint32) bool {
		return !slices.ContainsFunc(o.sockets, func(s holder.Socket) bool {
			number, unknown := l.users.Number(s.UID)
			return unknown || number != uid
		})
	}
	if o.Lease = judgeByLease(verdict, l.byPort[portID{o.Proto, o.Addr.Port()}], l.view, since, owns); o.Lease != nil {
		l.passing = l.passing || l.view.WasAlive(o.Lease, since) && !l.view.WasAlive(o.Lease, l.view.Time)
	}
}

// leasesOf returns the leases that have, or until a moment ago had, a port.
func leasesOf(view *lease.View, k Key) (of []*Lease) {
	for _, leases := range [][]Lease{view.Leases, view.Ended} {
		for n := range leases {
			if leases[n].Has(k.Proto, k.Addr.Port()) {
				of = append(of, &leases[n])
			}
		}
	}
	return of
}

// byLease reports whether a lease decides about a listener: nothing of the registry declares or forbids it.
func byLease(v *Verdict) bool {
	return !v.Undecided && (v.Reason == ReasonUnregistered || v.Reason == ReasonReserved)
}

// judgeByLease makes the verdict on a listener that nothing declares one by the lease of its port that was alive at some time since
// then, or notes why it is none. owns reports whether all sockets are a user's.
func judgeByLease(verdict *Verdict, leases []*Lease, view lease.View, since time.Duration, owns func(uid uint32) bool) *Lease {
	var other *Lease
	why := ""
	for _, of := range leases {
		switch mine := of.AnyUser || owns(of.UID); {
		case view.WasAlive(of, since) && mine:
			*verdict = Verdict{Service: of.Name, Owner: of.Team}
			return of
		case other != nil:
		case view.WasAlive(of, since):
			other, why = of, ", whose socket it is not"
		case of.Deadline != 0 && !slices.ContainsFunc(view.Ended, func(l Lease) bool { return l.ID == of.ID }):
			other, why = of, ", whose lease has expired"
		}
	}
	if other != nil {
		verdict.Declared = "leased as " + other.Name + " by " + other.User + why
	}
	return other
}

// ObservesOwn reports whether the main network namespace is that of the exporter: only there it shows that a port is free if the
// exporter can bind it.
func (i *Inventory) ObservesOwn() bool { return i.observesOwn }

// errNoRanges is why nothing may be leased without a registry.
var errNoRanges = errors.New("no registry reserves ranges: want --registry.file")

// rulesVersion is what the rules of leases depend on: with the same, they are the same.
type rulesVersion struct {
	table  *registry.Table
	kernel string // its port ranges
}

// LeaseRules returns what the registry, the kernel and the exporter's own ports say now of the ports that may be leased. It fails if
// the kernel's settings cannot be read. Several goroutines may call it.
func (i *Inventory) LeaseRules() (lease.Rules, error) {
	if i.judge == nil {
		return lease.Rules{}, errNoRanges
	}
	kernel, err := i.main.ledgers[0].source.PortRanges()
	if err != nil {
		return lease.Rules{}, err
	}
	table := i.judge.watcher.Current()
	rules := lease.Rules{Claim: table.Refusal, Service: table.HasService, Version: rulesVersion{table, fmt.Sprint(kernel)}}
	for _, r := range table.Leasable() {
		rules.Ranges = append(rules.Ranges, lease.Range(r))
	}
	rules.Refuse = func(port uint16) string {
		switch {
		case slices.Contains(i.options.OwnPorts, port):
			return wording.Program + " serves on it"
		case kernel.EphemeralFirst <= int(port) && int(port) <= kernel.EphemeralLast && !kernel.Reserved.Contains(port):
			return "the kernel gives it to clients: want it in the sysctl net.ipv4.ip_local_reserved_ports"
		}
		return table.Refusal(port)
	}
	return rules, nil
}
