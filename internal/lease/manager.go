//go:build linux

package lease

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// Options are the options of a Manager.
type Options struct {
	Store  Store
	Logger log.Logger
	// Host is the name of this host in the registry.
	Host string
	// MaxTTL is the longest time for which a lease is given.
	MaxTTL time.Duration
	// MaxPerUser and MaxPerTeam limit the ports that a user or a team has on this host at the same time. 0 is no limit.
	MaxPerUser, MaxPerTeam int
	// Clock returns CLOCK_BOOTTIME. It is nil but in tests.
	Clock func() time.Duration
}

// Manager gives, renews and ends leases. Several goroutines may use it.
type Manager struct {
	options Options
	logger  log.Logger
	clock   func() time.Duration
	onStep  func(name string) // nil but in tests

	// binding is for who binds ports, and bindingOf[n] for who does so for a user of a number that ends with the byte n.
	binding   turn
	bindingOf [256]turn
	// changing[n] is for who renews or removes a lease whose ID begins with the byte n.
	changing [256]turn
	// repeating is for who takes a lease with a Key: turns by the hash of that and the user.
	repeating [256]turn
	// wake has one if Run shall sweep.
	wake chan struct{}

	// mu is never held while something else is waited for.
	mu        sync.Mutex
	ask       func() (Rules, error)
	ruled     *ruled // nil before the first rules
	look      look
	listening portSet           // as far as is known, if the last look was not whole
	pending   map[*wanted]Lease // while ports are kept for them
	next      map[string]uint16 // port of a team to try next
	seen      seen
	ending    map[string]Lease // by ID, which the store is to remove
	ended     []Lease          // of View; it is only appended to, so that Views may share it
}

// turn is taken by one at a time.
type turn chan struct{}

// take waits for the turn. Who gets it ends it.
func (t turn) take(ctx context.Context) (end func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("other requests come first: %w", ctx.Err())
	}
}

// NewManager returns a manager of the leases in a store. It gives none before Use.
func NewManager(o Options) (*Manager, error) {
	switch {
	case o.Store == nil:
		return nil, errors.New("leases need a store")
	case o.Host == "" || len(o.Host) > maxText:
		return nil, fmt.Errorf("leases need the name of the host, of at most %d bytes", maxText)
	case o.MaxTTL < MinTTL || o.MaxTTL > maxTTL:
		return nil, fmt.Errorf("the longest time of a lease is %s: want %s to %s", o.MaxTTL, MinTTL, maxTTL)
	case o.MaxPerUser < 0 || o.MaxPerTeam < 0:
		return nil, errors.New("a limit of leased ports is negative: want 0 for none")
	}
	if o.Clock == nil {
		o.Clock = bootTime
	}
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	m := &Manager{
		options: o, logger: o.Logger, clock: o.Clock, binding: make(turn, 1), wake: make(chan struct{}, 1),
		pending: make(map[*wanted]Lease), next: make(map[string]uint16), ending: make(map[string]Lease),
	}
	for i := range m.changing {
		m.bindingOf[i], m.changing[i], m.repeating[i] = make(turn, 1), make(turn, 1), make(turn, 1)
	}
	return m, nil
}

// step is called between the steps of an operation.
func (m *Manager) step(name string) {
	if m.onStep != nil {
		m.onStep(name)
	}
}

// Now returns the time on the clock of Lease.Deadline.
func (m *Manager) Now() time.Duration { return m.clock() }

// Renew extends a lease by its TTL from now. uid is who asks: the error is ErrNotYours unless that is the user who took it, or root. It is
// ErrNoLease if there is none, on this host, and a *WithdrawnError if the registry of this moment does not permit the lease.
func (m *Manager) Renew(ctx context.Context, id string, uid uint32) (Lease, error) {
	l, unlock, err := m.hold(ctx, id, uid)
	if err != nil {
		return Lease{}, err
	}
	defer unlock()
	if err := m.permits(&l); err != nil {
		return Lease{}, err
	}
	m.step("renewing")
	return m.options.Store.Renew(ctx, l.ID)
}

// End gives the ports of a lease back. The errors are ErrNotYours and ErrNoLease, as those of Renew.
func (m *Manager) End(ctx context.Context, id string, uid uint32) (Lease, error) {
	l, unlock, err := m.hold(ctx, id, uid)
	if err != nil {
		return Lease{}, err
	}
	defer unlock()
	m.step("ending")
	m.noteEnding(l)
	if err := m.options.Store.Remove(ctx, l.ID); err != nil {
		return Lease{}, err // it may be removed nevertheless, also later
	}
	m.noteEnd(l)
	level.Debug(m.logger).Log("msg", "lease ended", "id", l.ID, "name", l.Name, "user", l.User)
	return l, nil
}

// maxEnded is how many leases that ended a View has at most.
const maxEnded = 4096

// noteEnding notes that a lease is to be ended. It has ended as soon as the store does not have it.
func (m *Manager) noteEnding(l Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ending[l.ID] = l
}

// noteEnd notes that a lease has ended.
func (m *Manager) noteEnd(l Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addEnded(l)
}

// addEnded adds a lease to those that have ended, unless a View has seen that before. The caller has the lock.
func (m *Manager) addEnded(l Lease) {
	if _, is := m.ending[l.ID]; !is {
		return
	}
	delete(m.ending, l.ID)
	l.Deadline = min(l.Deadline, m.clock())
	m.ended = append(m.ended, l)
	m.ended = m.ended[max(0, len(m.ended)-maxEnded):]
}

// hold returns a lease of this host that a user may change, and keeps others from changing it until unlock.
func (m *Manager) hold(ctx context.Context, id string, uid uint32) (l Lease, unlock func(), err error) {
	first, err := strconv.ParseUint(id[:min(2, len(id))], 16, 8)
	if err != nil {
		return Lease{}, nil, ErrNoLease
	}
	if unlock, err = m.changing[first].take(ctx); err != nil {
		return Lease{}, nil, err
	}
	leases, away := m.options.Store.Leases()
	for _, l := range leases {
		switch {
		case l.ID != id || l.Deadline == 0:
		case uid != 0 && uid != l.UID:
			unlock()
			return Lease{}, nil, ErrNotYours
		default:
			return l, unlock, nil
		}
	}
	unlock()
	if away != nil {
		return Lease{}, nil, away
	}
	return Lease{}, nil, ErrNoLease
}
