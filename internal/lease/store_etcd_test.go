//go:build linux && etcd

package lease_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
)

// storeKinds are the kinds of store of this build.
func storeKinds() []storeKind {
	return []storeKind{fileStores, {name: "etcd", accuracy: 5 * time.Second, start: func(t *testing.T) func(t *testing.T) opener {
		etcd := host.StartEtcd(t, "127.0.0.1")
		return func(t *testing.T) opener {
			o := optionsOf(etcd)
			return func(host string, clock lease.Clock) lease.Store {
				o.Host, o.Clock = host, clock
				return openEtcd(t, o)
			}
		}
	}}}
}

var prefixes atomic.Int64

// optionsOf returns options for a place in etcd where nothing is stored yet.
func optionsOf(etcd *host.Etcd) lease.EtcdOptions {
	return lease.EtcdOptions{
		Endpoints: []string{etcd.URL}, Prefix: fmt.Sprintf("/test/%d/", prefixes.Add(1)), Host: "one", Logger: log.NewNopLogger(),
	}
}

func openEtcd(t *testing.T, o lease.EtcdOptions) lease.Store {
	t.Helper()
	s, err := lease.OpenEtcd(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
