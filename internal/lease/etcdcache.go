//go:build linux && etcd

package lease

import (
	"cmp"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdCache is what etcd has, as far as it is known. A watch reports it, which may be late: what the store itself does is in the cache
// at once.
type etcdCache struct {
	ports map[uint16]etcdPort
	// seen is the revision up to which the watch has reported.
	seen int64
	// deadlines are those of this host's leases, by ID.
	deadlines map[string]time.Duration
	// list is what leases returns, or nil if it has changed.
	list []Lease
}

// etcdPort is a port at a revision of etcd's store.
type etcdPort struct {
	revision int64
	// gone is a port that is free again, of which the watch has not reported it yet.
	gone bool
	// id is the lease of etcd to which the key is attached.
	id clientv3.LeaseID
	// lease is nil if the value is none of ours. The port then counts as taken.
	lease *Lease
}

// notALease is the name of a lease in whose place there is something else.
const notALease = "(not a lease)"

func newEtcdCache() *etcdCache {
	return &etcdCache{ports: make(map[uint16]etcdPort), deadlines: make(map[string]time.Duration)}
}

// set notes a state of a port that the watch may not have reported yet.
func (c *etcdCache) set(port uint16, to etcdPort) {
	if to.revision > c.seen && to.revision >= c.ports[port].revision {
		c.ports[port], c.list = to, nil
	}
}

// report notes a state of a port that the watch reports.
func (c *etcdCache) report(port uint16, to etcdPort) {
	if to.revision >= c.ports[port].revision {
		c.ports[port], c.list = to, nil
		if to.gone {
			delete(c.ports, port)
		}
	}
	c.seen = max(c.seen, to.revision)
}

// replace notes all ports as they were at a revision. What the store has done since then stays, unless this is not the etcd any more in
// which it did so.
func (c *etcdCache) replace(all map[uint16]etcdPort, revision int64) {
	for port, known := range c.ports {
		if known.revision > revision && revision >= c.seen {
			all[port] = known
		}
	}
	c.ports, c.seen, c.list = all, revision, nil
	living := make(map[string]bool)
	for _, p := range all {
		if p.lease != nil {
			living[p.lease.ID] = true
		}
	}
	maps.DeleteFunc(c.deadlines, func(id string, _ time.Duration) bool { return !living[id] })
}

// forget notes that a lease of etcd is not there, and so nothing that was attached to it.
func (c *etcdCache) forget(id clientv3.LeaseID) {
	maps.DeleteFunc(c.ports, func(_ uint16, p etcdPort) bool { return p.id == id })
	c.list = nil
}

// find returns the lease with an ID, as it is at one of its ports.
func (c *etcdCache) find(id string) (etcdPort, bool) {
	for _, p := range c.ports {
		if p.lease != nil && p.lease.ID == id {
			return p, true
		}
	}
	return etcdPort{}, false
}

// leases returns all leases, sorted by their first port. A lease has those of its ports whose keys are there.
func (c *etcdCache) leases() []Lease {
	if c.list == nil {
		c.list = c.build()
	}
	return c.list
}

func (c *etcdCache) build() []Lease {
	list := []Lease{}
	keys := make(map[string][]uint16) // by ID
	for _, port := range slices.Sorted(maps.Keys(c.ports)) {
		switch p := c.ports[port]; {
		case p.gone:
		case p.lease == nil:
			list = append(list, Lease{Name: notALease, Ports: []uint16{port}})
		default:
			l := *p.lease
			if keys[l.ID] == nil {
				l.Deadline = c.deadlines[l.ID]
				list = append(list, l)
			}
			keys[l.ID] = append(keys[l.ID], port)
		}
	}
	for i := range list {
		if l := &list[i]; l.ID != "" {
			// In the order in which they were given.
			l.Ports = slices.DeleteFunc(slices.Clone(l.Ports), func(port uint16) bool { return !slices.Contains(keys[l.ID], port) })
		}
	}
	slices.SortFunc(list, func(a, b Lease) int { return cmp.Compare(a.Ports[0], b.Ports[0]) })
	return list
}
