//go:build linux && etcd

package lease

import (
	"slices"

	"github.com/go-kit/log/level"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// portOf returns the port that a key is for. The caller has the lock.
func (s *etcdStore) portOf(kv *mvccpb.KeyValue) (uint16, bool) {
	port, ok := s.keys.portOf(string(kv.Key))
	if !ok {
		s.logForeign(kv, "its name is not that of a port")
	}
	return port, ok
}

// port returns what etcd has at the key of a port. The caller has the lock.
func (s *etcdStore) port(port uint16, kv *mvccpb.KeyValue) etcdPort {
	p := etcdPort{revision: kv.ModRevision, id: clientv3.LeaseID(kv.Lease)}
	r, err := decodeShared(kv)
	switch {
	case err != nil:
		s.logForeign(kv, err.Error())
	case !slices.Contains(r.Ports, port):
		s.logForeign(kv, "it has the lease of another port")
	default:
		l := s.lease(r)
		p.lease = &l
	}
	return p
}

// decodeShared parses a record. Its host may have a newer exporter than this one, which knows more of a lease.
func decodeShared(kv *mvccpb.KeyValue) (*record, error) { return decodeRecord(kv.Value, false) }

// lease returns the lease of a record, without its deadline. The caller has the lock.
func (s *etcdStore) lease(r *record) Lease {
	l := r.lease(s.options.Clock)
	l.Deadline = 0
	if l.Overstayed == 0 {
		return l
	}
	if known, found := s.cache.find(l.ID); found && known.lease.Overstayed != 0 {
		l.Overstayed = known.lease.Overstayed // whatever the wall clock says now
	}
	return l
}

// logForeign logs once that a key has no lease. The caller has the lock.
func (s *etcdStore) logForeign(kv *mvccpb.KeyValue, why string) {
	key := string(kv.Key)
	if s.foreign[key] || len(s.foreign) >= pageSize {
		return
	}
	s.foreign[key] = true
	_ = level.Warn(s.options.Logger).Log("msg", "a key in etcd has no lease: its port counts as taken until the key is deleted", "key", key, "err", why)
}
