//go:build linux && etcd

package lease

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// etcdKeys are the keys below a prefix.
type etcdKeys string

func (prefix etcdKeys) ports() string { return string(prefix) + "port/" }

func (prefix etcdKeys) port(port uint16) string { return fmt.Sprintf("%s%05d", prefix.ports(), port) }

// portOf returns the port that a key is for.
func (prefix etcdKeys) portOf(key string) (uint16, bool) {
	digits, found := strings.CutPrefix(key, prefix.ports())
	port, err := strconv.ParseUint(digits, 10, 16)
	return uint16(port), found && err == nil && port != 0 && prefix.port(uint16(port)) == key
}

// request returns the key of a request that its user has named. No two users share one.
func (prefix etcdKeys) request(l *Lease) string {
	return fmt.Sprintf("%srequest/%s/%d/%s", prefix, url.PathEscape(l.Host), l.UID, url.PathEscape(l.Key))
}

// of returns the keys of a lease, that of its request last.
func (prefix etcdKeys) of(l *Lease) []string {
	var keys []string
	for _, port := range l.Ports {
		keys = append(keys, prefix.port(port))
	}
	if l.Key != "" {
		keys = append(keys, prefix.request(l))
	}
	return keys
}

// alive is read to find out whether etcd answers, and written to find out whether it takes writes again.
func (prefix etcdKeys) alive() string { return string(prefix) + "alive" }
