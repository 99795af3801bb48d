// Package netns finds the network namespace whose sockets are observed, and tells it apart from the exporter's own.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Mode says whose network namespace is observed: the values of --collector.netns.
type Mode string

const (
	// Host is the namespace of PID 1 under the procfs that is read.
	Host Mode = "host"
	// Self is the exporter's own namespace.
	Self Mode = "self"
)

const (
	// ownProcfs is where the exporter's own procfs is mounted on every Linux host and in every container.
	ownProcfs = "/proc"
	// initialPIDNamespace is what /proc/self/ns/pid links to in the first PID namespace of a machine
	// (PROC_PID_INIT_INO, include/linux/proc_ns.h).
	initialPIDNamespace = "pid:[4026531836]"
)

// Main is the network namespace that is observed, and the way to it.
type Main struct {
	// Dir is the directory of a process that lives in the namespace, such as /proc/1: the socket tables stand below its net/.
	Dir string
	// Own tells that it is the exporter's own namespace, of which /proc/sys/net speaks.
	Own bool
	// Warnings are sentences for the log: why the namespace may not be the one the user means.
	Warnings []string
}

// Find returns the namespace that mode names under the procfs mounted at procfs.
//
// It fails only where procfs is not a directory. A process that cannot be looked into is a matter of each read: it may be
// mended while the exporter runs.
func Find(procfs string, mode Mode) (Main, error) {
	return find(procfs, ownProcfs, mode)
}

func find(procfs, own string, mode Mode) (Main, error) {
	info, err := os.Stat(procfs)
	if err != nil {
		return Main{}, fmt.Errorf("find a network namespace: %w", err)
	}
	if !info.IsDir() {
		return Main{}, fmt.Errorf("find a network namespace: %s is not a directory", procfs)
	}

	self := Main{Dir: filepath.Join(procfs, "self")}
	self.Own = same(self.Dir, filepath.Join(own, "self"))
	if mode == Self {
		return self, nil
	}

	host := Main{Dir: filepath.Join(procfs, "1")}
	if isOwn := filepath.Clean(procfs) == own; isOwn {
		if _, err := inode(host.Dir); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			self.Warnings = append(self.Warnings, fmt.Sprintf(
				"PID 1 cannot be seen in %s (hidepid, ProtectProc=invisible): observing the exporter's own network namespace instead of the host's", procfs))
			return self, nil
		}
		if link, err := os.Readlink(filepath.Join(own, "self/ns/pid")); err == nil && link != initialPIDNamespace {
			host.Warnings = append(host.Warnings, fmt.Sprintf(
				"%s belongs to a PID namespace that is not the machine's first: \"host\" is this container; mount the host's /proc and name it with --path.procfs", procfs))
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

// same tells whether two processes, named by their directories, share a network namespace. The inode number of net/tcp
// belongs to the namespace and is the same in every procfs mount. ns/net would say it too, but reading that link takes
// ptrace rights.
func same(a, b string) bool {
	inodeA, errA := inode(a)
	inodeB, errB := inode(b)
	return errA == nil && errB == nil && inodeA == inodeB
}

// inode returns the inode number of net/tcp below a process's directory.
func inode(dir string) (uint64, error) {
	path := filepath.Join(dir, "net/tcp")
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("stat %s: no inode number", path)
	}
	return stat.Ino, nil
}
