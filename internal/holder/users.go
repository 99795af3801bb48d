//go:build linux

package holder

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// users knows the numbers of users in the reader's user namespace, in which the kernel reports the owner of a socket.
type users struct {
	partial  bool   // the namespace does not have all of them
	overflow uint32 // by which all others are reported (from_kuid_munged in kernel/user_namespace.c)
}

// ownUsers reads the users of this process's user namespace (user_namespaces(7)). A kernel without such namespaces has all users.
func ownUsers() users {
	u := users{overflow: 65534} // DEFAULT_OVERFLOWUID, include/linux/highuid.h
	if text, err := readFile("/proc/sys/kernel/overflowuid", maxName); err == nil {
		_, _ = fmt.Sscan(string(text), &u.overflow)
	}
	text, err := readFile("/proc/self/uid_map", maxCgroup)
	if err != nil {
		return u
	}
	var mapped uint64
	for line := range strings.Lines(string(bytes.TrimSpace(text))) {
		var inside, outside, length uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &length); err == nil {
			mapped += length
		}
	}
	u.partial = mapped < math.MaxUint32
	return u
}

// number returns the number of a user. It is unknown if it may be that of a user whom the namespace does not have.
func (u users) number(uid uint32) (number uint32, unknown bool) {
	if u.partial && uid == u.overflow {
		return 0, true
	}
	return uid, false
}
