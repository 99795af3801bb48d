//go:build linux && !etcd

package lease_test

import (
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// storeKinds are the kinds of store of this build.
func storeKinds() []storeKind { return []storeKind{fileStores} }

func TestABuildWithoutEtcdNamesThePackageThatHasIt(t *testing.T) {
	_, err := lease.OpenEtcd(lease.EtcdOptions{Endpoints: []string{"http://127.0.0.1:2379"}, Prefix: "/x/", Host: "one"})
	if err == nil || !strings.Contains(err.Error(), "listen-exporter-etcd") {
		t.Errorf("error %v", err)
	}
}
