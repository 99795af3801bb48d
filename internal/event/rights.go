//go:build linux

package event

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// capability is one of include/uapi/linux/capability.h.
type capability struct {
	number uint
	name   string
}

var (
	capNetAdmin = capability{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}
	capSysAdmin = capability{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}
	capPerfmon  = capability{unix.CAP_PERFMON, "CAP_PERFMON"}
	capBPF      = capability{unix.CAP_BPF, "CAP_BPF"}
)

// missingRights names the capabilities that the process lacks. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON.
func missingRights(wanted ...capability) string {
	var sets [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if unix.Capget(&header, &sets[0]) != nil {
		return "" // the kernel will decide
	}
	has := func(c capability) bool { return sets[c.number/32].Effective>>(c.number%32)&1 == 1 }
	var missing []string
	for _, c := range wanted {
		if !has(c) && (c == capNetAdmin || !has(capSysAdmin)) {
			missing = append(missing, c.name)
		}
	}
	return strings.Join(missing, " and ")
}

// oldestKernel has the ring buffer, the capabilities CAP_BPF and CAP_PERFMON, and the clock that the programs read.
var oldestKernel = [2]int{5, 8}

// checkRights returns an error for what can be known before the kernel is asked.
func checkRights(wanted ...capability) error {
	if release, old := olderThan(oldestKernel); old {
		return fmt.Errorf("the kernel %s has no BPF ring buffer: want Linux %d.%d or newer", release, oldestKernel[0], oldestKernel[1])
	}
	if missing := missingRights(wanted...); missing != "" {
		return fmt.Errorf("the process lacks %s: add what is missing to AmbientCapabilities= and CapabilityBoundingSet= of its unit, or "+
			"to the capabilities of its container: %w", missing, unix.EPERM)
	}
	return nil
}

// cause is an error of the kernel without what the library guesses of EPERM.
func cause(err error) error {
	if errors.Is(err, unix.EPERM) {
		return unix.EPERM
	}
	return err
}

// explain puts what to do before an error of the kernel.
func explain(err error) error {
	lockdown, _ := os.ReadFile("/sys/kernel/security/lockdown")
	refused := errors.Is(err, unix.EPERM)
	err = cause(err)
	switch {
	// It makes a program that reads the kernel an invalid one.
	case strings.Contains(string(lockdown), "[confidentiality]") && (refused || errors.Is(err, unix.EINVAL)):
		return fmt.Errorf("the kernel's lockdown forbids eBPF programs to read the kernel: boot with lockdown=integrity, or without: %w", err)
	case !refused:
		return err
	case lockedMemory():
		return fmt.Errorf("the limit of locked memory is too low: set LimitMEMLOCK=infinity in the unit, or add CAP_SYS_RESOURCE: %w", err)
	default:
		return fmt.Errorf("the kernel refuses eBPF although the process has the capabilities: neither a user namespace nor a "+
			"filter of system calls (SystemCallFilter=, seccomp) may be around it: %w", err)
	}
}

// memlockKernel is the first that charges BPF memory to the cgroup. Before it, RLIMIT_MEMLOCK bounds it.
var memlockKernel = [2]int{5, 11}

// raiseMemlock raises RLIMIT_MEMLOCK where it counts. Where that is refused, the limit may be high enough.
func raiseMemlock() {
	if _, old := olderThan(memlockKernel); old {
		_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	}
}

// lockedMemory reports whether a low RLIMIT_MEMLOCK may have been in the way.
func lockedMemory() bool {
	var limit unix.Rlimit
	_, old := olderThan(memlockKernel)
	return old && unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur < 64<<20
}

// olderThan returns the release of the kernel, and whether it is older than a version.
func olderThan(version [2]int) (release string, older bool) {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "", false
	}
	release = unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return release, false
	}
	return release, major < version[0] || major == version[0] && minor < version[1]
}
