package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// host is an inventory of all the network namespaces of a scripted host, at a time of the test's own.
type host struct {
	*bench
	dir string // that stands for its procfs

	mu      sync.Mutex
	time    time.Time // beside the main namespace
	pods    []*pod
	omitted int
	finding time.Duration // how long that takes
	err     error         // of finding them
	panics  bool          // while finding them
	serial  uint64
}

var _ finder = (*host)(nil)

func newHost(t *testing.T, edit ...func(*Options)) *host {
	t.Helper()
	h := &host{bench: newBench(edit...), dir: t.TempDir()}
	h.time = h.clock
	o := *h.main.options
	o.Procfs = h.dir
	h.rounds = newRounds(h, &o, h.now)
	h.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	return h
}

func (h *host) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.time
}

func (h *host) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.time = h.time.Add(d)
}

// Find implements finder.
func (h *host) Find() (found []socket.Namespace, omitted int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.time = h.time.Add(h.finding)
	if h.panics {
		panic("index out of range")
	}
	for _, p := range h.pods {
		found = append(found, p.found)
	}
	return found, h.omitted, h.err
}

// pod is a scripted network namespace. It is also its source.
type pod struct {
	host  *host
	found socket.Namespace

	mu     sync.Mutex
	rows   map[socket.Protocol][]socket.Socket
	said   map[socket.Protocol]bool
	errs   map[socket.Protocol]error
	panics string        // the method that does
	hold   chan struct{} // if not nil, readings wait until it is closed
	takes  time.Duration // a reading
	dead   bool
	reads  int // readings, of both protocols
	tables int // reads of one protocol
	leaves int
}

// add adds a namespace that listens on TCP ports.
func (h *host) add(ports ...int) *pod {
	h.mu.Lock()
	h.serial++
	serial := h.serial
	h.mu.Unlock()
	p := &pod{host: h, errs: make(map[socket.Protocol]error)}
	p.found = socket.Namespace{
		Serial: serial, Inode: 4026532000 + serial, Source: p,
		Lives: func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return !p.dead
		},
		Leave: func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.leaves++
		},
		Members: func() []int { return []int{int(serial)} },
	}
	rows := make([]socket.Socket, 0, len(ports))
	for _, port := range ports {
		rows = append(rows, at(fmt.Sprintf("0.0.0.0:%d", port), 1000*serial+uint64(port)))
	}
	p.listen(socket.TCP, rows...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods = append(h.pods, p)
	return p
}

// remove ends a namespace.
func (h *host) remove(p *pod) {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods = slices.DeleteFunc(h.pods, func(other *pod) bool { return other == p })
}

// listen makes rows the sockets of a protocol.
func (p *pod) listen(proto socket.Protocol, rows ...socket.Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows == nil {
		p.rows = make(map[socket.Protocol][]socket.Socket)
	}
	p.rows[proto] = rows
	p.said = make(map[socket.Protocol]bool)
}

// inside makes the process that lives in the namespace one of a cgroup.
func (p *pod) inside(t *testing.T, cgroup string) {
	t.Helper()
	dir := filepath.Join(p.host.dir, strconv.FormatUint(p.found.Serial, 10))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::"+cgroup+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *pod) fail(proto socket.Protocol, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs[proto] = err
}

func (p *pod) Name() string   { return "scripted" }
func (p *pod) Detailed() bool { return true }

// PortRanges is asked for once a reading.
func (p *pod) PortRanges() (socket.PortRanges, error) {
	p.mu.Lock()
	hold, takes := p.hold, p.takes
	p.reads++
	panics := p.panics == "PortRanges"
	p.mu.Unlock()
	if panics {
		panic("index out of range")
	}
	if hold != nil {
		<-hold
	}
	p.host.pass(takes)
	return socket.PortRanges{UnprivilegedStart: 1024, EphemeralFirst: 32768, EphemeralLast: 60999}, nil
}

func (p *pod) Confirm(proto socket.Protocol, _ []socket.Socket) ([]socket.Socket, error) {
	sockets, _, err := p.Read(proto)
	return sockets, err
}

func (p *pod) Read(proto socket.Protocol) (sockets []socket.Socket, same bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tables++
	if p.panics == "Read" {
		panic("index out of range")
	}
	if err := p.errs[proto]; err != nil {
		return nil, false, err
	}
	same = p.said[proto]
	p.said[proto] = true
	return slices.Clone(p.rows[proto]), same, nil
}

// counts returns how often the namespace was read and left.
func (p *pod) counts() (reads, leaves int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads, p.leaves
}

// round does a whole round, however long it takes.
func (h *host) round() {
	h.rounds.mu.Lock()
	round := make(chan struct{})
	h.rounds.end = round
	h.rounds.mu.Unlock()
	h.rounds.round(round)
}

// scrape returns a snapshot that has waited for a round to end. On a busy machine that may take some.
func (h *host) scrape() *Snapshot {
	for {
		snapshot := h.Snapshot()
		h.rounds.mu.Lock()
		ended := h.rounds.end == nil && h.rounds.result == h.others
		h.rounds.mu.Unlock()
		if ended {
			return snapshot
		}
	}
}

// seen returns a snapshot's listeners beside the main namespace, as "name port".
func seen(s *Snapshot) []string {
	texts := []string{}
	for _, l := range s.Listeners {
		if l.Netns != "" {
			texts = append(texts, fmt.Sprintf("%s %d", l.Netns, l.Addr.Port()))
		}
	}
	return texts
}

func wantSeen(t *testing.T, s *Snapshot, want ...string) {
	t.Helper()
	slices.Sort(want)
	got := seen(s)
	slices.Sort(got)
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("listeners beside the main namespace (-want +got):\n%s", diff)
	}
	if main := len(s.Listeners) - len(got); main != 1 {
		t.Errorf("%d listeners in the main namespace, want 1", main)
	}
}

// netnsRead returns how reading the namespaces went.
func netnsRead(t *testing.T, s *Snapshot) Read {
	t.Helper()
	for _, read := range s.Reads {
		if read.Collector == CollectorNetns {
			return read
		}
	}
	t.Fatalf("the collector %s is not there: %v", CollectorNetns, s.Reads)
	return Read{}
}

// wantError checks the error of reading the namespaces. No parts mean no error.
func wantError(t *testing.T, s *Snapshot, parts ...string) {
	t.Helper()
	err := netnsRead(t, s).Err
	if err == nil && len(parts) == 0 {
		return
	}
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want one with %q", err, part)
		}
	}
	if len(parts) == 0 {
		t.Errorf("error %v, want none", err)
	}
	if !s.Succeeded(TCP) || !s.Succeeded(UDP) {
		t.Errorf("the main namespace failed: %v", s.Reads)
	}
}

// unknown is the name of a namespace of which nothing else is known.
func unknown(p *pod) string { return fmt.Sprintf("unknown-%d", p.found.Inode) }
