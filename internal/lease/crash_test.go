//go:build linux

package lease_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// steps are where a process may be killed: each step of a manager, and after the answer to a client.
var steps = []string{"chosen", "reclaimed", "renewing", "ending", "overstaying", "removing", "reclaiming", "answered"}

// allOperations is how many there are in the long form of the tests.
const allOperations = 10_000

// crashes are what is done to a store while its process is killed again and again.
type crashes struct {
	t      *testing.T
	random *rand.Rand
	plan   plan
	history
	// listeners are those of ports that listen, and until when.
	listeners map[uint16]listener
	killed    map[string]int // at which step
	// trouble is called while each process runs, and returns when a next one may.
	trouble func()
}

type listener struct {
	net.Listener
	from, until time.Duration
}

// newCrashes returns crashes of a store, in which something may still be done so long after it was not answered.
func newCrashes(t *testing.T, seed uint64, r ports.Range, store storePlan, late time.Duration) *crashes {
	return &crashes{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), killed: make(map[string]int), listeners: make(map[uint16]listener),
		history: history{ports: portsOf(r), listening: make(map[uint16][]listening), grace: 5 * time.Second},
		plan:    plan{Store: store, Host: "here", Ports: r, Clients: 2, Late: late, Listening: filepath.Join(t.TempDir(), "listening")},
	}
}

// run runs processes one after the other, until so many operations have begun.
func (c *crashes) run(operations int) {
	waits := 30 // a quick machine gives leases back before they expire
	for n := 0; len(c.operations) < operations; n++ {
		c.listen(c.random.IntN(2))
		p := c.plan
		p.Seed, p.Operations = c.random.Uint64(), 1+c.random.IntN(8)
		p.Leases = c.recent()
		switch p.Times = 1 + c.random.IntN(3); n % 3 {
		case 0: // at any moment
			p.Opening = c.random.IntN(2) == 0
			p.Kill = time.Duration(1+c.random.IntN(20_000)) * time.Microsecond
			p.Operations *= 10
		case 1:
			p.Step = steps[c.random.IntN(len(steps))]
		case 2:
			p.Step = slices.MinFunc(steps, func(a, b string) int { return cmp.Compare(c.killed[a], c.killed[b]) })
			if expires := slices.Contains([]string{"overstaying", "removing", "reclaiming"}, p.Step); expires && c.killed[p.Step] < 3 && waits > 0 {
				waits--
				p.Times = 1
				time.Sleep(longestTTL)
			}
		}
		p.Blind = p.Step == "reclaiming" // otherwise what has expired is removed before its ports are needed
		c.process(p)
	}
	if operations < allOperations {
		return // too few to come to each step
	}
	for _, step := range steps {
		if c.killed[step] == 0 {
			c.t.Errorf("no process was killed at the step %q", step)
		}
	}
}

// end waits until all leases are over, and checks what has happened until then.
func (c *crashes) end() {
	c.t.Helper()
	for port, l := range c.listeners {
		l.until = 0
		c.listeners[port] = l
	}
	c.listen(0)
	c.drain()
	c.t.Logf("%d operations: %v; processes killed: %v", len(c.operations), c.answers(), c.killed)
	if err := c.check(); err != nil {
		c.t.Error(err)
	}
}

// drain checks that all ports are free again once the time of all leases is over.
func (c *crashes) drain() {
	c.t.Helper()
	p := c.plan
	p.Clients, p.Drain, p.Listening = 0, true, ""
	c.process(p)
}

// process runs a process and notes what it says.
func (c *crashes) process(what plan) {
	c.t.Helper()
	p, err := startProcess(nil)
	if err == nil {
		err = p.plan(what)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var over sync.WaitGroup
	if c.trouble != nil {
		over.Go(c.trouble)
		defer over.Wait()
	}
	err = p.wait(what.Late, func() {})
	if err != nil {
		c.t.Fatal(err)
	}
	c.operations = append(c.operations, p.operations...)
	if p.killedAt != "" {
		c.killed[p.killedAt]++
	}
}

// recent returns some of the last leases that were given.
func (c *crashes) recent() (list []lease.Lease) {
	for _, o := range slices.Backward(c.operations) {
		if o.Kind == take && o.Outcome == done {
			list = append(list, o.Lease)
		}
		if len(list) == 10 {
			break
		}
	}
	return list
}

// listen closes listeners whose time is over, and opens some on leased ports, which may go on when the lease is over.
func (c *crashes) listen(more int) {
	c.t.Helper()
	now := bootTime()
	over := maps.Clone(c.listeners)
	maps.DeleteFunc(over, func(_ uint16, l listener) bool { return l.until > now })
	maps.DeleteFunc(c.listeners, func(_ uint16, l listener) bool { return l.until <= now })
	var from uint16
	if list := c.recent(); len(list) > 0 && more > 0 {
		from = list[c.random.IntN(len(list))].Ports[0]
		if l, err := net.Listen("tcp", fmt.Sprintf(":%d", from)); err == nil {
			c.listeners[from] = listener{Listener: l, until: now + time.Duration(c.random.IntN(4000))*time.Millisecond}
		}
	}
	text, err := json.Marshal(slices.Sorted(maps.Keys(c.listeners)))
	if err == nil {
		err = os.WriteFile(c.plan.Listening+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(c.plan.Listening+".new", c.plan.Listening)
	}
	for port, l := range over {
		c.listening[port] = append(c.listening[port], listening{l.from, now})
		err = errors.Join(err, l.Close())
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if l, is := c.listeners[from]; is && l.from == 0 {
		l.from = bootTime()
		c.listeners[from] = l
	}
}

func TestNoCrashGivesAPortTwiceOrLosesALease(t *testing.T) {
	t.Parallel()
	netnstest.Run(t, func(t *testing.T) { // in which nobody else opens ports
		c := newCrashes(t, 1, ports.Range{First: 21000, Last: 21032}, storePlan{File: filepath.Join(t.TempDir(), "leases.db")}, 2*time.Second)
		c.run(size(allOperations, 300))
		c.end()
	})
}
