//go:build linux && etcd

package lease_test

import (
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// etcdLate is how long after the end of a process etcd may still do what it was asked.
const etcdLate = 5 * time.Second

func TestNoCrashGivesAPortOfEtcdTwiceOrLosesALease(t *testing.T) {
	t.Parallel()
	netnstest.Run(t, func(t *testing.T) {
		etcd := host.StartEtcd(t, "127.0.0.1")
		c := newCrashes(t, 2, ports.Range{First: 22000, Last: 22032}, storePlan{URL: etcd.URL, Prefix: "/crash/"}, etcdLate)
		// etcd is killed as well, now and then.
		c.trouble = func() {
			if c.random.IntN(100) != 0 {
				return
			}
			time.Sleep(time.Duration(c.random.IntN(20_000)) * time.Microsecond)
			etcd.Kill()
			if err := etcd.Start(); err != nil {
				t.Error(err)
			}
		}
		c.run(size(allOperations, 300))
		c.trouble = nil
		c.end()
	})
}

func TestManyClientsOfTwoHostsNeverGetTheSamePort(t *testing.T) {
	t.Parallel()
	etcd := host.StartEtcd(t, "127.0.0.1")
	var stores []lease.Store
	for _, name := range hosts {
		store, err := openStore(storePlan{URL: etcd.URL, Prefix: "/clients/"}, name, lease.HostClock())
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, store)
	}
	h := runClients(t, ports.Range{First: 22200, Last: 22399}, size(time.Minute, 2*time.Second), stores...)
	if err := h.check(); err != nil {
		t.Error(err)
	}
}
