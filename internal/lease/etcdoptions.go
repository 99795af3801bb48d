//go:build linux

package lease

import "github.com/go-kit/log"

// EtcdOptions are the options of OpenEtcd.
type EtcdOptions struct {
	// Endpoints are the URLs of etcd's members, such as https://etcd-1.example.org:2379. All are http, or all are https.
	Endpoints []string
	// Prefix begins each key. Hosts that share ranges have the same.
	Prefix string
	// CAFile has the certificates of who may have signed those of etcd, in PEM. Without it those of the system count.
	CAFile string
	// CertFile and KeyFile are what the exporter shows etcd. They are read again at each connection.
	CertFile, KeyFile string
	// Host is the name of this host in the registry.
	Host   string
	Logger log.Logger
	// Clock is HostClock but in tests.
	Clock Clock
}
