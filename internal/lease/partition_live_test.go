//go:build linux && etcd

package lease_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

const (
	// partitionAddress is etcd's, which both hosts reach by a link of their own.
	partitionAddress = "10.99.0.1"
	// partitionNotice is how long a store may take to find out that etcd is away, or back.
	partitionNotice = 15 * time.Second
	longestCut      = 20 * time.Second
	// partitionLate is for how long a request may be under way: TCP repeats it at ever longer intervals.
	partitionLate = 2*longestCut + etcdLate
)

// TestAPartitionGivesNoPortTwice has two hosts share a range while their links to etcd are cut and mended at random. The clocks of the
// second are years ahead.
func TestAPartitionGivesNoPortTwice(t *testing.T) {
	t.Parallel()
	netnstest.Run(t, func(t *testing.T) {
		ip(t, "addr add "+partitionAddress+"/32 dev lo")
		etcd := host.StartEtcd(t, partitionAddress)
		r := ports.Range{First: 22400, Last: 22459}
		h := &history{ports: portsOf(r), grace: 2*partitionNotice + longestCut}
		var all []*partitioned
		for i, name := range hosts {
			all = append(all, newPartitioned(t, i, plan{
				Store: storePlan{URL: etcd.URL, Prefix: "/partition/"}, Host: name, Ports: r, Seed: uint64(i), Clients: 4, Late: partitionLate,
				Skew: time.Duration(i) * 3 * 365 * 24 * time.Hour,
			}))
		}
		var links sync.WaitGroup
		for _, p := range all {
			links.Go(func() {
				p.cutAndMend(size(90*time.Second, 30*time.Second))
				p.end()
			})
		}
		links.Wait()
		for _, p := range all {
			h.operations = append(h.operations, p.operations...)
		}
		// The last leases of both hosts end by their time.
		c := newCrashes(t, 0, r, storePlan{URL: etcd.URL, Prefix: "/partition/"}, 0)
		c.drain()
		t.Logf("%d operations: %v", len(h.operations), h.answers())
		if err := h.check(); err != nil {
			t.Error(err)
		}
		for _, p := range all {
			if err := p.check(); err != nil {
				t.Errorf("%s: %v", hosts[p.number], err)
			}
		}
	})
}

// partitioned is a host with a link to etcd.
type partitioned struct {
	*process
	t      *testing.T
	number int
	random *rand.Rand
	ended  chan error
	cuts   []listening // from when until when the link was cut
}

// newPartitioned starts a host.
func newPartitioned(t *testing.T, number int, what plan) *partitioned {
	t.Helper()
	process, err := startProcess(&syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	p := &partitioned{process: process, t: t, number: number, random: rand.New(rand.NewPCG(uint64(number), 0)), ended: make(chan error, 1)}
	ip(t, fmt.Sprintf("link add %s type veth peer name eth0 netns %d", p.link(), process.cmd.Process.Pid))
	ip(t, fmt.Sprintf("addr add 10.99.%d.1/24 dev %s", number+1, p.link()))
	ip(t, "link set up dev "+p.link())
	what.Network = fmt.Sprintf("link set lo up\nlink set eth0 up\naddr add %s/24 dev eth0\nroute add default via 10.99.%d.1\n", p.address(), number+1)
	if err := p.plan(what); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	go func() { p.ended <- p.wait(partitionLate, func() { close(begun) }) }()
	select {
	case <-begun:
	case err := <-p.ended:
		t.Fatal("it ended at once: ", err)
	}
	return p
}

func (p *partitioned) link() string { return fmt.Sprint("host", p.number) }

func (p *partitioned) address() string { return fmt.Sprintf("10.99.%d.2", p.number+1) }

// cutAndMend cuts the link of the host at random for a while: no packet passes, or no answer does, which are two different things for who
// asked. In the end the link is whole.
func (p *partitioned) cutAndMend(length time.Duration) {
	ways := []struct{ cut, mend string }{
		{"link set down dev " + p.link(), "link set up dev " + p.link()},
		{"route add blackhole " + p.address(), "route del blackhole " + p.address()},
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(p.upTo(4 * time.Second))
		way := ways[p.random.IntN(len(ways))]
		ip(p.t, way.cut)
		from := bootTime()
		time.Sleep(p.upTo([]time.Duration{time.Second, longestCut}[p.random.IntN(2)]))
		p.cuts = append(p.cuts, listening{from, bootTime()})
		ip(p.t, way.mend)
	}
}

func (p *partitioned) upTo(most time.Duration) time.Duration {
	return time.Duration(p.random.Int64N(int64(most)))
}

// end ends the process when etcd must be found again.
func (p *partitioned) end() {
	time.Sleep(partitionNotice)
	if err := errors.Join(p.input.Close(), <-p.ended); err != nil {
		p.t.Error(err)
	}
}

// check returns an error if the host gave a lease while its link was cut, if it did not show a lease that was alive, or if it did not show
// that etcd was away, and that it was back.
func (p *partitioned) check() error {
	long := 0
	for _, cut := range p.cuts {
		for _, o := range p.operations {
			if o.Kind != list && o.Outcome == done && o.Kind != again && o.Call > cut.From && o.Return < cut.Until {
				return fmt.Errorf("%s, while the link was cut from %v to %v", o, cut.From, cut.Until)
			}
		}
		if cut.Until-cut.From > partitionNotice {
			long++
			if !slices.ContainsFunc(p.views, func(v shown) bool { return v.At > cut.From && v.At < cut.Until && v.Err != "" }) {
				return fmt.Errorf("no view shows that the link was cut from %v to %v", cut.From, cut.Until)
			}
		}
	}
	last := p.views[len(p.views)-1]
	if last.Err != "" {
		return fmt.Errorf("the last view has the error %s", last.Err)
	}
	p.t.Logf("%s: %d cuts, %d of them long; %d views", hosts[p.number], len(p.cuts), long, len(p.views))
	for _, v := range p.views {
		for id, until := range p.aliveAt(v.At) {
			if !slices.Contains(v.Alive, id) {
				return fmt.Errorf("the view at %v (%s) does not show the lease %s, which is alive until %v", v.At, v.Err, id, until)
			}
		}
	}
	return nil
}

// aliveAt returns the leases of the host that nobody had asked to end, and that had been given or renewed for longer.
func (p *partitioned) aliveAt(at time.Duration) map[string]time.Duration {
	alive := make(map[string]time.Duration)
	for _, o := range p.operations {
		if o.Outcome == done && (o.Kind == take || o.Kind == renew) && o.Return < at && o.Lease.Deadline > at {
			alive[o.Lease.ID] = o.Lease.Deadline
		}
	}
	for _, o := range p.operations {
		if o.Kind == end && o.Outcome != refused && o.Call < at {
			delete(alive, o.Lease.ID)
		}
	}
	return alive
}

// ip runs a command of iproute2 in the namespace of etcd.
func ip(t *testing.T, command string) {
	t.Helper()
	if err := makeNetwork(command + "\n"); err != nil {
		t.Error(err)
	}
}
