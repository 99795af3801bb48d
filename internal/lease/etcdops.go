//go:build linux && etcd

package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Take implements Store.
func (s *etcdStore) Take(ctx context.Context, l Lease) (Lease, error) {
	ctx, cancel, err := s.begin(ctx)
	defer cancel()
	if err != nil {
		return Lease{}, err
	}
	l.Ports, l.Deadline, l.Overstayed = slices.Clone(l.Ports), 0, 0
	value, err := s.value(&l)
	if err != nil {
		return Lease{}, err
	}
	sent := s.options.Clock.Boot()
	granted, err := s.client.Grant(ctx, seconds(l.TTL+etcdMargin))
	if err != nil {
		s.wrote(ctx, err)
		return Lease{}, s.failed(ctx, err)
	}
	var free []clientv3.Cmp
	var puts, gets []clientv3.Op
	for _, key := range s.keys.of(&l) {
		free = append(free, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		puts = append(puts, clientv3.OpPut(key, value, clientv3.WithLease(granted.ID)))
		gets = append(gets, clientv3.OpGet(key))
	}
	done, err := s.client.Txn(ctx).If(free...).Then(puts...).Else(gets...).Commit()
	switch {
	case err != nil:
		// Perhaps it was done. Whoever repeats the request with its key shall then find the lease.
		if l.Key == "" {
			s.orphan(granted.ID)
		}
		s.wrote(ctx, err)
		return Lease{}, s.failed(ctx, err)
	case done.Succeeded:
		s.wrote(ctx, nil)
		return s.note(l, granted.ID, done.Header.Revision, sent+l.TTL), nil
	}
	s.orphan(granted.ID)
	return s.taken(ctx, &l, done.Responses)
}

// taken returns the lease that has the key of a request, or the error that says which port is taken. etcd has answered with what it has at
// each key of the lease.
func (s *etcdStore) taken(ctx context.Context, l *Lease, at []*etcdserverpb.ResponseOp) (Lease, error) {
	if len(at) > len(l.Ports) {
		if kvs := at[len(l.Ports)].GetResponseRange().Kvs; len(kvs) > 0 {
			return s.repeated(ctx, kvs[0])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, port := range l.Ports {
		kvs := at[i].GetResponseRange().Kvs
		if len(kvs) == 0 {
			continue
		}
		p := s.port(port, kvs[0])
		s.cache.set(port, p)
		by := Lease{Name: notALease, Ports: []uint16{port}}
		if p.lease != nil {
			by = *p.lease
			by.Deadline = s.cache.deadlines[by.ID]
		}
		return Lease{}, &TakenError{Port: port, By: by}
	}
	return Lease{}, errors.New("etcd refuses the lease, and names no port that is taken")
}

// repeated returns the lease that was given to an earlier request of the same name.
func (s *etcdStore) repeated(ctx context.Context, kv *mvccpb.KeyValue) (Lease, error) {
	r, err := decodeShared(kv)
	if err != nil {
		return Lease{}, fmt.Errorf("%q in etcd is no request: delete it: %w", kv.Key, err)
	}
	id := clientv3.LeaseID(kv.Lease)
	s.mu.Lock()
	l := s.lease(r)
	deadline, known := s.cache.deadlines[l.ID]
	s.mu.Unlock()
	if !known {
		if deadline, err = s.deadline(ctx, id, &l); err != nil {
			return Lease{}, s.failed(ctx, err)
		}
	}
	return s.note(l, id, kv.ModRevision, deadline), nil
}

// Renew implements Store.
func (s *etcdStore) Renew(ctx context.Context, id string) (Lease, error) {
	ctx, cancel, err := s.begin(ctx)
	defer cancel()
	if err != nil {
		return Lease{}, err
	}
	sent := s.options.Clock.Boot()
	p, err := s.keep(ctx, id)
	if err != nil {
		return Lease{}, err
	}
	if p.lease.Overstayed != 0 {
		if p, err = s.rewrite(ctx, id, func(l *Lease) { l.Overstayed = 0 }); err != nil {
			return Lease{}, err
		}
	}
	return s.note(*p.lease, p.id, p.revision, sent+p.lease.TTL), nil
}

// Overstay implements Store.
func (s *etcdStore) Overstay(ctx context.Context, id string) error {
	ctx, cancel, err := s.begin(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	p, err := s.keep(ctx, id)
	if err != nil || p.lease.Overstayed != 0 {
		return err
	}
	since := s.options.Clock.Boot()
	_, err = s.rewrite(ctx, id, func(l *Lease) { l.Overstayed = since })
	return err
}

// keep extends the lease of etcd by its whole time.
func (s *etcdStore) keep(ctx context.Context, id string) (etcdPort, error) {
	s.mu.Lock()
	p, found := s.cache.find(id)
	s.mu.Unlock()
	if !found {
		return p, ErrNoLease
	}
	_, err := s.client.KeepAliveOnce(ctx, p.id)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return p, s.ended(p)
	case err != nil:
		return p, s.failed(ctx, err)
	}
	return p, nil
}

// ended notes that etcd has ended a lease.
func (s *etcdStore) ended(p etcdPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.forget(p.id)
	return ErrNoLease
}

// rewrite changes a lease in etcd.
func (s *etcdStore) rewrite(ctx context.Context, id string, change func(*Lease)) (etcdPort, error) {
	s.mu.Lock()
	p, found := s.cache.find(id)
	s.mu.Unlock()
	if !found {
		return p, ErrNoLease
	}
	l := *p.lease
	change(&l)
	value, err := s.value(&l)
	if err != nil {
		return p, err
	}
	var same []clientv3.Cmp
	var puts []clientv3.Op
	for _, key := range s.keys.of(&l) {
		same = append(same, clientv3.Compare(clientv3.ModRevision(key), "=", p.revision))
		puts = append(puts, clientv3.OpPut(key, value, clientv3.WithLease(p.id)))
	}
	done, err := s.client.Txn(ctx).If(same...).Then(puts...).Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return p, s.ended(p)
	case err != nil:
		s.wrote(ctx, err)
		return p, s.failed(ctx, err)
	case !done.Succeeded:
		return p, fmt.Errorf("another program has changed the lease %s in etcd", id)
	}
	s.wrote(ctx, nil)
	p.lease, p.revision = &l, done.Header.Revision
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, port := range l.Ports {
		s.cache.set(port, p)
	}
	return p, nil
}

// Remove implements Store.
func (s *etcdStore) Remove(ctx context.Context, id string) error {
	ctx, cancel, err := s.begin(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	s.mu.Lock()
	p, found := s.cache.find(id)
	s.mu.Unlock()
	if !found {
		return nil
	}
	revoked, err := s.client.Revoke(ctx, p.id)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		_ = s.ended(p)
		return nil
	case err != nil:
		return s.failed(ctx, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, port := range p.lease.Ports {
		s.cache.set(port, etcdPort{revision: revoked.Header.Revision, gone: true})
	}
	return nil
}

// note puts a lease of this host into the cache, and returns it with its deadline.
func (s *etcdStore) note(l Lease, id clientv3.LeaseID, revision int64, deadline time.Duration) Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, port := range l.Ports {
		s.cache.set(port, etcdPort{revision: revision, id: id, lease: &l})
	}
	s.cache.deadlines[l.ID] = deadline
	s.cache.list = nil
	l.Deadline = deadline
	return l
}

// value returns what etcd has at each key of a lease. When it ends, the lease of etcd to which the keys are attached says.
func (s *etcdStore) value(l *Lease) (string, error) {
	r := recordOf(*l, s.options.Clock)
	r.Deadline, r.Expires = 0, 0
	if err := r.check(); err != nil {
		return "", fmt.Errorf("the lease cannot be stored: %w", err)
	}
	text, err := r.encode()
	return string(text), err
}

// orphan has a lease of etcd revoked that nobody has.
func (s *etcdStore) orphan(id clientv3.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orphans) < maxOrphans {
		s.orphans = append(s.orphans, id)
	}
	s.wake()
}

// seconds rounds up: no lease ends early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
