//go:build linux && etcd

package lease

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// lookInterval is how often etcd is asked whether it is there.
	lookInterval = 5 * time.Second
	// againAfter is when it is asked again while it is away.
	againAfter = time.Second
	// reloadInterval is how often all leases are read, in case that a watch misses something.
	reloadInterval = 5 * time.Minute
	// pageSize is how many keys are read at once.
	pageSize = 1000
)

// errReload is the end of a watch that must begin again with all leases.
var errReload = errors.New("the leases have to be read again")

// run keeps what is known of etcd up to date until ctx is done.
func (s *etcdStore) run(ctx context.Context) {
	tried := sync.OnceFunc(func() { close(s.tried) })
	for ctx.Err() == nil {
		revision, err := s.load(ctx)
		if err == nil {
			s.found()
			tried()
			err = s.follow(ctx, revision)
		}
		if ctx.Err() == nil && !errors.Is(err, errReload) {
			s.mu.Lock()
			s.away = s.explain(err)
			s.mu.Unlock()
		}
		tried()
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
	}
}

// found notes that etcd answers.
func (s *etcdStore) found() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = nil
	select {
	case <-s.loaded:
	default:
		close(s.loaded)
	}
}

// load reads all leases, as they are at the revision that it returns.
func (s *etcdStore) load(ctx context.Context) (revision int64, err error) {
	all := make(map[uint16]etcdPort)
	from, end := s.keys.ports(), clientv3.GetPrefixRangeEnd(s.keys.ports())
	for more := true; more; {
		page, err := s.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		s.mu.Lock()
		s.cluster = page.Header.ClusterId
		for _, kv := range page.Kvs {
			if port, ok := s.portOf(kv); ok {
				all[port] = s.port(port, kv)
			}
			from = string(kv.Key) + "\x00"
		}
		s.mu.Unlock()
		more = page.More
	}
	deadlines, err := s.ownDeadlines(ctx, all)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.replace(all, revision)
	for id, deadline := range deadlines {
		if known, found := s.cache.deadlines[id]; !found || known < deadline {
			s.cache.deadlines[id] = deadline
		}
	}
	return revision, nil
}

// ownDeadlines asks etcd when the leases of this host end: those of which that is not known, and all if etcd was away. It then may have
// given them their whole time again.
func (s *etcdStore) ownDeadlines(ctx context.Context, all map[uint16]etcdPort) (map[string]time.Duration, error) {
	s.mu.Lock()
	wasAway, known := s.away != nil, maps.Clone(s.cache.deadlines)
	s.mu.Unlock()
	deadlines := make(map[string]time.Duration)
	for _, p := range all {
		if !s.isOwn(p.lease) {
			continue
		}
		if _, found := known[p.lease.ID]; found && !wasAway {
			continue
		}
		if _, found := deadlines[p.lease.ID]; found {
			continue
		}
		deadline, err := s.deadline(ctx, p.id, p.lease)
		if err != nil {
			return nil, err
		}
		deadlines[p.lease.ID] = deadline
	}
	return deadlines, nil
}

func (s *etcdStore) isOwn(l *Lease) bool { return l != nil && l.Host == s.options.Host }

// deadline asks etcd when a lease of this host ends.
func (s *etcdStore) deadline(ctx context.Context, id clientv3.LeaseID, l *Lease) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	left, err := s.client.TimeToLive(ctx, id)
	if err != nil {
		return 0, err
	}
	// TTL is rounded down, and was so a moment ago: whoever took the lease counts on the rest too.
	at := s.options.Clock.Boot() + min(time.Duration(left.TTL+1)*time.Second-etcdMargin, l.TTL)
	if l.Overstayed != 0 { // etcd keeps it for longer
		at = min(at, l.Overstayed)
	}
	return notZero(at), nil
}

func (s *etcdStore) get(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), etcdTimeout)
	defer cancel()
	return s.client.Get(ctx, key, options...)
}

// follow takes in what changes after a revision. Its error says why it ends.
func (s *etcdStore) follow(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	late := time.AfterFunc(etcdTimeout, cancel)
	// It returns when etcd has answered, and from then on connects again whenever it must.
	changes := s.client.Watch(ctx, s.keys.ports(), clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	if !late.Stop() {
		return context.DeadlineExceeded
	}
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	reload := time.NewTimer(reloadInterval)
	defer reload.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reload.C:
			return errReload
		case change, open := <-changes:
			if err := change.Err(); err != nil || !open { // its revision is compacted, or there is no leader
				return errReload
			}
			s.takeIn(change.Events)
		case <-look.C:
			err = s.visit(ctx)
		case <-s.look:
			err = s.visit(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// takeIn notes what a watch reports.
func (s *etcdStore) takeIn(events []*clientv3.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, event := range events {
		port, ok := s.portOf(event.Kv)
		switch {
		case !ok:
		case event.Type == clientv3.EventTypeDelete:
			s.cache.report(port, etcdPort{revision: event.Kv.ModRevision, gone: true})
		default:
			p := s.port(port, event.Kv)
			s.cache.report(port, p)
			if s.isOwn(p.lease) {
				// Its answer is on the way, or was lost.
				if _, known := s.cache.deadlines[p.lease.ID]; !known {
					s.cache.deadlines[p.lease.ID] = s.options.Clock.Boot() + p.lease.TTL
				}
			}
		}
	}
}

// visit finds out whether etcd answers, and whether it is the one that the cache is of. It then does there what is due.
func (s *etcdStore) visit(ctx context.Context) error {
	s.mu.Lock()
	cluster, seen := s.cluster, s.cache.seen
	s.mu.Unlock()
	answer, err := s.get(ctx, s.keys.alive())
	if err != nil {
		return err
	}
	if answer.Header.ClusterId != cluster || answer.Header.Revision < seen { // it has been restored from a backup
		return errReload
	}
	if s.Unwritable() != nil {
		s.tryToWrite(ctx)
	}
	s.revokeOrphans(ctx)
	s.keepExpired(ctx)
	return nil
}

// tryToWrite finds out whether etcd takes writes again, by one that soon ends by itself.
func (s *etcdStore) tryToWrite(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	granted, err := s.client.Grant(ctx, 1)
	if err == nil {
		_, err = s.client.Put(ctx, s.keys.alive(), "", clientv3.WithLease(granted.ID))
	}
	s.wrote(ctx, err)
}

// revokeOrphans ends leases of etcd that nobody has.
func (s *etcdStore) revokeOrphans(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	for {
		s.mu.Lock()
		orphans := s.orphans
		s.mu.Unlock()
		if len(orphans) == 0 {
			return
		}
		if _, err := s.client.Revoke(ctx, orphans[0]); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return
		}
		s.mu.Lock()
		s.orphans = s.orphans[1:]
		s.mu.Unlock()
	}
}

// keepExpired keeps the leases of this host that have expired: whoever removes them finds out first whether their ports still listen.
func (s *etcdStore) keepExpired(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	s.mu.Lock()
	leases := s.cache.leases()
	s.mu.Unlock()
	now := s.options.Clock.Boot()
	for i := range leases {
		if l := &leases[i]; s.isOwn(l) && !l.Alive(now) {
			_, _ = s.keep(ctx, l.ID) // of which the next visit tries again
		}
	}
}
