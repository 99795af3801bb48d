package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// The load of netns-250: so many network namespaces of so many processes each, the first of which has two listeners, with the
// same ports everywhere.
const (
	benchNamespaces       = 250
	processesPerNamespace = 20
	listenersPerNamespace = 2
	namespaceTCPPort      = 8080
	namespaceUDPPort      = 53
)

// runNetns is where ip-netns(8) looks for the names of namespaces.
const runNetns = "/run/netns"

// namespaces are network namespaces of processes of a load.
type namespaces struct {
	names []string
	pids  []int // the first process of each
	open  []int // the namespaces
}

// startNamespaces starts so many namespaces of so many processes, which ip-netns(8) knows by their names. They end with this
// process, as their names do: it has a mount namespace of its own.
func startNamespaces(n, processes int) (made namespaces, err error) {
	if err := errors.Join(unix.Mount("none", "/run", "tmpfs", 0, ""), os.Mkdir(runNetns, 0o755)); err != nil {
		return made, err
	}
	for i := range n {
		one := tiny{
			name: holderName, newNet: true, tcp: namespaceTCPPort, udp: namespaceUDPPort,
			files: 10, siblings: processes - 1,
		}
		pid, err := one.start()
		if err != nil {
			return made, err
		}
		name := fmt.Sprintf("bench-%d", i)
		if err := made.add(name, pid); err != nil {
			return made, fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	return made, nil
}

// add opens the namespace of a process and gives it a name.
func (n *namespaces) add(name string, pid int) error {
	from := fmt.Sprintf("/proc/%d/ns/net", pid)
	to := filepath.Join(runNetns, name)
	if err := errors.Join(os.WriteFile(to, nil, 0o444), unix.Mount(from, to, "", unix.MS_BIND, "")); err != nil {
		return err
	}
	fd, err := unix.Open(from, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	n.names, n.pids, n.open = append(n.names, name), append(n.pids, pid), append(n.open, fd)
	return nil
}

// visiting calls do, which may change this thread's network namespace, and goes back after it.
func visiting(do func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(do(), unix.Setns(own, unix.CLONE_NEWNET), unix.Close(own)); err != nil {
		return err // and keep the thread, which may be in the wrong namespace
	}
	runtime.UnlockOSThread()
	return nil
}

// rawDumps is the least that netlink dumps in all namespaces can cost: it enters each, opens a socket, dumps all four tables, and
// looks at none.
func (n namespaces) rawDumps(sockets int) func() (time.Duration, error) {
	raw := &rawDump{}
	return timed(func() error {
		return visiting(func() error {
			got := 0
			for _, namespace := range n.open {
				err := unix.Setns(namespace, unix.CLONE_NEWNET)
				if err != nil {
					return err
				}
				if raw.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG); err != nil {
					return err
				}
				found, err := raw.all(unix.IPPROTO_TCP, unix.IPPROTO_UDP)
				if err := errors.Join(err, unix.Close(raw.fd)); err != nil {
					return err
				}
				got += found
			}
			if got != sockets {
				return fmt.Errorf("%d sockets, want %d", got, sockets)
			}
			return nil
		})
	})
}

// rawReads is the least that the tables in /proc of all namespaces can cost: it reads all four, and looks at none.
func (n namespaces) rawReads() func() (time.Duration, error) {
	buffer := make([]byte, 64<<10)
	return timed(func() error {
		for _, pid := range n.pids {
			for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
				if err := readThrough(fmt.Sprintf("/proc/%d/net/%s", pid, table), buffer); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// readThrough reads a file to its end.
func readThrough(path string, buffer []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	for err == nil {
		var length int
		if length, err = unix.Read(fd, buffer); length == 0 {
			break
		}
	}
	return errors.Join(err, unix.Close(fd))
}

// inEach is a side: a command in each namespace, one after another.
func (n namespaces) inEach(name string, args ...string) side {
	all := side{name: fmt.Sprintf("ip netns exec … %s, in each", command(name, args...).name)}
	all.sample = timed(func() error {
		for _, namespace := range n.names {
			if _, err := command("ip", append([]string{"netns", "exec", namespace, name}, args...)...).sample(); err != nil {
				return err
			}
		}
		return nil
	})
	return all
}
