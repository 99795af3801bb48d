//go:build linux

package holder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Needs returns what this process lacks to see the open files of every process in the procfs mounted at procfs, such as
// "CAP_SYS_PTRACE". It is empty if nothing is hidden from it.
func Needs(procfs string) string {
	if !(processes{procfs: procfs}).hidesSome() {
		return ""
	}
	const rights = "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
	switch {
	case seesAll():
		return "the host's user namespace, or a security module that allows it"
	case os.Geteuid() == 0:
		return rights
	}
	return "root, or " + rights
}

// hidesSome reports whether a process other than PID 1, which is never an exact holder, does not show its open files. PID 1 is always
// there: if it cannot be seen, others may be hidden too (hidepid in proc(5)).
func (p processes) hidesSome() bool {
	if _, err := os.Stat(p.pidDir(1)); errors.Is(err, unix.ENOENT) {
		return true
	}
	pids, _ := p.list()
	for _, pid := range pids {
		if pid != 1 && pid != os.Getpid() && refused(p.pidDir(pid)+"/fd") {
			return true
		}
	}
	return false
}

// refused reports whether the kernel refuses to show the links in a directory of open files. It may show their names all the same:
// those are shown to the user of the process, the links to whoever may trace it (proc_fd_access_allowed in fs/proc/base.c).
func refused(dir string) bool {
	opened, err := openDir(dir)
	if err == nil {
		defer func() { _ = opened.Close() }()
		var names []string
		if names, err = opened.Readdirnames(1); err == nil {
			var link [1]byte
			_, err = unix.Readlinkat(int(opened.Fd()), names[0], link[:])
		}
	}
	return isOneOf(err, unix.EACCES, unix.EPERM)
}

// seesAll reports whether this process has the rights to see open files that Needs names, in its user namespace.
func seesAll() bool {
	const rights = 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_DAC_READ_SEARCH // both in the first of two words
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&rights == rights
}
