//go:build linux

package inventory

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/guard"
	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// namespace is one network namespace, and what is remembered about it.
type namespace struct {
	name    string // empty for the main one
	number  uint32 // that events give it, or 0 if it is not known
	options *Options
	now     func() time.Time

	// proves, unless it is nil, reports whether this process may bind a port for a moment to prove that it is free.
	proves func(port uint16) bool

	ledgers []*ledger
	whole   bool   // the last observation read every protocol
	version uint64 // grows with each observation that may have changed the listeners

	// inhabitants is what all processes in it have in common, where the kernel does not say which cgroup made a socket.
	inhabitants holder.Inhabitants
}

// newNamespace returns a namespace. source returns the source that reads a protocol.
func newNamespace(name string, source func(socket.Protocol) socket.Source, o *Options, now func() time.Time) *namespace {
	n := &namespace{name: name, options: o, now: now}
	for _, proto := range o.protocols() {
		n.ledgers = append(n.ledgers, newLedger(proto, source(proto), o.MaxPorts))
	}
	return n
}

// declaration reports whether the registry declares a port. Such a port is reported at once. It is nil without a registry.
type declaration func(proto string, port uint16) bool

// observe reads all protocols at the same time, each from a source of its own, and appends how that went. A failure of one does not
// affect the others. When ctx is done, what has not ended is a failed read, which goes on.
func (n *namespace) observe(ctx context.Context, declares declaration, reads []Read) []Read {
	start := time.Now()
	for _, l := range n.ledgers {
		l.updates.start(func() error { return n.update(l, declares) })
	}
	return n.note(reads, func(l *ledger) Read {
		err := l.updates.wait(ctx)
		return Read{Err: err, Duration: time.Since(start)}
	})
}

// observeInTurn reads one protocol after the other, as they share a source, and appends how that went.
func (n *namespace) observeInTurn(reads []Read) []Read {
	return n.note(reads, func(l *ledger) Read {
		start := time.Now()
		err := guard.Do(func() error { return n.update(l, nil) })
		return Read{Err: err, Duration: time.Since(start)}
	})
}

// note notes how the read of each ledger went, and whether the listeners may have changed.
func (n *namespace) note(reads []Read, result func(*ledger) Read) []Read {
	changed := !n.whole
	n.whole = true
	for _, l := range n.ledgers {
		read := result(l)
		read.Collector = l.proto.String()
		reads = append(reads, read)
		l.failed = read.Err != nil
		n.whole = n.whole && !l.failed
		changed = changed || l.failed || l.changed
	}
	if changed {
		n.version++
	}
	return reads
}

// isIdle reports whether nothing is being read.
func (n *namespace) isIdle() bool {
	return !slices.ContainsFunc(n.ledgers, func(l *ledger) bool { return l.updates.end != nil })
}

// confirming reports whether it takes more reads to know that a socket is gone.
func (n *namespace) confirming() bool {
	return slices.ContainsFunc(n.ledgers, func(l *ledger) bool { return !l.failed && l.confirming })
}

// rangesErr returns why the port ranges could not be read when a listener last appeared.
func (n *namespace) rangesErr() error {
	var errs []error
	for _, l := range n.ledgers {
		if !l.failed {
			errs = append(errs, l.rangesErr)
		}
	}
	return errors.Join(errs...)
}

// update brings a ledger up to date.
func (n *namespace) update(l *ledger, declares declaration) error {
	start := n.now()
	l.changed = true // unless all goes well
	sockets, same, err := l.source.Read(l.proto)
	if err != nil {
		return err
	}
	if same && l.stable {
		l.changed = false
		return nil
	}
	l.begin()
	l.absorb(sockets, n.now())
	missing := l.missing(nil)
	// With many namespaces a longer first update would take too long: a read through procfs takes some milliseconds however little
	// there is to read.
	brief := n.name != ""
	for l.doubtful(missing, n.now().Sub(start), brief) {
		if sockets, err = l.source.Confirm(l.proto, missing); err != nil {
			return err
		}
		l.absorb(sockets, n.now())
		missing = l.missing(missing[:0])
	}
	l.settle(n.now(), func(port uint16, ln *listener, open time.Duration) bool {
		proof := n.proves != nil && l.proto == socket.UDP && l.settled && open < proofAge && ln.isOf(uint32(os.Geteuid())) && n.proves(port)
		client := isClient(l.proto.String(), ln.portRange) && open < n.options.EphemeralMinAge
		return (proof || client) && (declares == nil || !declares(l.proto.String(), port))
	})
	return nil
}

// isOf reports whether all sockets of a listener are a user's.
func (ln *listener) isOf(uid uint32) bool {
	return !slices.ContainsFunc(ln.held, func(s holder.Socket) bool { return s.UID != uid })
}

// proofAge is for how long a UDP socket may be one that proves that its port is free.
const proofAge = time.Second

// isClient reports whether a socket is most often a client, unless the registry declares its port.
func isClient(proto string, in Range) bool { return proto == UDP && in == RangeEphemeral }

// openListener is a listener with its sockets, whose holders are asked for.
type openListener struct {
	Listener
	sockets     []holder.Socket
	inhabitants holder.Inhabitants // of its namespace
	restarts    uint64             // how often it restarted between two reads
	at          event.Place
	unseen      bool // it may be gone, which is not certain yet
}

// most returns how many listeners appendListeners appends at most.
func (n *namespace) most() (most int) {
	for _, l := range n.ledgers {
		if !l.failed { // else it may still be read
			most += len(l.listeners)
		}
	}
	return most
}

// appendListeners appends the namespace's listeners, and those that are gone, in no order. It leaves out a protocol whose read
// failed. The sockets hold until the next observation.
func (n *namespace) appendListeners(open []openListener, gone []Listener) ([]openListener, []Listener) {
	for _, l := range n.ledgers {
		if l.failed {
			continue
		}
		for at, ln := range l.listeners {
			key := Key{
				Proto: l.proto.String(), Addr: at.addr, Device: at.device, Netns: n.name,
				Scope: scopeOf(at.addr.Addr()), Range: ln.portRange,
			}
			if ln.fullest.Loopback { // as are all of its sockets, which are bound to one interface
				key.Scope = ScopeLoopback
			}
			listener := Listener{Key: key, Drops: ln.drops, Detailed: l.source.Detailed(), Client: isClient(key.Proto, key.Range)}
			switch {
			case ln.reported:
				listener.Sockets = ln.sockets
				listener.IPv6Only = ln.ipv6Only
				listener.FirstSeen = ln.firstSeen
				if l.proto == socket.TCP {
					listener.AcceptQueueLength, listener.AcceptQueueLimit = ln.fullest.Queue, ln.fullest.QueueLimit
				} else {
					listener.ReceiveQueueBytes, listener.ReceiveBufferLimitBytes = ln.fullest.Queue, ln.fullest.QueueLimit
				}
				place := event.Place{Proto: l.proto, Netns: n.number, Addr: at.addr, Interface: ln.fullest.Interface}
				open = append(open, openListener{listener, ln.held, n.inhabitants, ln.restarts, place, !ln.seen})
			case l.keeps(ln, n.now()):
				gone = append(gone, listener)
			}
		}
	}
	return open, gone
}
