//go:build linux

package inventory

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// answer is what a source says to one read of one protocol.
type answer struct {
	rows     []socket.Socket
	same     bool // as the source says it
	err      error
	panicked bool
}

// scripted is a source that gives prepared answers. The last answer for a protocol is given again and again; a protocol
// without any has no sockets.
type scripted struct {
	mu        sync.Mutex
	answers   map[socket.Protocol][]answer
	reads     map[socket.Protocol]int
	ranges    socket.PortRanges
	rangesErr error
	detailed  bool
	onRead    func()
	onReading func()        // at the start of each reading of both protocols
	hold      chan struct{} // if not nil, reads wait until it is closed
}

func newScripted() *scripted {
	return &scripted{answers: make(map[socket.Protocol][]answer), reads: make(map[socket.Protocol]int), ranges: kernelRanges}
}

func (s *scripted) Detailed() bool { return s.detailed }

func (s *scripted) Confirm(proto socket.Protocol, _ []socket.Socket) ([]socket.Socket, error) {
	sockets, _, err := s.answer(proto)
	return sockets, err
}

func (s *scripted) Name() string { return "scripted" }

func (s *scripted) BindV6Only() bool { return false }

func (s *scripted) PortRanges() (socket.PortRanges, error) {
	return s.ranges, s.rangesErr
}

func (s *scripted) Read(proto socket.Protocol) (sockets []socket.Socket, same bool, err error) {
	if s.onReading != nil && proto == socket.TCP { // the first
		s.onReading()
	}
	return s.answer(proto)
}

// answer gives the next answer.
func (s *scripted) answer(proto socket.Protocol) (sockets []socket.Socket, same bool, err error) {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onRead != nil {
		s.onRead()
	}
	s.reads[proto]++
	if len(s.answers[proto]) == 0 {
		return nil, false, nil
	}
	next := s.answers[proto][0]
	if len(s.answers[proto]) > 1 {
		s.answers[proto] = s.answers[proto][1:]
	}
	if next.panicked {
		panic("index out of range")
	}
	return slices.Clone(next.rows), next.same, next.err
}

// say makes answers what a protocol's next reads give.
func (s *scripted) say(proto socket.Protocol, answers ...answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[proto] = answers
}

func has(rows ...socket.Socket) answer { return answer{rows: rows} }

// unchanged is an answer of a source that knows that nothing changed.
func unchanged(rows ...socket.Socket) answer { return answer{rows: rows, same: true} }

// bench is an inventory of a scripted source at a time of the test's own.
type bench struct {
	*Inventory
	source  *scripted
	clockMu sync.Mutex
	clock   time.Time
	booted  time.Time     // what the clock showed at the host's boot
	set     time.Duration // how far the wall clock is ahead of the clock
	cpuTime atomic.Int64  // nanoseconds
	log     bytes.Buffer
	holders holderFinder
}

// kernelRanges are the kernel's defaults.
var kernelRanges = socket.PortRanges{UnprivilegedStart: 1024, EphemeralFirst: 32768, EphemeralLast: 60999}

func newBench(t *testing.T, edit ...func(*Options)) *bench {
	t.Helper()
	b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)}
	b.open(t, nil, b.now, edit)
	return b
}

// now returns the test's time, and advance sets it forward. Both protocols are read at the same time.
func (b *bench) now() time.Time {
	b.clockMu.Lock()
	defer b.clockMu.Unlock()
	return b.clock
}

func (b *bench) advance(by time.Duration) {
	b.clockMu.Lock()
	defer b.clockMu.Unlock()
	b.clock = b.clock.Add(by)
}

// open makes the inventory, also of other namespaces if they have a finder.
func (b *bench) open(t *testing.T, others namespaceFinder, now func() time.Time, edit []func(*Options)) {
	t.Helper()
	b.source = newScripted()
	o := Options{TCP: true, UDP: true, MaxPorts: 20000, EphemeralMinAge: time.Minute}
	for _, f := range edit {
		f(&o)
	}
	if b.booted.IsZero() {
		b.booted = now().Add(-24 * time.Hour)
	}
	hostClock := func() (sinceBoot time.Duration, wall time.Time) { return now().Sub(b.booted), now().Add(b.set) }
	cpuTime := func() time.Duration { return time.Duration(b.cpuTime.Load()) }
	var err error
	if b.Inventory, err = newInventory(sources{main: bothFrom(b.source), others: others, holders: b.holders, clock: hostClock, cpuTime: cpuTime}, o, log.NewLogfmtLogger(&b.log), now); err != nil {
		t.Fatal(err)
	}
}

// Snapshot waits for every read.
func (b *bench) Snapshot() *Snapshot { return b.Inventory.Snapshot(context.Background()) }

// bothFrom reads both protocols from one source, which must bear that.
func bothFrom(source socket.Source) socket.Sources {
	return socket.Sources{socket.TCP: source, socket.UDP: source}
}

// at makes a socket on an address.
func at(address string, inode uint64) socket.Socket {
	return socket.Socket{Addr: netip.MustParseAddrPort(address), ID: inode}
}

func dropping(s socket.Socket, drops uint32) socket.Socket {
	s.Drops = drops
	return s
}

// portsOf returns a snapshot's listeners as short texts.
func portsOf(s *Snapshot) []string {
	texts := []string{}
	for _, l := range s.Listeners {
		text := fmt.Sprintf("%s %s", l.Proto, l.Addr)
		if l.Sockets != 1 {
			text += fmt.Sprintf(" x%d", l.Sockets)
		}
		texts = append(texts, text)
	}
	return texts
}

func wantPorts(t *testing.T, s *Snapshot, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), portsOf(s)); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
}

// only returns the one listener of a snapshot.
func only(t *testing.T, s *Snapshot) Listener {
	t.Helper()
	if len(s.Listeners) != 1 {
		t.Fatalf("want one listener, got %v", portsOf(s))
	}
	return s.Listeners[0]
}

// startsOf returns since when something has been wrong with a listener.
func startsOf(l Listener) Starts {
	if l.Starts == nil {
		return Starts{}
	}
	return *l.Starts
}
