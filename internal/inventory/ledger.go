//go:build linux

package inventory

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// goneKept is how long the drop count of a listener that is gone is kept, so that a restart does not look like a counter reset.
const goneKept = time.Hour

// goneAfter is how many reads in a row must lack a socket before it is gone. The kernel gives its tables page by page, and
// goes on by counting: a socket at the seam of two pages is passed over again and again while its neighbours come and go.
// In 5 686 reads of procfs next to very busy neighbours, 145 times two in a row lacked the same socket, and once five.
const goneAfter = 8

// confirmTime bounds the reads of one update. If a read takes long, because the host has very many sockets, a missing socket stays
// as it was until later updates have made sure.
const confirmTime = time.Second

// ledger remembers one protocol's sockets from read to read. The kernel's tables are not a consistent snapshot: while
// neighbours open and close, a read can pass over a socket that never closed, or give it twice. So a socket is gone only
// when several reads in a row lack it, and rows of the same socket are one.
//
// An update begins (begin), takes in one read, and more reads while their result is doubtful (absorb), and then decides what
// listens (settle).
type ledger struct {
	proto     socket.Protocol
	source    socket.Source
	maxGone   int // how many listeners that went are kept at most
	sockets   map[identity]*member
	listeners map[place]*listener
	closed    map[uint64]closedSocket // by ID
	reads     uint64                  // how many reads were absorbed
	before    uint64                  // the value of reads when the current update began
	settled   bool                    // a first update was settled: what appears from now on is new

	// confirming reports that a socket is missing, and that more reads have to make sure that it is gone.
	confirming bool

	stable bool // the last update saw every socket, in one read, and no listener waits for a time to pass

	rangesErr error // why the port ranges could not be read when a listener last appeared

	// Only the goroutine that waits for updates uses the rest.
	updates background
	changed bool // the last update may have changed the listeners
	failed  bool // it failed, or has not ended
}

// place is where a listener is.
type place struct {
	addr   netip.AddrPort
	device string
}

func placeOf(s socket.Socket) place { return place{s.Addr, s.Device} }

// identity identifies a socket: by its ID, wherever it moves.
type identity struct {
	id uint64
	// Two rows with the ID 0 are always two sockets. Their place tells them apart, and a count of those of one read.
	at       place
	nameless int
}

// member is one of the sockets of a listener.
type member struct {
	row       socket.Socket // as last read
	firstRead uint64        // the read that first had it
	lastRead  uint64        // the read that last had it
	since     time.Time     // when it was first read
	atStart   bool          // it was there in the first update
	counted   uint32        // the part of row.Drops that its listener has counted
	listener  *listener     // the listener that last counted it; nil before
}

// closedSocket is what is remembered about a socket that no longer listens. It may still be open, and listen again: the kernel
// then goes on counting its drops.
type closedSocket struct {
	counted uint32    // member.counted
	at      time.Time // when it was found to be gone
}

// listener is the sockets on one address and port, taken together.
type listener struct {
	lastRead uint64 // the value of ledger.reads when it last had sockets
	sockets  int
	fullest  socket.Socket   // the one whose queue is the longest for its limit
	ipv6Only bool            // every one of its sockets is
	seen     bool            // the last read had one of its sockets
	held     []holder.Socket // its sockets, as their holders are asked for
	opened   time.Time       // when its oldest socket was first read
	atStart  bool            // one of its sockets was there in the first update
	sticky   bool            // one of its sockets has been reported before

	firstRead uint64 // the read that first had one of its sockets
	left      uint64 // the read that last had one of the sockets that went in this update; 0 if none did
	restarts  uint64 // how often all sockets were others after an update

	// portRange is the range of its port when its first socket was read. It stays: an edit of a sysctl does not make a service a
	// client, nor a client a service.
	portRange Range

	reported  bool      // it is in the snapshot
	firstSeen time.Time // when it began to be, or zero
	drops     uint64
	gone      time.Time // when it last left the snapshot; zero if it never did
}

func newLedger(proto socket.Protocol, source socket.Source, maxGone int) *ledger {
	return &ledger{
		proto:     proto,
		source:    source,
		maxGone:   maxGone,
		sockets:   make(map[identity]*member),
		listeners: make(map[place]*listener),
		closed:    make(map[uint64]closedSocket),
	}
}

// begin starts an update.
func (l *ledger) begin() { l.before, l.stable = l.reads, false }

// absorb takes in the rows of one whole read.
func (l *ledger) absorb(rows []socket.Socket, now time.Time) {
	l.reads++
	var nameless map[place]int
	for _, row := range rows {
		id := identity{id: row.ID}
		if row.ID == 0 {
			if nameless == nil {
				nameless = make(map[place]int)
			}
			id.at = placeOf(row)
			nameless[id.at]++
			id.nameless = nameless[id.at]
		}
		m := l.sockets[id]
		if m == nil {
			m = &member{firstRead: l.reads, since: now, atStart: !l.settled}
			if m.atStart {
				m.counted = row.Drops
			}
			if c, back := l.closed[row.ID]; back {
				delete(l.closed, row.ID)
				if c.holds(now) && c.counted <= row.Drops { // else the ID is another socket's by now
					m.counted = c.counted
				}
			}
			l.sockets[id] = m
		}
		m.row = row
		m.lastRead = l.reads
	}
}

// doubtful reports whether the update needs another read before it can be settled, and has time for it. The first update does: there
// is nothing to compare it with. It has at least two reads, and brief limits it to them. A later one does if sockets are missing
// that the last snapshot reported.
func (l *ledger) doubtful(missing []socket.Socket, took time.Duration, brief bool) bool {
	reads := l.reads - l.before
	switch {
	case l.settled:
		return len(missing) > 0 && took <= confirmTime
	case reads < 2:
		return true
	default:
		return !brief && reads < goneAfter && took <= confirmTime
	}
}

// missing appends the sockets that may be gone.
func (l *ledger) missing(dst []socket.Socket) []socket.Socket {
	for _, m := range l.sockets {
		if l.mayBeGone(m) {
			dst = append(dst, m.row)
		}
	}
	return dst
}

// mayBeGone reports whether a socket that was reported is missing, but not for long enough to be gone.
func (l *ledger) mayBeGone(m *member) bool {
	return m.lastRead <= l.before && m.listener != nil && m.listener.reported && l.reads-m.lastRead < goneAfter
}

// settle ends an update: it drops the sockets that are gone and brings the listeners up to date. young reports whether a listener that has
// been open for that long is still too young to be reported.
func (l *ledger) settle(now time.Time, young func(port uint16, ln *listener, open time.Duration) bool) {
	stable := l.reads == l.before+1
	l.confirming = false
	ranges := sync.OnceValue(l.readRanges)
	for id, m := range l.sockets {
		if m.lastRead > l.before {
			// A confirmation does not ask for the sockets that the read before it had, so it says nothing against them.
			m.lastRead = l.reads
		} else {
			stable = false
			l.confirming = l.confirming || l.mayBeGone(m)
			if !l.mayBeGone(m) {
				if l.reads-m.lastRead >= goneAfter {
					delete(l.sockets, id)
					if m.listener != nil {
						m.listener.left = max(m.listener.left, m.lastRead)
					}
					if id.id != 0 && m.counted > 0 {
						l.closed[id.id] = closedSocket{m.counted, now}
					}
				}
				continue
			}
		}
		at := placeOf(m.row)
		ln := l.listeners[at]
		if ln == nil {
			ln = new(listener)
			l.listeners[at] = ln
		}
		if ln.sockets == 0 {
			ln.portRange = rangeOf(at.addr.Port(), ranges())
		}
		ln.count(m, l.reads)
	}
	gone := make(map[place]time.Time)
	for at, ln := range l.listeners {
		open := ln.lastRead == l.reads && (ln.sticky || !young(at.addr.Port(), ln, now.Sub(ln.opened)))
		switch {
		case open && !ln.reported:
			ln.reported = true
			ln.firstSeen = time.Time{}
			if !ln.atStart {
				ln.firstSeen = ln.opened
			}
		case !open && ln.reported:
			ln.reported = false
			ln.gone = now
		case open && ln.left > 0 && ln.left < ln.firstRead:
			ln.restarts++ // between two reads
		}
		ln.left = 0
		if ln.lastRead != l.reads { // no socket is left
			if !l.keeps(ln, now) {
				delete(l.listeners, at)
				continue
			}
			gone[at] = ln.gone
			ln.sockets = 0
		}
		stable = stable && ln.reported
	}
	// Whoever opens and closes ports without end must not fill the memory.
	for _, at := range oldest(gone, l.maxGone, func(at time.Time) time.Time { return at }) {
		delete(l.listeners, at)
	}
	maps.DeleteFunc(l.closed, func(_ uint64, c closedSocket) bool { return !c.holds(now) })
	for _, id := range oldest(l.closed, l.maxGone, func(c closedSocket) time.Time { return c.at }) {
		delete(l.closed, id)
	}
	l.settled, l.stable = true, stable
}

// readRanges returns the port ranges.
func (l *ledger) readRanges() (ranges socket.PortRanges) {
	ranges, l.rangesErr = l.source.PortRanges()
	return ranges
}

// oldest returns the keys of what went first, as many as there are above limit.
func oldest[K comparable, V any](gone map[K]V, limit int, when func(V) time.Time) []K {
	if len(gone) <= limit {
		return nil
	}
	oldestFirst := slices.SortedFunc(maps.Keys(gone), func(a, b K) int { return when(gone[a]).Compare(when(gone[b])) })
	return oldestFirst[:len(gone)-limit]
}

// holds reports whether a closed socket must still be remembered.
func (c closedSocket) holds(now time.Time) bool { return now.Sub(c.at) < goneKept }

// keeps reports whether the drop count of a listener that is not reported must be kept. A count of 0 need not be.
func (l *ledger) keeps(ln *listener, now time.Time) bool {
	return ln.drops > 0 && !ln.gone.IsZero() && now.Sub(ln.gone) < goneKept
}

// count adds a socket that is there.
func (ln *listener) count(m *member, reads uint64) {
	if ln.lastRead != reads {
		ln.lastRead = reads
		ln.sockets = 0
		ln.fullest, ln.ipv6Only, ln.seen = m.row, true, false
		ln.held = ln.held[:0]
		ln.opened, ln.atStart, ln.sticky = m.since, false, false
		ln.firstRead = m.firstRead
	}
	ln.sockets++
	ln.seen = ln.seen || m.lastRead == reads
	ln.held = append(ln.held, holder.Socket{ID: m.row.ID, Inode: m.row.Inode, Cgroup: m.row.Cgroup, UID: m.row.UID})
	// Of queues that are as full as each other, such as empty ones, it is the one with the lowest limit: the kernel lists sockets in no
	// particular order.
	full, fullest := m.row.Queue*(ln.fullest.QueueLimit+1), ln.fullest.Queue*(m.row.QueueLimit+1)
	if full > fullest || full == fullest && m.row.QueueLimit < ln.fullest.QueueLimit {
		ln.fullest = m.row
	}
	ln.ipv6Only = ln.ipv6Only && m.row.IPv6Only
	if m.row.ID != 0 { // otherwise the count may be another socket's
		if m.row.Drops < m.counted {
			m.counted = 0 // another socket has the ID now
		}
		ln.drops += uint64(m.row.Drops - m.counted)
		m.counted = m.row.Drops
	}
	ln.firstRead = min(ln.firstRead, m.firstRead)
	if m.since.Before(ln.opened) {
		ln.opened = m.since
	}
	ln.atStart = ln.atStart || m.atStart
	ln.sticky = ln.sticky || ln.reported && m.listener == ln
	m.listener = ln
}
