//go:build linux && etcd

package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-kit/log"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// etcdTimeout is for one operation, whatever it takes of requests to etcd.
	etcdTimeout = 4 * time.Second
	// openTimeout is how long the start of the exporter waits for the leases that are there.
	openTimeout = 2 * time.Second
	// etcdMargin is for how much longer etcd keeps a lease than it was given for. While this host is there, it keeps the lease from then on,
	// until it is removed. The margin also makes up for a renewal that etcd forgets because its leader just changed.
	etcdMargin = 15 * time.Second
	// maxOrphans is how many leases of etcd that nobody has are remembered, to be revoked. Of more, some end by their time.
	maxOrphans = 1024
)

// etcdStore keeps leases in etcd. Only etcd decides who has a port, and when a lease ends: it is attached to a lease of etcd's own.
type etcdStore struct {
	options EtcdOptions
	keys    etcdKeys
	client  *clientv3.Client
	stop    context.CancelFunc
	stopped chan struct{}
	// tried is closed when it is known for the first time whether etcd answers, and loaded when its leases have been read.
	tried, loaded chan struct{}
	// look wakes what watches etcd.
	look chan struct{}

	mu    sync.Mutex
	cache *etcdCache
	// cluster is the ID of the etcd that has been read.
	cluster uint64
	// away is why etcd cannot be reached.
	away error
	// refused is why the last request to etcd failed, in gRPC's words.
	refused string
	// unwritable is why the last write failed, or nil if it did not. Reads do not show that: etcd refuses writes when its space is used
	// up, or if its user may only read.
	unwritable error
	// orphans are leases of etcd to be revoked.
	orphans []clientv3.LeaseID
	// foreign are the keys of which it is logged that they have no lease.
	foreign map[string]bool
}

var _ Store = (*etcdStore)(nil)

// OpenEtcd returns a store of leases in etcd. It waits a moment for the leases that are there. That etcd is away is no error: it is looked
// for until Close.
func OpenEtcd(o EtcdOptions) (Store, error) {
	if o.Clock.Boot == nil {
		o.Clock = HostClock()
	}
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &etcdStore{
		options: o, keys: etcdKeys(o.Prefix), stop: stop, stopped: make(chan struct{}), tried: make(chan struct{}),
		loaded: make(chan struct{}), look: make(chan struct{}, 1), cache: newEtcdCache(), foreign: make(map[string]bool),
	}
	if err := s.connect(ctx); err != nil {
		stop()
		return nil, err
	}
	go func() {
		defer close(s.stopped)
		s.run(ctx)
	}()
	select {
	case <-s.tried:
	case <-time.After(openTimeout):
	}
	return s, nil
}

// Close implements Store.
func (s *etcdStore) Close() error {
	s.stop()
	<-s.stopped
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Leases implements Store.
func (s *etcdStore) Leases() ([]Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.leases(), s.reach()
}

// reach returns ErrAway unless etcd answered last. The caller has the lock.
func (s *etcdStore) reach() error {
	select {
	case <-s.loaded:
		return s.away
	default:
		if s.away == nil {
			return fmt.Errorf("%w: etcd has not answered yet", ErrAway)
		}
		return s.away
	}
}

// begin returns when an operation that begins now must have ended, unless etcd is known to be away.
func (s *etcdStore) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	s.mu.Lock()
	err := s.away
	s.mu.Unlock()
	if err == nil {
		select {
		case <-s.loaded:
		case <-ctx.Done():
			err = s.failed(ctx, ctx.Err())
		}
	}
	return clientv3.WithRequireLeader(ctx), cancel, err
}

// failed returns the error of an operation after etcd's, and has etcd looked at.
func (s *etcdStore) failed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%w: %w", ErrAway, err) // by the caller: etcd may be well
	}
	s.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.explain(err)
}

// explain returns ErrAway with the reason that gRPC gives. The caller has the lock.
func (s *etcdStore) explain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && s.refused != "" {
		return fmt.Errorf("%w: etcd: %s", ErrAway, s.refused)
	}
	if errors.Is(err, rpctypes.ErrNoSpace) {
		err = fmt.Errorf("%w: want etcd compacted and defragmented, or a larger --quota-backend-bytes of it, and its alarm disarmed", err)
	}
	return fmt.Errorf("%w: etcd: %w", ErrAway, err)
}

// wrote notes how a write went.
func (s *etcdStore) wrote(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.unwritable = nil
	case !errors.Is(ctx.Err(), context.Canceled): // by the caller
		s.unwritable = s.explain(err)
	}
}

// Unwritable implements Store. An etcd whose space is used up still extends and ends leases.
func (s *etcdStore) Unwritable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unwritable
}

func (s *etcdStore) wake() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}
