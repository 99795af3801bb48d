//go:build linux

// Package netns finds the network namespaces of a host, and enters them.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// ownProcfs is where the exporter's own procfs is mounted on every Linux host and in every container.
	ownProcfs = "/proc"
	// initialPIDNamespace is what /proc/self/ns/pid links to in the first PID namespace of a machine
	// (PROC_PID_INIT_INO, include/linux/proc_ns.h).
	initialPIDNamespace = "pid:[4026531836]"
)

// Main is the observed network namespace.
type Main struct {
	// Dir is the directory of a process that lives in the namespace, such as /proc/1. The socket tables are in its net/.
	Dir string
	// Own reports whether it is the exporter's own namespace, whose sysctls are in /proc/sys/net.
	Own bool
	// Warnings are sentences for the log. They say why this may not be the namespace that the user means.
	Warnings []string
}

// Find returns the exporter's own namespace if self is true, and otherwise the host's: that of PID 1 in the procfs mounted at procfs.
//
// It fails only if procfs is not a directory. A process that cannot be seen is an error of each read: that may change while the
// exporter runs.
func Find(procfs string, self bool) (Main, error) {
	return find(procfs, ownProcfs, self)
}

func find(procfs, own string, self bool) (Main, error) {
	info, err := os.Stat(procfs)
	if err != nil {
		return Main{}, fmt.Errorf("find a network namespace: %w", err)
	}
	if !info.IsDir() {
		return Main{}, fmt.Errorf("find a network namespace: %s is not a directory", procfs)
	}

	exporter := Main{Dir: filepath.Join(procfs, "self")}
	exporter.Own = same(exporter.Dir, filepath.Join(own, "self"))
	if self {
		return exporter, nil
	}

	host := Main{Dir: filepath.Join(procfs, "1")}
	if filepath.Clean(procfs) == own {
		if _, err := inode(host.Dir); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			exporter.Warnings = append(exporter.Warnings, fmt.Sprintf(
				"PID 1 cannot be seen in %s (hidepid, ProtectProc=invisible): observing the exporter's own network namespace instead of the host's", procfs))
			return exporter, nil
		}
		if link, err := os.Readlink(filepath.Join(own, "self/ns/pid")); err == nil && link != initialPIDNamespace {
			host.Warnings = append(host.Warnings, fmt.Sprintf(
				"%s shows a PID namespace that is not the machine's first: \"host\" is this container; mount the host's /proc and set --path.procfs", procfs))
		}
	}
	host.Own = same(host.Dir, filepath.Join(own, "self"))
	if _, err := inode(host.Dir); err != nil {
		host.Warnings = append(host.Warnings, fmt.Sprintf(
			"PID 1 cannot be seen in %s: nothing can be read until it can (%v)", procfs, err))
	} else if !host.Own {
		host.Warnings = append(host.Warnings,
			"the observed network namespace is not the exporter's own: it is read through procfs, and port ranges are the kernel's defaults, whatever its sysctls say")
	}
	return host, nil
}

// Number returns the number by which the kernel's own structures know the namespace: the inode of /proc/PID/ns/net. That of another
// process takes CAP_SYS_PTRACE, unless the process could be traced anyway. The error then names the capability.
func (m Main) Number() (uint32, error) {
	dir := m.Dir
	if m.Own {
		dir = filepath.Join(ownProcfs, "self") // needs no right
	}
	path := filepath.Join(dir, "ns/net")
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, withCapability("CAP_SYS_PTRACE", fmt.Errorf("stat %s: %w", path, err))
	}
	return uint32(stat.Ino), nil // proc_alloc_inum of fs/proc/generic.c: an unsigned int
}

// same reports whether two processes, given by their directories, share a network namespace.
func same(a, b string) bool {
	inodeA, errA := inode(a)
	inodeB, errB := inode(b)
	return errA == nil && errB == nil && inodeA == inodeB
}

// inode returns the number of the network namespace of a process, given by its directory.
func inode(dir string) (uint64, error) {
	path := filepath.Join(dir, tcpTable)
	number, err := inodeAt(unix.AT_FDCWD, path)
	if err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return number, nil
}
