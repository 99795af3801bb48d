//go:build linux

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
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// host is an inventory of all the network namespaces of a scripted host. The main one listens on port 22.
type host struct {
	*bench
	dir string // stands for its procfs

	mu      sync.Mutex // guards what follows, and the pods
	pods    []*pod
	omitted int
	finding time.Duration // how long Find takes
	err     error         // of Find
	panics  bool          // in Find
	serial  uint64
}

var _ namespaceFinder = (*host)(nil)

// withHost runs a test in a bubble of its own time. There a snapshot has always waited for the round that it started, unless a
// pod takes longer than a snapshot waits.
func withHost(t *testing.T, test func(t *testing.T, h *host), edit ...func(*Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, newHost(t, edit...))
		time.Sleep(time.Hour) // until the last round is over
	})
}

func newHost(t *testing.T, edit ...func(*Options)) *host {
	t.Helper()
	h := &host{bench: new(bench), dir: t.TempDir()}
	h.open(t, h, time.Now, append(edit, func(o *Options) { o.Procfs = h.dir }))
	h.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	return h
}

// Find implements namespaceFinder.
func (h *host) Close() {}

func (h *host) Find() (found []socket.Namespace, omitted int, err error) {
	h.mu.Lock()
	finding := h.finding
	h.mu.Unlock()
	time.Sleep(finding)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.panics {
		panic("index out of range")
	}
	for _, p := range h.pods {
		found = append(found, p.found)
	}
	return found, h.omitted, h.err
}

// pod is a scripted network namespace.
type pod struct {
	*scripted // its source
	host      *host
	found     socket.Namespace

	rows   map[socket.Protocol][]socket.Socket
	panics bool          // at the start of a reading
	hold   chan struct{} // if not nil, readings wait until it is closed
	takes  time.Duration // how long a reading takes
	dead   bool
	count  int // readings, of both protocols
	leaves int
}

// add adds a namespace that listens on TCP ports.
func (h *host) add(ports ...int) *pod {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serial++
	p := &pod{scripted: newScripted(), host: h, rows: make(map[socket.Protocol][]socket.Socket)}
	p.detailed, p.onReading = true, p.begin
	p.found = socket.Namespace{
		Serial: h.serial, Inode: 4026532000 + h.serial, Source: p.scripted, Members: func() []int { return []int{int(p.found.Serial)} },
		Lives: func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return !p.dead
		},
		Leave: func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			p.leaves++
		},
	}
	var rows []socket.Socket
	for _, port := range ports {
		rows = append(rows, at(fmt.Sprintf("0.0.0.0:%d", port), 1000*h.serial+uint64(port)))
	}
	p.listen(socket.TCP, rows...)
	p.listen(socket.UDP)
	h.pods = append(h.pods, p)
	return p
}

// set calls change while no read looks at what it changes.
func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// remove ends a namespace.
func (h *host) remove(p *pod) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.dead = true
	h.pods = slices.DeleteFunc(h.pods, func(other *pod) bool { return other == p })
}

// listen makes rows the sockets of a protocol.
func (p *pod) listen(proto socket.Protocol, rows ...socket.Socket) {
	p.rows[proto] = rows
	p.say(proto, has(rows...), unchanged(rows...))
}

// fail makes reads of a protocol fail, or succeed again.
func (p *pod) fail(proto socket.Protocol, err error) {
	if err == nil {
		p.listen(proto, p.rows[proto]...)
		return
	}
	p.say(proto, answer{err: err})
}

// begin is called at the start of each reading.
func (p *pod) begin() {
	p.host.mu.Lock()
	p.count++
	panics, hold, takes := p.panics, p.hold, p.takes
	p.host.mu.Unlock()
	if panics {
		panic("index out of range")
	}
	if hold != nil {
		<-hold
	}
	time.Sleep(takes)
}

// inside puts the process that lives in the namespace into a cgroup.
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

// round takes a snapshot, waits until the round that it started is over, and returns how often each pod was read.
func (h *host) round() (snapshot *Snapshot, reads map[*pod]int) {
	before := make(map[*pod]int)
	for _, p := range h.pods {
		before[p] = p.count
	}
	snapshot = h.Snapshot()
	time.Sleep(time.Hour)
	synctest.Wait() // the race detector does not know what sleeping orders
	reads = make(map[*pod]int)
	for _, p := range h.pods {
		if n := p.count - before[p]; n > 0 {
			reads[p] = n
		}
	}
	return snapshot, reads
}

// called returns the name of a namespace that has none.
func called(p *pod) string { return fmt.Sprintf("unknown-%d", p.found.Inode) }

// unknown returns the listener on a port of a namespace that has no name, as seen gives it.
func unknown(p *pod, port int) string { return fmt.Sprintf("%s %d", called(p), port) }

// seen returns a snapshot's listeners outside the main namespace, each as "name port".
func seen(s *Snapshot) []string {
	texts := []string{}
	for _, l := range s.Listeners {
		if l.Netns != "" {
			texts = append(texts, fmt.Sprintf("%s %d", l.Netns, l.Addr.Port()))
		}
	}
	slices.Sort(texts)
	return texts
}

// wantSeen checks that nothing failed, and what listens outside the main namespace.
func wantSeen(t *testing.T, s *Snapshot, want ...string) {
	t.Helper()
	wantFailure(t, s, nil, want...)
}

// wantFailure checks how reading the namespaces failed, by parts of the error, and what listens there.
func wantFailure(t *testing.T, s *Snapshot, parts []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	got := seen(s)
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("listeners outside the main namespace (-want +got):\n%s", diff)
	}
	if main := len(s.Listeners) - len(got); main != 1 {
		t.Errorf("%d listeners in the main namespace, want 1", main)
	}
	for _, read := range s.Reads {
		text := ""
		if read.Err != nil {
			text = read.Err.Error()
		}
		if read.Collector != CollectorNetns || len(parts) == 0 {
			if text != "" {
				t.Errorf("collector %s: error %s, want none", read.Collector, text)
			}
			continue
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("error %q, want one with %q", text, part)
			}
		}
	}
	if !s.Asked(CollectorNetns) {
		t.Errorf("no collector %s: %v", CollectorNetns, s.Reads)
	}
}
