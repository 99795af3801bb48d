//go:build linux

package lease

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/guard"
)

// Run removes what has expired, and marks what has overstayed, until ctx is done. It then closes the store.
func (m *Manager) Run(ctx context.Context) {
	away := false
	for {
		select {
		case <-ctx.Done():
			if err := m.options.Store.Close(); err != nil {
				level.Warn(m.logger).Log("msg", "the store of leases was not closed", "err", err)
			}
			return
		case <-m.wake:
		}
		err := guard.Do(func() error {
			_, _ = m.rules() // for the next View: who wants a lease sees the error
			return m.sweep(ctx)
		})
		switch {
		case ctx.Err() != nil:
		case err != nil && !away:
			line := []any{"msg", "no lease is given: the store of leases fails", "err", err}
			if panicked := new(guard.Panic); errors.As(err, &panicked) {
				line = append(line, "stack", string(panicked.Stack()))
			}
			level.Error(m.logger).Log(line...)
		case err == nil && away:
			level.Info(m.logger).Log("msg", "the store of leases works again")
		}
		away = err != nil
	}
}

// sweep removes and marks the leases that had expired when the last look began.
func (m *Manager) sweep(ctx context.Context) error {
	m.mu.Lock()
	look := m.look
	m.mu.Unlock()
	leases, _ := m.options.Store.Leases()
	for _, l := range leases {
		if !look.after(&l) {
			continue
		}
		if err := m.sweepLease(ctx, l.ID, &look); err != nil {
			if _, away := m.options.Store.Leases(); away != nil || m.options.Store.Unwritable() == nil {
				return err
			}
			// The others may only have to be removed, which takes no space.
		}
	}
	_, err := m.options.Store.Leases()
	return cmp.Or(err, m.options.Store.Unwritable())
}

// after reports whether a lease of this host had expired when the look began.
func (k *look) after(l *Lease) bool { return l.Deadline != 0 && l.Deadline < k.at }

func (m *Manager) sweepLease(ctx context.Context, id string, look *look) error {
	l, unlock, err := m.hold(ctx, id, 0)
	if errors.Is(err, ErrNoLease) {
		return nil // it was ended
	}
	if err != nil {
		return err
	}
	defer unlock()
	listens := slices.ContainsFunc(l.Ports, look.listening.has)
	switch {
	case !look.after(&l): // it was renewed
	case listens && l.Overstayed == 0:
		m.step("overstaying")
		err = m.options.Store.Overstay(ctx, id)
	case !listens && look.whole:
		m.step("removing")
		err = m.options.Store.Remove(ctx, id)
	}
	if errors.Is(err, ErrNoLease) {
		return nil
	}
	return err
}

// reclaim removes an expired lease whose ports are proven free, before a look has found that. removed is false if it was renewed.
func (m *Manager) reclaim(ctx context.Context, id string) (removed bool, err error) {
	l, unlock, err := m.hold(ctx, id, 0)
	if errors.Is(err, ErrNoLease) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer unlock()
	if l.Alive(m.clock()) {
		return false, nil
	}
	m.step("reclaiming")
	return true, m.options.Store.Remove(ctx, id)
}
