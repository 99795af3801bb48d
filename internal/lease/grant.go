//go:build linux

package lease

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/go-kit/log/level"
)

// Take gives a lease. repeated reports that it was given before, to a request with the same Key. The error is a *FieldError if the
// request is bad, *NotAllowedError if the user may not lease from the team's ranges, *LimitError if the user or the team has enough,
// *ExhaustedError if no port is left, and ErrAway if the store cannot be reached.
func (m *Manager) Take(ctx context.Context, r Request) (l Lease, repeated bool, err error) {
	rules, err := m.rules()
	if err != nil {
		return Lease{}, false, err
	}
	w, err := m.check(r, rules)
	if err != nil {
		return Lease{}, false, err
	}
	defer m.settle(w)
	if r.Key != "" { // or the same request would keep ports for each time that it was sent
		end, err := m.repeating[crc32.ChecksumIEEE(fmt.Append(nil, r.UID, r.Key))%uint32(len(m.repeating))].take(ctx)
		if err != nil {
			return Lease{}, false, err
		}
		defer end()
	}
	for {
		if l, repeated, err := m.repeated(ctx, w); repeated || err != nil {
			return l, repeated, err
		}
		expired, err := m.choose(ctx, w, rules)
		if err != nil {
			return Lease{}, false, err
		}
		m.step("chosen")
		if again, err := m.reclaimAll(ctx, expired); again {
			continue
		} else if err != nil {
			return Lease{}, false, err
		}
		m.step("reclaimed")
		l, err := m.options.Store.Take(ctx, w.lease)
		var taken *TakenError
		switch {
		case errors.As(err, &taken): // another host was faster
			taken.By.Ports = []uint16{taken.Port}
			w.taken = append(w.taken, taken.By)
		case err != nil:
			return Lease{}, false, err
		case l.ID == w.lease.ID:
			level.Debug(m.logger).Log("msg", "lease given", "id", l.ID, "team", l.Team, "name", l.Name, "user", l.User, "ports", fmt.Sprint(l.Ports), "ttl", l.TTL)
			return l, false, nil
		case l.Alive(m.clock()): // the same request was faster
			return m.answer(w, l)
		}
	}
}

// reclaimAll removes expired leases. again reports that one of them was renewed meanwhile.
func (m *Manager) reclaimAll(ctx context.Context, expired []Lease) (again bool, err error) {
	for _, l := range expired {
		if removed, err := m.reclaim(ctx, l.ID); err != nil || !removed {
			return err == nil, err
		}
	}
	return false, nil
}

// repeated returns the lease that was given to a request with the same key. If it has expired and its ports are free, it is removed.
func (m *Manager) repeated(ctx context.Context, w *wanted) (l Lease, repeated bool, err error) {
	leases, _ := m.options.Store.Leases()
	i := slices.IndexFunc(leases, func(l Lease) bool {
		return l.Key == w.lease.Key && l.UID == w.lease.UID && l.Deadline != 0
	})
	if w.lease.Key == "" || i < 0 {
		return Lease{}, false, nil
	}
	l = leases[i]
	if l.Alive(m.clock()) {
		return m.answer(w, l)
	}
	end, err := m.mayBind(ctx, l.UID)
	if err != nil {
		return Lease{}, false, err
	}
	free := proven(&l)
	end()
	if !free {
		return Lease{}, false, &FieldError{"key", fmt.Sprintf("the lease %s has it, which has expired, and whose ports are in use: want another key, or that lease renewed or ended", l.ID)}
	}
	removed, err := m.reclaim(ctx, l.ID)
	if removed || err != nil {
		return Lease{}, false, err
	}
	return m.answer(w, l) // it was renewed
}

// answer returns a lease that was given to a request with the same key.
func (m *Manager) answer(w *wanted, l Lease) (_ Lease, repeated bool, err error) {
	if l.Team != w.lease.Team || l.Name != w.lease.Name || l.Proto != w.lease.Proto || l.TTL != w.lease.TTL || len(l.Ports) != w.count {
		return Lease{}, false, &FieldError{"key", fmt.Sprintf("the lease %s has it, which another request was for: want another key, or the same request", l.ID)}
	}
	return l, true, nil
}
