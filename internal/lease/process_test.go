//go:build linux

package lease_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/test/host"
)

func TestMain(m *testing.M) {
	host.Main(m, map[string]func() error{managerRole: beManager})
}

// managerRole is that of a process with a manager, which does what its plan says and may be killed.
const managerRole = "manager"

// plan is what such a process is to do.
type plan struct {
	Store storePlan
	Host  string
	Ports ports.Range
	Seed  uint64
	// Clients is how many there are, and Operations how many each of them does. 0 is as many as it can until the input ends.
	Clients, Operations int
	// Step is at which step it kills itself, and Times when it comes to that for which time.
	Step  string
	Times int
	// Kill is how long after its store was open it kills itself, or, if Opening is set, after it began to open it. 0 is never.
	Kill    time.Duration
	Opening bool
	// Leases are more of those that clients know.
	Leases []lease.Lease
	// Listening is a file with the ports that listen.
	Listening string
	// Blind has it never look which ports listen.
	Blind bool
	// Drain has it wait until all leases are over, and then take all ports and end these leases.
	Drain bool
	// Skew is how far its clocks are ahead of those of this machine. What it says has the times of this machine.
	Skew time.Duration
	// Late is for how long something may still be done that was not answered.
	Late time.Duration
	// Network has commands for ip -batch, by which it makes its network.
	Network string
}

// storePlan is where the leases are: in a file, or in an etcd.
type storePlan struct {
	File        string
	URL, Prefix string
}

// said is a line that such a process prints.
type said struct {
	// Number is that of an operation, which has an outcome once it is answered.
	Number    int
	Operation *operation
	// Step is where it kills itself.
	Step string
	View *shown
}

// shown is what a View had.
type shown struct {
	At  time.Duration
	Err string
	// Alive are the IDs of the leases of the host that are alive.
	Alive []string
}

// beManager does what a plan says.
func beManager() error {
	var p plan
	input := json.NewDecoder(os.Stdin)
	if err := input.Decode(&p); err != nil {
		return err
	}
	clock := lease.HostClock()
	boot := clock.Boot
	clock.Boot = func() time.Duration { return boot() + p.Skew }
	clock.Wall = func() time.Time { return time.Now().Add(p.Skew) }
	if err := makeNetwork(p.Network); err != nil {
		return err
	}
	begin := clock.Boot()
	killAfter := func(opening bool) {
		if p.Kill != 0 && p.Opening == opening {
			time.AfterFunc(p.Kill, func() { _ = unix.Kill(os.Getpid(), unix.SIGKILL) })
		}
	}
	killAfter(true)
	store, err := openStore(p.Store, p.Host, clock)
	if err != nil {
		return err
	}
	m, err := lease.NewManager(lease.Options{Store: store, Host: p.Host, MaxTTL: time.Hour, Clock: clock.Boot})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	output := json.NewEncoder(os.Stdout)
	say := func(s said) {
		mu.Lock()
		defer mu.Unlock()
		if o := s.Operation; o != nil {
			o.Call, o.Return, o.Lease.Deadline = o.Call-p.Skew, o.Return-p.Skew, o.Lease.Deadline-p.Skew
		}
		_ = output.Encode(s) // a process whose output is closed is about to be killed
	}
	known := &leases{list: p.Leases}
	killAfter(false)
	if all, err := store.Leases(); err == nil { // otherwise they are not all of those that there are now
		say(said{Operation: &operation{Kind: list, Call: begin, Return: m.Now(), Outcome: done, Leases: all}})
		for _, l := range all {
			if l.Host == p.Host {
				known.add(l)
			}
		}
	}
	times := 0
	step := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		if name != p.Step {
			return
		}
		if times++; times == p.Times {
			_ = output.Encode(said{Step: name})
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	lease.OnStep(m, step)
	m.Use(rulesOf(p.Ports))

	ctx, stop := context.WithCancel(context.Background())
	var running, clients sync.WaitGroup
	running.Go(func() { m.Run(ctx) })
	running.Go(func() {
		if p.Blind {
			return
		}
		look(ctx, m, p.Listening, func(v lease.View) {
			view := &shown{At: v.Time - p.Skew}
			for _, l := range v.Leases {
				if _, alive := v.Of(l.Proto, l.Ports[0]); alive {
					view.Alive = append(view.Alive, l.ID)
				}
			}
			if v.Err != nil {
				view.Err = v.Err.Error()
			}
			if p.Network != "" {
				say(said{View: view})
			}
		})
	})
	failed := make(chan error, p.Clients)
	for number := range p.Clients {
		clients.Go(func() {
			c := client{
				manager: m, number: number, name: fmt.Sprintf("%x-%d", p.Seed, number), known: known, late: p.Late,
				random: rand.New(rand.NewPCG(p.Seed, uint64(number))), answered: func() { step("answered") },
				say: func(number int, o operation) { say(said{Number: number, Operation: &o}) },
			}
			for n := 0; (n < p.Operations || p.Operations == 0) && ctx.Err() == nil; n++ {
				if err := c.step(ctx); err != nil && ctx.Err() == nil {
					failed <- err
					return
				}
			}
		})
	}
	if p.Drain {
		failed = make(chan error, 1)
		failed <- drain(m, len(portsOf(p.Ports)))
	} else if p.Operations == 0 {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}
	clients.Wait()
	stop()
	running.Wait()
	close(failed)
	return <-failed
}

// drain waits until all leases are over, and then takes so many ports and gives them back.
func drain(m *lease.Manager, ports int) error {
	err := host.Await(time.Minute, func() error {
		if list := m.View().Leases; len(list) > 0 {
			return fmt.Errorf("at %v there are still leases: %+v", m.Now(), list)
		}
		return nil
	})
	var given []lease.Lease
	for err == nil && ports > 0 {
		var l lease.Lease
		l, _, err = m.Take(context.Background(), lease.Request{Count: min(ports, lease.MaxCount), TTL: time.Minute})
		given, ports = append(given, l), ports-len(l.Ports)
	}
	for _, l := range given {
		if err == nil {
			_, err = m.End(context.Background(), l.ID, 0)
		}
	}
	return err
}

// openStore opens the store that a plan names.
func openStore(p storePlan, host string, clock lease.Clock) (lease.Store, error) {
	if p.File != "" {
		return lease.OpenFile(p.File, host, clock)
	}
	return lease.OpenEtcd(lease.EtcdOptions{Endpoints: []string{p.URL}, Prefix: p.Prefix, Host: host, Clock: clock})
}

// look looks often which ports listen, as a file says, and shows the views.
func look(ctx context.Context, m *lease.Manager, file string, show func(lease.View)) {
	for ctx.Err() == nil {
		at := m.Now()
		var listening []uint16
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &listening)
		}
		show(m.Looked(at, listening, err == nil || file == ""))
		time.Sleep(20 * time.Millisecond)
	}
}

// makeNetwork makes the network of a process that has a namespace of its own.
func makeNetwork(batch string) error {
	if batch == "" {
		return nil
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch: %w\n%s", err, output)
	}
	return nil
}
