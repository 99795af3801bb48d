package inventory

import (
	"fmt"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// namespace is one network namespace: the source that reads it, and what is remembered about it.
type namespace struct {
	name    string // empty for the main one
	source  socket.Source
	options *Options
	// declares reports whether the registry declares a port. Such a port is reported at once. It is nil without a registry.
	declares func(proto string, port uint16) bool
	now      func() time.Time

	ledgers []*ledger
	ranges  socket.PortRanges
	whole   bool   // the last observation read every protocol
	version uint64 // grows with each observation that may have changed the listeners
}

func newNamespace(name string, source socket.Source, o *Options, now func() time.Time) *namespace {
	n := &namespace{name: name, source: source, options: o, now: now}
	for _, proto := range o.protocols() {
		n.ledgers = append(n.ledgers, newLedger(proto, o.MaxPorts))
	}
	return n
}

// observe reads every protocol, and appends how that went. A failure of one does not affect the others. rangesErr is why the
// kernel's default port ranges are used.
func (n *namespace) observe(reads []Read) (_ []Read, rangesErr error) {
	ranges, rangesErr := n.source.PortRanges()
	changed := !n.whole || ranges != n.ranges
	n.ranges, n.whole = ranges, true
	for _, l := range n.ledgers {
		start := time.Now()
		ledgerChanged, err := n.update(l)
		reads = append(reads, Read{Collector: l.proto.String(), Err: err, Duration: time.Since(start)})
		l.failed = err != nil
		n.whole = n.whole && !l.failed
		changed = changed || ledgerChanged
	}
	if changed {
		n.version++
	}
	return reads, rangesErr
}

// update brings a ledger up to date, and reports whether that may have changed it. A panic is a failed read: otherwise it would
// end the snapshot, and with it the success gauge that shows the failure.
func (n *namespace) update(l *ledger) (changed bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			changed, err = true, fmt.Errorf("read %s sockets: panic: %v", l.proto, r)
		}
	}()
	start := n.now()
	sockets, same, err := n.source.Read(l.proto)
	if err != nil {
		return true, err
	}
	if same && l.stable && n.ranges == l.ranges {
		return false, nil
	}
	l.begin()
	l.absorb(sockets, n.now())
	missing := l.missing(nil)
	// With many namespaces a longer first update would take too long: a read through procfs takes some milliseconds however little
	// there is to read.
	brief := n.name != ""
	for l.doubtful(missing, n.now().Sub(start), brief) {
		if sockets, err = n.source.Confirm(l.proto, missing); err != nil {
			return true, err
		}
		l.absorb(sockets, n.now())
		missing = l.missing(missing[:0])
	}
	l.ranges = n.ranges
	l.settle(n.now(), func(port uint16, open time.Duration) bool {
		return l.proto == socket.UDP && open < n.options.EphemeralMinAge && rangeOf(port, n.ranges) == RangeEphemeral &&
			(n.declares == nil || !n.declares(l.proto.String(), port))
	})
	return true, nil
}

// openListener is a listener with its sockets, whose holders are asked for.
type openListener struct {
	Listener
	sockets []holder.Socket
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
				Scope: scopeOf(at.addr.Addr()), Range: rangeOf(at.addr.Port(), n.ranges),
			}
			listener := Listener{Key: key, Drops: ln.drops, Detailed: n.source.Detailed()}
			switch {
			case ln.reported:
				listener.Sockets = ln.sockets
				listener.IPv6Only = ln.ipv6Only
				listener.FirstSeen = ln.firstSeen
				if l.proto == socket.TCP {
					listener.AcceptQueueLength, listener.AcceptQueueLimit = ln.fullest.Queue, ln.fullest.QueueLimit
				} else {
					listener.ReceiveQueueBytes, listener.ReceiveBufferLimitBytes = ln.queue, ln.queueLimit
				}
				open = append(open, openListener{listener, ln.held})
			case l.keeps(ln, n.now()):
				gone = append(gone, listener)
			}
		}
	}
	return open, gone
}
