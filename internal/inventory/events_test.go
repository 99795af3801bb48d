//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

const mainNumber, otherNumber = 4026531840, 4026532999

// ownProcess is the PID of the exporter.
const ownProcess = 4711

// scriptedKernel reports what a test says.
type scriptedKernel struct {
	events chan event.Event
	flush  chan struct{}

	readErr chan error // what Read fails with

	mu          sync.Mutex
	lost        uint64
	connections map[event.Place]event.Connections
	full        bool // there is no room for another place
	err         error
}

func newScriptedKernel() *scriptedKernel {
	return &scriptedKernel{
		events: make(chan event.Event, 100_000), flush: make(chan struct{}, 1), readErr: make(chan error), connections: make(map[event.Place]event.Connections),
	}
}

func (k *scriptedKernel) Read(buffer []event.Event) ([]event.Event, error) {
	for {
		select {
		case e, open := <-k.events:
			if !open {
				return buffer, os.ErrClosed
			}
			return append(buffer, e), nil
		default:
		}
		select {
		case e, open := <-k.events:
			if !open {
				return buffer, os.ErrClosed
			}
			return append(buffer, e), nil
		case <-k.flush:
			return buffer, event.ErrFlushed
		case err := <-k.readErr:
			return buffer, err
		}
	}
}

func (k *scriptedKernel) Flush() {
	select {
	case k.flush <- struct{}{}:
	default:
	}
}

func (k *scriptedKernel) Lost() (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lost, nil
}

func (k *scriptedKernel) Watch(at event.Place, _ int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full {
		return errors.New("no room")
	}
	k.connections[at] = event.Connections{}
	return nil
}

func (k *scriptedKernel) Forget(at event.Place) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.connections, at)
	return nil
}

func (k *scriptedKernel) Connections(yield func(event.Place, event.Connections)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for at, c := range k.connections {
		yield(at, c)
	}
	return k.err
}

func (k *scriptedKernel) Close() error {
	close(k.events)
	return nil
}

// watched is an inventory of a scripted source and a scripted kernel, and the changes that it reported.
type watched struct {
	*bench
	kernel *scriptedKernel

	mu      sync.Mutex
	changes []Change
}

func newWatched(t *testing.T, content string, edit ...func(*Options)) *watched {
	t.Helper()
	w := &watched{kernel: newScriptedKernel()}
	edit = append(edit, func(o *Options) {
		o.Changed = func(c Change) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, c)
		}
	})
	if content == "" {
		w.bench = newBench(t, edit...)
	} else {
		w.bench, _ = newJudgedBench(t, content, edit...)
	}
	w.source.detailed = true
	e := newEvents(&w.options, w.kernel, mainNumber)
	e.now = func() (time.Duration, time.Time) { return w.now().Sub(w.booted), w.now() }
	e.ranges = func() socket.PortRanges { return kernelRanges }
	e.identify = func(_ int, comm string, uid uint32) (Holder, bool) {
		return Holder{Process: comm, UID: uid}, true
	}
	e.self = ownProcess
	if w.judge != nil {
		e.judgeBy(w.judge)
	}
	w.begin(e)
	t.Cleanup(w.Close)
	return w
}

// place returns where a TCP listener of the main namespace is.
func tcpPlace(address string) event.Place {
	return event.Place{Proto: socket.TCP, Netns: mainNumber, Addr: netip.MustParseAddrPort(address)}
}

func udpPlace(address string) event.Place {
	at := tcpPlace(address)
	at.Proto = socket.UDP
	return at
}

// opens and closes report that a socket of a program began or ceased to listen, some time ago.
func (w *watched) opens(at event.Place, comm string, ago time.Duration) {
	w.kernel.events <- event.Event{Kind: event.Opened, Time: w.now().Sub(w.booted) - ago, Place: at, PID: 77, UID: 1000, Comm: comm}
}

func (w *watched) closes(at event.Place, comm string, ago, lifetime time.Duration) {
	closed := w.now().Sub(w.booted) - ago
	w.kernel.events <- event.Event{Kind: event.Closed, Time: closed, Opened: closed - lifetime, Place: at, PID: 77, UID: 1000, Comm: comm}
}

// counts returns the openings and closings of a protocol.
func counts(s *Snapshot, proto string) [2]uint64 {
	for _, c := range s.Memory.Changes {
		if c.Proto == proto {
			return [2]uint64{c.Opened, c.Closed}
		}
	}
	return [2]uint64{}
}

func TestEventsCountWhatNoLookSees(t *testing.T) {
	w := newWatched(t, "")
	w.Snapshot()
	for range 1000 {
		w.opens(tcpPlace("127.0.0.1:7000"), "brief", time.Second)
		w.closes(tcpPlace("127.0.0.1:7000"), "brief", time.Second, 50*time.Microsecond)
	}
	w.advance(time.Second) // else it is a storm, for which no look waits
	if got := counts(w.Snapshot(), TCP); got != [2]uint64{1000, 1000} {
		t.Errorf("got %v", got)
	}
}

func TestAListenerThatClosesLeavesNothingToTheNextOnes(t *testing.T) {
	w := newWatched(t, "")
	w.Snapshot()
	first, second, third := tcpPlace("127.0.0.1:7001"), tcpPlace("127.0.0.1:7002"), tcpPlace("127.0.0.1:7003")
	w.opens(first, "first", 9*time.Second)
	w.closes(first, "first", 8*time.Second, time.Second)
	w.opens(second, "second", 7*time.Second)
	w.opens(third, "third", 5*time.Second)
	w.closes(second, "second", 4*time.Second, 3*time.Second)
	w.closes(third, "third", 0, 5*time.Second)
	w.Snapshot()
	var closed []string
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.changes {
		if !c.Opened {
			closed = append(closed, fmt.Sprint(c.Addr.Port(), " ", c.Holder.Process, " ", c.Lifetime))
		}
	}
	if diff := cmp.Diff([]string{"7001 first 1s", "7002 second 3s", "7003 third 5s"}, closed); diff != "" {
		t.Errorf("closed (-want +got):\n%s", diff)
	}
}

func TestALookDoesNotCountWhatEventsHaveCounted(t *testing.T) {
	w := newWatched(t, "")
	w.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	w.Snapshot()
	w.opens(tcpPlace("0.0.0.0:80"), "nginx", 0)
	w.source.say(socket.TCP, has(at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)))
	if got := counts(w.Snapshot(), TCP); got != [2]uint64{1, 0} {
		t.Errorf("one opened: %v", got)
	}
	w.closes(tcpPlace("0.0.0.0:80"), "nginx", 0, time.Minute)
	w.opens(tcpPlace("0.0.0.0:80"), "nginx", 0)
	w.source.say(socket.TCP, has(at("0.0.0.0:22", 1), at("0.0.0.0:80", 3)))
	for range goneAfter + 1 {
		w.Snapshot()
	}
	if got := counts(w.Snapshot(), TCP); got != [2]uint64{2, 1} {
		t.Errorf("restarted: %v", got)
	}
	w.closes(tcpPlace("0.0.0.0:22"), "", 0, 0)
	w.source.say(socket.TCP, has(at("0.0.0.0:80", 3)))
	for range goneAfter + 1 {
		w.Snapshot()
	}
	if got := counts(w.Snapshot(), TCP); got != [2]uint64{2, 2} {
		t.Errorf("one that was open before closed: %v", got)
	}
}

func TestAnOldUDPListenerThatRestartsIsCountedOnce(t *testing.T) {
	w := newWatched(t, "")
	w.source.say(socket.UDP, has(at("0.0.0.0:53", 1)))
	w.Snapshot()
	w.opens(udpPlace("0.0.0.0:53"), "dns", 0) // no event says that the old one closed
	w.source.say(socket.UDP, has(at("0.0.0.0:53", 2)))
	if got := counts(w.Snapshot(), UDP); got != [2]uint64{1, 1} {
		t.Errorf("restarted: %v", got)
	}
	w.closes(udpPlace("0.0.0.0:53"), "dns", 0, time.Minute)
	w.source.say(socket.UDP, has())
	for range goneAfter + 1 {
		w.Snapshot()
	}
	if got := counts(w.Snapshot(), UDP); got != [2]uint64{1, 2} {
		t.Errorf("closed: %v", got)
	}
}

func TestAListenerThatEndsDuringALookIsCountedOnce(t *testing.T) {
	for proto, place := range map[socket.Protocol]event.Place{socket.TCP: tcpPlace("0.0.0.0:53"), socket.UDP: udpPlace("0.0.0.0:53")} {
		w := newWatched(t, "")
		w.Snapshot()
		w.opens(place, "dns", 0)
		w.closes(place, "dns", 0, time.Millisecond)
		w.source.say(proto, has(at("0.0.0.0:53", 1))) // it was read before it closed
		w.Snapshot()
		w.kernel.mu.Lock()
		if len(w.kernel.connections) > 0 { // the next one there would count as another socket of this one
			t.Errorf("%v: watched: %v", proto, w.kernel.connections)
		}
		w.kernel.mu.Unlock()
		w.source.say(proto, has())
		for range goneAfter + 1 {
			w.Snapshot()
		}
		if got := counts(w.Snapshot(), proto.String()); got != [2]uint64{1, 1} {
			t.Errorf("%v: got %v", proto, got)
		}
	}
}

func TestAPlaceIsWatchedOnceAndNotAgainAfterItsEnd(t *testing.T) {
	w := newWatched(t, "")
	w.source.say(socket.TCP, has(at("0.0.0.0:80", 1)))
	w.Snapshot()
	if err := w.kernel.Forget(tcpPlace("0.0.0.0:80")); err != nil { // it closed, as the kernel knows; its event was lost
		t.Fatal(err)
	}
	if w.Snapshot(); len(w.kernel.connections) > 0 {
		t.Errorf("watched again: %v", w.kernel.connections)
	}
}

func TestSeveralSocketsOfAListenerOpenItOnce(t *testing.T) {
	w := newWatched(t, "")
	w.Snapshot()
	report := func(kind event.Kind, others bool) {
		w.kernel.events <- event.Event{Kind: kind, Others: others, Place: tcpPlace("0.0.0.0:81"), Comm: "worker"}
	}
	report(event.Opened, false)
	report(event.Opened, true)
	report(event.Closed, true)
	if got := counts(w.Snapshot(), TCP); got != [2]uint64{1, 0} {
		t.Errorf("two opened and one closed: %v", got)
	}
	report(event.Closed, false)
	if got := counts(w.Snapshot(), TCP); got != [2]uint64{1, 1} {
		t.Errorf("all closed: %v", got)
	}
	if len(w.changes) != 2 {
		t.Errorf("changes: %+v", w.changes)
	}
}

func TestABriefListenerIsAViolationThatWas(t *testing.T) {
	w := newWatched(t, `
services:
  - {name: web, port: 80, process: nginx}
forbidden:
  - {port: 23, reason: telnet}
reserved:
  - {team: alpha, ports: 9000-9009}
`)
	w.Snapshot()
	brief := func(address, comm string) {
		w.opens(tcpPlace(address), comm, time.Second)
		w.closes(tcpPlace(address), comm, 800*time.Millisecond, 200*time.Millisecond)
	}
	brief("0.0.0.0:23", "telnetd")
	brief("0.0.0.0:4444", "sh")
	brief("0.0.0.0:4444", "sh")
	brief("0.0.0.0:9001", "ci")
	brief("0.0.0.0:80", "nginx")
	brief("0.0.0.0:80", "imposter")
	s := w.Snapshot()
	want := []ViolationCount{{"bind", 0}, {"forbidden", 1}, {"process", 1}, {"reserved", 1}, {"unregistered", 2}}
	if diff := cmp.Diff(want, s.Memory.Violations); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	if len(w.changes) != 12 {
		t.Fatalf("got %d changes, want 12: %+v", len(w.changes), w.changes)
	}
	first := Change{
		Key:    Key{Proto: TCP, Addr: netip.MustParseAddrPort("0.0.0.0:23"), Scope: ScopeAny, Range: RangePrivileged},
		Opened: true, At: w.now().Add(-time.Second), Exact: true, State: ReasonForbidden,
		Holder: Process{Holder: Holder{Process: "telnetd", UID: 1000}, PID: 77},
	}
	second := first
	second.Opened, second.At, second.Lifetime = false, w.now().Add(-800*time.Millisecond), 200*time.Millisecond
	if diff := cmp.Diff([]Change{first, second}, w.changes[:2], cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestAViolationThatLastsIsCountedOnce(t *testing.T) {
	w := newWatched(t, "services:\n  - {name: web, port: 80}\n")
	w.Snapshot()
	w.opens(tcpPlace("0.0.0.0:4444"), "sh", 0)
	w.source.say(socket.TCP, has(at("0.0.0.0:4444", 1)))
	w.Snapshot()
	s := w.Snapshot()
	for _, v := range s.Memory.Violations {
		if want := map[string]uint64{"unregistered": 1}[v.Reason]; v.Count != want {
			t.Errorf("%s: got %d, want %d", v.Reason, v.Count, want)
		}
	}
}

func TestAProtocolThatIsNotReadHasNoEvents(t *testing.T) {
	w := newWatched(t, "forbidden:\n  - {port: 69, proto: udp, reason: tftp}\n", func(o *Options) { o.UDP = false })
	w.Snapshot()
	w.opens(udpPlace("0.0.0.0:69"), "tftpd", time.Second)
	for _, v := range w.Snapshot().Memory.Violations {
		if v.Count != 0 {
			t.Errorf("%s: %d", v.Reason, v.Count)
		}
	}
	if len(w.changes) > 0 {
		t.Errorf("changes: %+v", w.changes)
	}
}

func TestAQueryOfAResolverIsNoViolationUnlessItStays(t *testing.T) {
	w := newWatched(t, "forbidden:\n  - {port: 11211, proto: udp, reason: memcached}\n")
	w.Snapshot()
	for _, port := range []string{"0.0.0.0:5000", "0.0.0.0:5001", "0.0.0.0:11211"} {
		w.opens(udpPlace(port), "resolver", time.Second)
		w.closes(udpPlace(port), "resolver", time.Second, time.Millisecond)
	}
	w.opens(udpPlace("0.0.0.0:5002"), "server", time.Second)
	w.source.say(socket.UDP, has(at("0.0.0.0:5002", 1)))
	w.Snapshot()
	want := map[string]uint64{"forbidden": 1, "unregistered": 1}
	for _, v := range w.Snapshot().Memory.Violations {
		if v.Count != want[v.Reason] {
			t.Errorf("%s: got %d, want %d", v.Reason, v.Count, want[v.Reason])
		}
	}
}

func TestLooksCountViolationsWithoutEvents(t *testing.T) {
	b, _ := newJudgedBench(t, "services:\n  - {name: web, port: 80}\n")
	b.source.say(socket.TCP, has(at("0.0.0.0:4443", 1))) // before the start
	b.Snapshot()
	b.source.say(socket.TCP, has(at("0.0.0.0:4443", 1), at("0.0.0.0:4444", 2)))
	for _, v := range b.Snapshot().Memory.Violations {
		if want := map[string]uint64{"unregistered": 1}[v.Reason]; v.Count != want {
			t.Errorf("%s: got %d, want %d", v.Reason, v.Count, want)
		}
	}
}

func TestConnectionsAreThoseOfTheListener(t *testing.T) {
	w := newWatched(t, "")
	w.source.say(socket.TCP, has(at("0.0.0.0:80", 1), at("[::]:80", 2)))
	if l := w.Snapshot().Listeners[0]; l.Connections != (Connections{Counts: true}) {
		t.Errorf("at first: %+v", l.Connections)
	}
	w.kernel.mu.Lock()
	w.kernel.connections[tcpPlace("0.0.0.0:80")] = event.Connections{Count: 7, Last: w.now().Add(-time.Minute).Sub(w.booted)}
	w.kernel.connections[tcpPlace("0.0.0.0:9")] = event.Connections{Count: 1}
	w.kernel.mu.Unlock()
	for _, l := range w.Snapshot().Listeners {
		want := Connections{Counts: true}
		if l.Addr.Addr().Is4() {
			want.Count, want.Last = 7, w.now().Add(-time.Minute)
		}
		if !l.Connections.Last.Equal(want.Last) || l.Connections.Count != want.Count || !l.Connections.Counts {
			t.Errorf("%s: got %+v, want %+v", l.Addr, l.Connections, want)
		}
	}
	w.Snapshot()
	w.kernel.mu.Lock()
	defer w.kernel.mu.Unlock()
	if _, has := w.kernel.connections[tcpPlace("0.0.0.0:9")]; has || len(w.kernel.connections) != 2 {
		t.Errorf("a place without a listener is not forgotten: %v", w.kernel.connections)
	}
}

func TestWhereThereIsNoRoomNoConnectionsAreShown(t *testing.T) {
	w := newWatched(t, "")
	w.kernel.full = true
	w.source.say(socket.TCP, has(at("0.0.0.0:80", 1)))
	if s := w.Snapshot(); only(t, s).Connections.Counts || !s.Succeeded(CollectorEvent) {
		t.Errorf("got %+v", s)
	}
}

func TestAfterALossLooksKnowBetter(t *testing.T) {
	w := newWatched(t, "")
	w.Snapshot()
	w.opens(tcpPlace("0.0.0.0:80"), "nginx", time.Hour) // its closing is lost
	w.Snapshot()
	w.kernel.mu.Lock()
	w.kernel.lost = 1
	w.kernel.mu.Unlock()
	w.advance(time.Minute)
	if s := w.Snapshot(); s.EventsLost != 1 {
		t.Errorf("lost: %d", s.EventsLost)
	}
	w.opens(tcpPlace("0.0.0.0:80"), "nginx", 0)
	if got := counts(w.Snapshot(), TCP); got != [2]uint64{2, 0} {
		t.Errorf("got %v", got)
	}
}

func TestUDPClientsAreNoListenersOfEvents(t *testing.T) {
	w := newWatched(t, "services:\n  - {name: vpn, port: 51820, proto: udp}\nforbidden:\n  - {port: 40000, proto: udp, reason: x}\n")
	w.Snapshot()
	for _, address := range []string{"0.0.0.0:45678", "0.0.0.0:51820", "0.0.0.0:53", "0.0.0.0:40000"} {
		w.opens(udpPlace(address), "x", 0)
	}
	w.source.say(socket.UDP, has(at("0.0.0.0:45678", 1), at("0.0.0.0:51820", 2), at("0.0.0.0:53", 3), at("0.0.0.0:40000", 4)))
	if got := counts(w.Snapshot(), UDP); got != [2]uint64{3, 0} {
		t.Errorf("explicit binds: %v", got)
	}
	w.advance(2 * time.Minute)
	if got := counts(w.Snapshot(), UDP); got != [2]uint64{4, 0} {
		t.Errorf("and one that stays, which a look reports: %v", got)
	}
}

func TestOtherNamespacesCountForTheTrailOnly(t *testing.T) {
	for _, netns := range []string{"host", "all"} {
		w := newWatched(t, "", func(o *Options) { o.Netns = netns })
		w.Snapshot()
		other := tcpPlace("0.0.0.0:80")
		other.Netns = otherNumber
		w.opens(other, "x", 0)
		s := w.Snapshot()
		if got := counts(s, TCP); got != [2]uint64{} {
			t.Errorf("%s: got %v", netns, got)
		}
		if want := map[string]int{"host": 0, "all": 1}[netns]; len(w.changes) != want {
			t.Errorf("%s: got %+v", netns, w.changes)
		}
	}
}

func TestAFailureOfEventsIsAFailedRead(t *testing.T) {
	w := newWatched(t, "")
	w.source.say(socket.TCP, has(at("0.0.0.0:80", 1)))
	w.Snapshot()
	w.kernel.mu.Lock()
	w.kernel.err = errors.New("no such map")
	w.kernel.mu.Unlock()
	s := w.Snapshot()
	if s.Succeeded(CollectorEvent) || only(t, s).Connections.Counts {
		t.Errorf("got %+v", s)
	}
}

func TestLooksCountWhenReadingEventsHasFailed(t *testing.T) {
	w := newWatched(t, "")
	w.source.say(socket.TCP, has(at("0.0.0.0:80", 1), at("0.0.0.0:81", 2)))
	w.Snapshot()
	w.kernel.readErr <- errors.New("event record: kind 9 is unknown")
	w.source.say(socket.TCP, has(at("0.0.0.0:81", 2), at("0.0.0.0:82", 3)))
	var s *Snapshot
	for range goneAfter + 2 {
		s = w.Snapshot()
	}
	if got := counts(s, TCP); got != [2]uint64{1, 1} || s.Succeeded(CollectorEvent) {
		t.Errorf("got %v, %+v", got, s.Reads)
	}
	if n := len(w.events.waiting); n > 0 {
		t.Errorf("%d wait for ever", n)
	}
}

func TestAStormOfEventsTakesBoundedMemory(t *testing.T) {
	w := newWatched(t, "")
	for n := range 3 * maxAnnounced / 2 {
		w.opens(tcpPlace(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), byte(n)}), 80).String()), "storm", 0)
	}
	w.Snapshot()
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	if len(w.events.announced) > maxAnnounced {
		t.Errorf("%d are remembered", len(w.events.announced))
	}
}

// A rest that each look begins again would never end.
func TestEventsAreTakenInWhileLooksFollowEachOtherInAStorm(t *testing.T) {
	w := newWatched(t, "")
	rested, looks := 0, 200
	for range looks {
		w.events.mu.Lock()
		w.events.taken += 1000
		w.events.mu.Unlock()
		w.events.beginLook()
		w.advance(time.Millisecond)
		w.events.endLook()
		if w.events.rests() {
			rested++
		}
		w.advance(4 * time.Millisecond)
	}
	if rested == 0 || rested > looks/5 {
		t.Errorf("events rested after %d of %d looks", rested, looks)
	}
}
