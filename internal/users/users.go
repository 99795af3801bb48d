//go:build linux

// Package users knows which numbers of users mean something in the exporter's user namespace.
package users

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
)

// Namespace has the numbers of users in a user namespace, in which the kernel reports the owner of a socket and the peer of another.
type Namespace struct {
	partial  bool   // the namespace does not have all of them
	overflow uint32 // by which all others are reported (from_kuid_munged in kernel/user_namespace.c)
}

// Own reads the users of this process's user namespace (user_namespaces(7)). A kernel without such namespaces has all users.
func Own() Namespace {
	n := Namespace{overflow: 65534} // DEFAULT_OVERFLOWUID, include/linux/highuid.h
	if text, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
		_, _ = fmt.Sscan(string(text), &n.overflow)
	}
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return n
	}
	var mapped uint64
	for line := range strings.Lines(string(bytes.TrimSpace(text))) {
		var inside, outside, length uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &length); err == nil {
			mapped += length
		}
	}
	n.partial = mapped < math.MaxUint32
	return n
}

// Number returns the number of a user. It is unknown if it may be that of a user whom the namespace does not have.
func (n Namespace) Number(uid uint32) (number uint32, unknown bool) {
	if n.partial && uid == n.overflow {
		return 0, true
	}
	return uid, false
}
