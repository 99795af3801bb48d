//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// scriptedLeases are the leases that a test says.
type scriptedLeases struct {
	mu       sync.Mutex
	view     lease.View
	looks    []string
	onLooked func()
}

func (s *scriptedLeases) View() lease.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *scriptedLeases) Looked(at time.Duration, listening []uint16, whole bool) lease.View {
	if s.onLooked != nil {
		s.onLooked()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(listening)
	s.looks = append(s.looks, fmt.Sprintf("%s %v %t", at, listening, whole))
	return s.view
}

// are sets the leases, and those that have just ended, at a time since boot.
func (s *scriptedLeases) are(now time.Duration, leases, ended []lease.Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = lease.View{Version: s.view.Version + 1, Time: now, Leases: leases, Ended: ended}
}

// leased is a bench whose ports are leased.
type leased struct {
	*bench
	leases *scriptedLeases
}

func newLeased(t *testing.T, content string, edit ...func(*Options)) leased {
	t.Helper()
	l := leased{leases: new(scriptedLeases)}
	l.bench, _ = newJudgedBench(t, content, append(edit, func(o *Options) { o.Leases = l.leases })...)
	return l
}

// boot returns the time since boot.
func (b *bench) boot() time.Duration { return b.now().Sub(b.booted) }

// lent returns a lease of the user 1000 until a time since boot.
func lent(name string, until time.Duration, ports ...uint16) lease.Lease {
	return lease.Lease{ID: "id of " + name, Team: "ci", Name: name, Proto: TCP, Ports: ports, UID: 1000, User: "alice", Deadline: until}
}

// of makes a socket a user's.
func of(uid uint32, s socket.Socket) socket.Socket {
	s.UID = uid
	return s
}

const leasableRegistry = `
services:
  - {name: web, port: 9001}
reserved:
  - {team: ci, ports: [9000-9009, 40000-40009], users: [gitlab-runner], any_user: true}
  - {team: alpha, ports: 9010-9019}
`

func TestRulesOfLeasesAreThoseOfTheRegistryAndTheKernelNow(t *testing.T) {
	b, file := newJudgedBench(t, leasableRegistry, func(o *Options) { o.OwnPorts = []uint16{9002} })
	b.source.ranges.Reserved = ports.Set{{First: 40001, Last: 40001}}
	rules, err := b.LeaseRules()
	if err != nil {
		t.Fatal(err)
	}
	users := []string{"gitlab-runner"}
	want := []lease.Range{
		{Range: ports.Range{First: 9000, Last: 9009}, Team: "ci", Users: users, AnyUser: true},
		{Range: ports.Range{First: 40000, Last: 40009}, Team: "ci", Users: users, AnyUser: true},
	}
	if diff := cmp.Diff(want, rules.Ranges); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	for port, want := range map[uint16]string{
		9000: "", 9001: `service "web" declares it`, 9002: "listen_exporter serves on it", 40001: "",
		40000: "the kernel gives it to clients: want it in the sysctl net.ipv4.ip_local_reserved_ports",
	} {
		if got := rules.Refuse(port); got != want {
			t.Errorf("%d: %q, want %q", port, got, want)
		}
	}
	if rules.Claim(9001) != rules.Refuse(9001) || rules.Claim(9002)+rules.Claim(40000) != "" { // which is not the registry's
		t.Errorf("claims %q, %q and %q", rules.Claim(9001), rules.Claim(9002), rules.Claim(40000))
	}
	if !rules.Service("web") || rules.Service("ci") {
		t.Error("web is no service, or ci is one")
	}
	if again, err := b.LeaseRules(); err != nil || again.Version != rules.Version {
		t.Errorf("%v: the same rules have another version", err)
	}
	b.source.ranges.Reserved[0].Last++
	if other, err := b.LeaseRules(); err != nil || other.Version == rules.Version {
		t.Errorf("%v: rules with other port ranges have the same version", err)
	}
	before := rules.Version
	if err := os.WriteFile(file, []byte("reserved: [{team: ci, ports: 9000, users: ['*']}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.ReloadRegistry(); err != nil {
		t.Fatal(err)
	}
	if rules, err := b.LeaseRules(); err != nil || len(rules.Ranges) != 1 || rules.Refuse(9001) != "" || rules.Version == before {
		t.Errorf("after a reload: %v, %+v", err, rules)
	}
}

func TestThereAreNoRulesOfLeasesWhereTheyCannotBeKnown(t *testing.T) {
	b, _ := newJudgedBench(t, leasableRegistry)
	b.source.rangesErr = errors.New("permission denied")
	if _, err := b.LeaseRules(); !errors.Is(err, b.source.rangesErr) {
		t.Errorf("without the kernel's port ranges: %v", err)
	}
	if _, err := newBench(t).LeaseRules(); err == nil {
		t.Error("rules without a registry")
	}
}

func TestALeasedPortIsAsDeclaredForItsUsersSockets(t *testing.T) {
	b := newLeased(t, leasableRegistry+"forbidden: [{port: 9007, reason: nobody needs it}]\n")
	later := b.boot() + time.Minute
	anybodys := lent("proxied", later, 9002)
	anybodys.AnyUser = true
	over := lent("over", b.boot()-time.Minute, 9003)
	over.Overstayed = b.boot() - time.Second
	byUDP := lent("dns", later, 9005)
	byUDP.Proto = UDP
	b.leases.are(b.boot(), []lease.Lease{
		lent("preview", later, 9000, 9009), anybodys, over, lent("elsewhere", 0, 9004), byUDP, lent("gone", b.boot()-time.Second, 9006), lent("banned", later, 9007), lent("outside", later, 8000),
	}, nil)
	b.source.say(socket.TCP, has(
		of(1000, at("0.0.0.0:9000", 1)), of(1000, at("0.0.0.0:9000", 2)), of(1000, at("[::1]:9009", 3)), of(1001, at("127.0.0.1:9009", 4)),
		of(1000, at("10.0.0.1:9009", 5)), of(0, at("10.0.0.1:9009", 6)), of(0, at("0.0.0.0:9002", 7)), of(1000, at("0.0.0.0:9003", 8)),
		of(1000, at("0.0.0.0:9004", 9)), of(1000, at("0.0.0.0:9005", 10)), of(1000, at("0.0.0.0:9006", 11)), of(1000, at("0.0.0.0:9007", 12)),
		of(1000, at("0.0.0.0:8000", 13)), of(1000, at("0.0.0.0:9001", 14)),
	))
	b.source.say(socket.UDP, has(of(1000, at("0.0.0.0:9005", 15)), of(1000, at("0.0.0.0:9000", 16))))
	s := b.Snapshot()
	got := make(map[string]string)
	for _, l := range s.Listeners {
		name := ""
		if l.Lease != nil {
			name = " lease " + l.Lease.Name
		}
		got[l.Proto+" "+l.Addr.String()] = strings.TrimSpace(fmt.Sprintf("%s %s%s", l.Verdict.Reason, l.Verdict.Service, name))
		if l.Verdict.Declared != "" {
			got[l.Proto+" "+l.Addr.String()] += ": " + l.Verdict.Declared
		}
	}
	const others = ": leased as preview by alice, whose socket it is not"
	want := map[string]string{
		"tcp 0.0.0.0:9000":   "preview lease preview",
		"tcp [::1]:9009":     "preview lease preview",
		"tcp 127.0.0.1:9009": "reserved ci lease preview" + others,
		"tcp 10.0.0.1:9009":  "reserved ci lease preview" + others, // of one of the sockets
		"tcp 0.0.0.0:9002":   "proxied lease proxied",
		"tcp 0.0.0.0:9003":   "reserved ci lease over: leased as over by alice, whose lease has expired",
		"tcp 0.0.0.0:9004":   "reserved ci", // leased on another host
		"tcp 0.0.0.0:9005":   "reserved ci", // leased for UDP
		"udp 0.0.0.0:9005":   "dns lease dns",
		"udp 0.0.0.0:9000":   "reserved ci",
		"tcp 0.0.0.0:9006":   "reserved ci lease gone: leased as gone by alice, whose lease has expired",
		"tcp 0.0.0.0:9007":   "forbidden: nobody needs it",
		"tcp 0.0.0.0:8000":   "outside lease outside", // which has been reserved when it was leased
		"tcp 0.0.0.0:9001":   "web",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	if s.Leases == nil || len(s.Leases.Leases) != 8 || !s.Leases.Booted.Equal(b.booted) {
		t.Errorf("leases: %+v", s.Leases)
	}
}

func TestEachLookHandsOnAllThatListens(t *testing.T) {
	b := newLeased(t, leasableRegistry, func(o *Options) { _, o.MaxPorts = o.PortExclude.Set("9000"), 1 })
	b.source.say(socket.TCP, has(at("0.0.0.0:9000", 1), at("127.0.0.1:22", 2), at("0.0.0.0:22", 3)))
	b.source.say(socket.UDP, has(at("0.0.0.0:40000", 4)), has(at("0.0.0.0:40000", 4)), answer{err: errors.New("refused")}) // perhaps a client
	began := b.boot()
	b.source.onRead = func() { b.advance(time.Second) } // a look takes time
	b.Snapshot()
	began2 := b.boot()
	b.Snapshot()
	want := []string{fmt.Sprintf("%s [22 22 9000 40000] true", began), fmt.Sprintf("%s [22 22 9000] false", began2)}
	if diff := cmp.Diff(want, b.leases.looks); diff != "" {
		t.Errorf("looks (-want +got):\n%s", diff)
	}
}

func TestVerdictsFollowTheLeasesWhereNoListenerChanges(t *testing.T) {
	b := newLeased(t, leasableRegistry)
	b.source.say(socket.TCP, unchanged(of(1000, at("0.0.0.0:9000", 1))))
	b.source.say(socket.UDP, unchanged())
	verdict := func(want string) *Snapshot {
		t.Helper()
		s := b.Snapshot()
		if got := verdicts(s)["tcp 0.0.0.0:9000"]; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		b.advance(5 * time.Second)
		return s
	}
	verdict("true reserved ci")
	b.leases.are(b.boot(), []lease.Lease{lent("preview", b.boot()+time.Minute, 9000)}, nil)
	first := verdict("true  preview")
	if again := verdict("true  preview"); &again.Listeners[0] != &first.Listeners[0] {
		t.Error("judged again though no lease changed")
	}
	b.leases.are(b.boot(), nil, nil)
	verdict("true reserved ci")
	b.leases.are(b.boot(), []lease.Lease{lent("preview", b.boot()-time.Second, 9000)}, nil)
	expired := verdict("true reserved ci")
	if again := verdict("true reserved ci"); &again.Listeners[0] != &expired.Listeners[0] {
		t.Error("judged again though a lease had expired before")
	}
	b.leases.mu.Lock()
	b.leases.view.Err = lease.ErrAway // and nobody could renew it
	b.leases.mu.Unlock()
	verdict("true  preview")
	b.leases.onLooked = func() { panic("index out of range") }
	if s := verdict("false  "); s.Succeeded(CollectorRegistry) || s.Leases != nil {
		t.Errorf("leases that cannot be asked for: %+v", s.Reads)
	}
	b.leases.onLooked = nil
	if s := verdict("true  preview"); !s.Succeeded(CollectorRegistry) || s.Leases == nil {
		t.Errorf("leases that can be asked for again: %+v", s.Reads)
	}
}

func TestAListenerThatClosedBeforeItsLeaseEndedIsNoViolation(t *testing.T) {
	b := newLeased(t, leasableRegistry)
	listening := of(1000, at("0.0.0.0:9000", 1))
	b.source.say(socket.TCP, unchanged(listening))
	b.source.say(socket.UDP, unchanged())
	b.leases.are(b.boot(), []lease.Lease{lent("preview", b.boot()+time.Hour, 9000)}, nil)
	b.Snapshot()
	// It ends while a look reads the sockets.
	b.leases.onLooked = func() {
		b.advance(time.Millisecond)
		b.leases.are(b.boot(), nil, []lease.Lease{lent("preview", b.boot(), 9000)})
		b.leases.onLooked = nil
	}
	if got := verdicts(b.Snapshot())["tcp 0.0.0.0:9000"]; got != "true  preview" {
		t.Errorf("at the look: %q", got)
	}
	// A look that takes long is not sure that it is gone.
	b.source.say(socket.TCP, has())
	b.source.onRead = func() { b.advance(confirmTime) }
	if got := verdicts(b.Snapshot())["tcp 0.0.0.0:9000"]; got != "true  preview" {
		t.Errorf("while it may be gone: %q", got)
	}
	b.source.say(socket.TCP, has(listening))
	if got := verdicts(b.Snapshot())["tcp 0.0.0.0:9000"]; got != "true reserved ci" {
		t.Errorf("where it goes on: %q", got)
	}
	for _, v := range b.Snapshot().Memory.Violations {
		if v.Count != 0 && v.Reason != ReasonReserved || v.Count > 1 {
			t.Errorf("%+v", v)
		}
	}
}

func TestAUDPSocketOnALeasedPortIsReportedAtOnce(t *testing.T) {
	b := newLeased(t, leasableRegistry)
	byUDP := lent("dns", b.boot()+time.Hour, 40001)
	byUDP.Proto = UDP
	b.leases.are(b.boot(), []lease.Lease{byUDP}, nil)
	b.source.say(socket.UDP, has(of(1000, at("0.0.0.0:40001", 1)), of(1000, at("0.0.0.0:40002", 2))))
	if diff := cmp.Diff(map[string]string{"udp 0.0.0.0:40001": "true  dns"}, verdicts(b.Snapshot())); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

func TestASocketThatProvesThatAPortIsFreeIsNoListener(t *testing.T) {
	own := uint32(os.Geteuid())
	b := newLeased(t, leasableRegistry)
	b.source.say(socket.UDP, has(of(own, at("0.0.0.0:9000", 1))))
	wantPorts(t, b.Snapshot(), "udp 0.0.0.0:9000") // before any lease could be given
	b.source.say(socket.UDP, has(of(own, at("0.0.0.0:9000", 1)), of(own, at("0.0.0.0:9005", 2)), of(own, at("0.0.0.0:9015", 3))))
	b.source.say(socket.TCP, has(of(own, at("0.0.0.0:9006", 4))))
	b.advance(5 * time.Second)
	wantPorts(t, b.Snapshot(), "udp 0.0.0.0:9000", "tcp 0.0.0.0:9006", "udp 0.0.0.0:9015")
	b.advance(5 * time.Second)
	wantPorts(t, b.Snapshot(), "udp 0.0.0.0:9000", "udp 0.0.0.0:9005", "tcp 0.0.0.0:9006", "udp 0.0.0.0:9015") // it stays
}

// Whoever opens another socket before each look would never be seen.
func TestASocketOfAnotherUserProvesNothing(t *testing.T) {
	own := uint32(os.Geteuid())
	b := newLeased(t, leasableRegistry)
	b.Snapshot()
	for id := range uint64(3) {
		b.advance(5 * time.Second)
		b.source.say(socket.UDP, has(of(own+1, at("0.0.0.0:9005", 10+id)), of(own, at("0.0.0.0:9006", 20+id)), of(own+1, at("0.0.0.0:9006", 30+id))))
		wantPorts(t, b.Snapshot(), "udp 0.0.0.0:9005", "udp 0.0.0.0:9006 x2")
	}
}

func TestAPortThatIsLeasedAgainAndAgainDoesNotFlap(t *testing.T) {
	b := newLeased(t, leasableRegistry)
	b.Snapshot()
	open := func(name string) *Snapshot {
		b.leases.are(b.boot(), []lease.Lease{lent(name, b.boot()+time.Hour, 9000)}, nil)
		b.source.say(socket.TCP, has(of(1000, at("0.0.0.0:9000", uint64(b.boot())))))
		s := b.Snapshot()
		b.source.say(socket.TCP, has())
		b.advance(time.Minute)
		b.Snapshot()
		return s
	}
	for n := range 6 {
		if s := open(fmt.Sprint("job-", n)); len(s.Memory.Flapping) > 0 {
			t.Fatalf("after %d jobs: %+v", n, s.Memory.Flapping)
		}
	}
	for range 4 {
		b.Snapshot()
	}
	flaps := false
	for range 4 {
		flaps = len(open("crashing").Memory.Flapping) > 0
	}
	if !flaps {
		t.Error("a program that crashes again and again under one lease does not flap")
	}
}

func TestEventsAreJudgedByTheLeasesOfTheirTime(t *testing.T) {
	leases := new(scriptedLeases)
	w := newWatched(t, leasableRegistry, func(o *Options) { o.Leases = leases })
	w.Snapshot()
	now := w.boot()
	others := lent("theirs", now+time.Hour, 9003)
	others.UID = 1001
	leases.are(now, []lease.Lease{lent("preview", now+time.Hour, 9000), others}, []lease.Lease{lent("brief", now-time.Millisecond, 9002), lent("before", now-time.Second, 9004)})
	for _, place := range []string{"0.0.0.0:9000", "0.0.0.0:9002", "0.0.0.0:9003", "0.0.0.0:9004"} {
		w.opens(tcpPlace(place), "job", 3*time.Millisecond)
		w.closes(tcpPlace(place), "job", 2*time.Millisecond, time.Millisecond)
	}
	w.opens(udpPlace("0.0.0.0:9005"), "job", 3*time.Millisecond)
	w.kernel.events <- event.Event{Kind: event.Opened, Time: now, Place: udpPlace("0.0.0.0:9006"), PID: ownProcess} // to prove that it is free
	w.kernel.events <- event.Event{Kind: event.Closed, Time: now, Opened: now, Place: udpPlace("0.0.0.0:9006"), PID: ownProcess}
	s := w.Snapshot()
	got := make(map[string]string)
	w.mu.Lock()
	for _, c := range w.changes {
		got[c.Proto+" "+c.Addr.String()] = c.State + " " + c.Service
	}
	w.mu.Unlock()
	want := map[string]string{
		"tcp 0.0.0.0:9000": "leased preview", "tcp 0.0.0.0:9002": "leased brief", "tcp 0.0.0.0:9003": "reserved ci", "tcp 0.0.0.0:9004": "reserved ci",
		"udp 0.0.0.0:9005": "reserved ci",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	for _, v := range s.Memory.Violations {
		if want := map[string]uint64{ReasonReserved: 2}[v.Reason]; v.Count != want {
			t.Errorf("%d violations for %s, want %d", v.Count, v.Reason, want)
		}
	}
}

// inUserNamespace says that a process is in a user namespace that has root only.
const inUserNamespace = "LISTEN_EXPORTER_INVENTORYTEST_USERNS"

// A user namespace reports everybody whom it does not have as nobody.
func TestWhoIsNotKnownOwnsNoLease(t *testing.T) {
	const nobody = 65534
	if os.Getenv(inUserNamespace) != "" {
		b := newLeased(t, leasableRegistry)
		ofNobody := lent("preview", b.boot()+time.Hour, 9000)
		ofNobody.UID = nobody
		b.leases.are(b.boot(), []lease.Lease{ofNobody}, nil)
		b.source.say(socket.TCP, has(of(nobody, at("0.0.0.0:9000", 1))))
		if got := verdicts(b.Snapshot())["tcp 0.0.0.0:9000"]; got != "true reserved ci" {
			t.Errorf("%q", got)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestWhoIsNotKnownOwnsNoLease$")
	cmd.Env = append(os.Environ(), inUserNamespace+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}}
	var refused *os.PathError
	output, err := cmd.CombinedOutput()
	switch {
	case errors.As(err, &refused):
		t.Skipf("no user namespaces: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, output)
	}
}
