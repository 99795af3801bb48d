//go:build linux

package lease_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// client takes, renews and ends leases at random.
type client struct {
	manager *lease.Manager
	number  int
	name    string // begins the names of its leases, which nobody else has
	random  *rand.Rand
	known   *leases
	// say is called when an operation begins, and again with its answer. Their number is the same.
	say func(number int, o operation)
	// answered is called when the manager has answered, before that is said.
	answered func()
	// late is for how long something may still be done that was not answered.
	late  time.Duration
	count int
}

// leases are those that clients know.
type leases struct {
	mu   sync.Mutex
	list []lease.Lease
}

// maxKnown keeps some that have ended among those that are known.
const maxKnown = 40

func (l *leases) add(one lease.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, one)
	l.list = l.list[max(0, len(l.list)-maxKnown):]
}

func (l *leases) some(random *rand.Rand) (lease.Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == 0 {
		return lease.Lease{}, false
	}
	return l.list[random.IntN(len(l.list))], true
}

// step does one operation, whatever its answer is. An error is an answer that nobody may get.
func (c *client) step(ctx context.Context) error {
	l, found := c.known.some(c.random)
	switch n := c.random.IntN(10); {
	case n < 5 || !found:
		return c.take(ctx)
	case n < 7:
		return c.change(ctx, renew, l, c.manager.Renew)
	default:
		return c.change(ctx, end, l, c.manager.End)
	}
}

// longestTTL is that of a client's leases.
const longestTTL = 3 * time.Second

func (c *client) take(ctx context.Context) error {
	c.count++
	r := lease.Request{
		Team: "ci", Name: fmt.Sprintf("%s-%d", c.name, c.count), Proto: "tcp", Count: 1 + c.random.IntN(3), UID: alice,
		TTL: lease.MinTTL + time.Duration(c.random.Int64N(int64(longestTTL-lease.MinTTL))).Truncate(time.Millisecond),
	}
	if c.random.IntN(2) == 0 {
		r.Key = r.Name
	}
	err := c.ask(ctx, r)
	if r.Key != "" && err == nil && c.random.IntN(4) == 0 {
		err = c.ask(ctx, r)
	}
	return err
}

func (c *client) ask(ctx context.Context, r lease.Request) error {
	o := operation{Kind: take, Lease: lease.Lease{Name: r.Name, Key: r.Key, UID: r.UID, TTL: r.TTL}}
	return c.do(&o, func() error {
		l, repeated, err := c.manager.Take(ctx, r)
		if repeated {
			o.Kind = again
		}
		if err != nil {
			return err
		}
		o.Lease = l
		c.known.add(l)
		if l.Name != r.Name || l.Key != r.Key || l.UID != r.UID || l.TTL != r.TTL || l.Team != r.Team || len(l.Ports) != r.Count {
			return fmt.Errorf("asked for %+v, got %+v", r, l)
		}
		return nil
	})
}

func (c *client) change(ctx context.Context, kind kind, l lease.Lease, ask func(context.Context, string, uint32) (lease.Lease, error)) error {
	o := operation{Kind: kind, Lease: lease.Lease{ID: l.ID, Name: l.Name}}
	return c.do(&o, func() error {
		uid := []uint32{l.UID, l.UID, 0, bob}[c.random.IntN(4)]
		changed, err := ask(ctx, l.ID, uid)
		if err == nil {
			o.Lease = changed
			if uid == bob || changed.ID != l.ID || !slices.Equal(changed.Ports, l.Ports) {
				err = fmt.Errorf("%s of %+v by user %d: got %+v", kind, l, uid, changed)
			}
		}
		return err
	})
}

// do says that an operation begins, does it, and says how it ended.
func (c *client) do(o *operation, ask func() error) error {
	c.count++
	number := c.number + c.count*maxClients
	o.Client, o.Call = c.number, c.manager.Now()
	c.say(number, *o)
	err := ask()
	if c.answered != nil {
		c.answered()
	}
	o.Return = c.manager.Now()
	exhausted, field := new(lease.ExhaustedError), new(lease.FieldError)
	switch {
	case err == nil:
		o.Outcome = done
	case errors.Is(err, lease.ErrNoLease):
		o.Outcome, err = none, nil
	case errors.Is(err, lease.ErrAway), errors.Is(err, context.DeadlineExceeded):
		o.Outcome, o.Return, err = unknown, o.Return+c.late, nil
	case errors.Is(err, lease.ErrNotYours), errors.As(err, &exhausted),
		errors.As(err, &field) && field.Field == "key": // it has expired, and a port of it listens
		o.Outcome, err = refused, nil
	}
	c.say(number, *o)
	if o.Outcome != done {
		time.Sleep(refusedPause)
	}
	return err
}

// refusedPause is how long a client that got nothing waits before it asks again. Refusals take microseconds: without it there is little else.
const refusedPause = 10 * time.Millisecond

// maxClients is more than there are at a time.
const maxClients = 1000

// forbidden is a port of the range that the rules refuse.
const forbidden = 7

// rulesOf returns rules by which everybody may lease from a range, but for one port.
func rulesOf(r ports.Range) func() (lease.Rules, error) {
	claim := func(port uint16) string {
		if port == r.First+forbidden {
			return "forbidden"
		}
		return ""
	}
	return func() (lease.Rules, error) {
		return lease.Rules{
			Ranges: []lease.Range{{Range: r, Team: "ci", Users: []string{"*"}}},
			Refuse: claim, Claim: claim,
			Service: func(string) bool { return false },
			Version: 1,
		}, nil
	}
}

// portsOf returns the ports that may be leased by these rules.
func portsOf(r ports.Range) (list []uint16) {
	for port := r.First; port <= r.Last; port++ {
		if port != r.First+forbidden {
			list = append(list, port)
		}
	}
	return list
}
