package inventory

import (
	"fmt"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// space is one network namespace: the source that reads it, and what is remembered of it.
type space struct {
	name    string // empty for the main one
	source  socket.Source
	options *Options
	// declares tells whether the registry declares a port, which is then reported at once; nil if there is none.
	declares func(proto string, port uint16) bool
	now      func() time.Time
	// brief tells that two reads must do for the first round: it is one of many spaces, and a read through procfs takes some
	// milliseconds however little there is to be read.
	brief bool

	ledgers []*ledger
	missing []socket.Socket // the buffer of all confirmations
	ranges  socket.PortRanges
	read    bool // the last reading was whole
}

func newSpace(name string, source socket.Source, o *Options, now func() time.Time) *space {
	s := &space{name: name, source: source, options: o, now: now}
	for _, proto := range o.protocols() {
		s.ledgers = append(s.ledgers, newLedger(proto, o.MaxPorts))
	}
	return s
}

// reading is what reading a space came to.
type reading struct {
	reads     []Read // one a protocol
	rangesErr error  // the kernel's defaults are used
	same      bool   // nothing has changed since the last reading
}

// update reads every protocol. One that fails does not touch the other.
func (s *space) update() reading {
	ranges, err := s.source.PortRanges()
	result := reading{rangesErr: err, same: s.read && ranges == s.ranges}
	s.ranges, s.read = ranges, true
	for _, l := range s.ledgers {
		start := time.Now()
		same, err := s.updateLedger(l)
		result.reads = append(result.reads, Read{Collector: l.proto.String(), Err: err, Duration: time.Since(start)})
		l.failed = err != nil
		s.read = s.read && !l.failed
		result.same = result.same && same
	}
	return result
}

// updateLedger brings a ledger up to date, and tells whether that changed nothing. A panic is a failed read: it must not take
// the success gauge with it.
func (s *space) updateLedger(l *ledger) (same bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			same, err = false, fmt.Errorf("read %s sockets: panic: %v", l.proto, r)
		}
	}()
	start := s.now()
	sockets, same, err := s.source.Read(l.proto)
	if err != nil {
		return false, err
	}
	if same && l.still && s.ranges == l.ranges {
		return true, nil
	}
	l.begin()
	l.absorb(sockets, s.now())
	s.missing = l.missing(s.missing[:0])
	mayGoOn := func() bool {
		if !l.settled && (s.brief || l.reads-l.round < 2) {
			return l.reads-l.round < 2
		}
		return s.now().Sub(start) <= confirmTime
	}
	for l.doubtful(s.missing) && mayGoOn() {
		if sockets, err = s.source.Confirm(l.proto, s.missing); err != nil {
			return false, err
		}
		l.absorb(sockets, s.now())
		s.missing = l.missing(s.missing[:0])
	}
	l.ranges = s.ranges
	l.settle(s.now(), func(port uint16, open time.Duration) bool {
		return l.proto == socket.UDP && open < s.options.EphemeralMinAge && rangeOf(port, s.ranges) == RangeEphemeral &&
			(s.declares == nil || !s.declares(l.proto.String(), port))
	})
	return false, nil
}

// entry is a listener with its sockets, as their holders are asked for.
type entry struct {
	Listener
	held []holder.Socket
}

// appendTo appends the space's listeners, and those that went, in no order. Those of a protocol whose read failed are left out.
func (s *space) appendTo(entries []entry, gone []Listener) ([]entry, []Listener) {
	for _, l := range s.ledgers {
		if l.failed {
			continue
		}
		for at, of := range l.listeners {
			key := Key{
				Proto: l.proto.String(), Addr: at.addr, Device: at.device, Netns: s.name,
				Scope: scopeOf(at.addr.Addr()), Range: rangeOf(at.addr.Port(), s.ranges),
			}
			listener := Listener{Key: key, Drops: of.drops, Detailed: s.source.Detailed()}
			switch {
			case of.reported:
				listener.Sockets = of.sockets
				listener.IPv6Only = of.ipv6Only
				listener.FirstSeen = of.firstSeen
				if l.proto == socket.TCP {
					listener.AcceptQueueLength, listener.AcceptQueueLimit = of.fullest.Queue, of.fullest.QueueLimit
				} else {
					listener.ReceiveQueueBytes, listener.ReceiveBufferLimitBytes = of.queue, of.queueLimit
				}
				entries = append(entries, entry{listener, of.held})
			case l.keeps(of, s.now()):
				gone = append(gone, listener)
			}
		}
	}
	return entries, gone
}
