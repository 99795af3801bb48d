//go:build linux && !etcd

package lease

import "errors"

// OpenEtcd returns an error: this build has no client of etcd.
func OpenEtcd(EtcdOptions) (Store, error) {
	return nil, errors.New("this listen_exporter is built without etcd: want the package listen-exporter-etcd, or a build with -tags etcd")
}
