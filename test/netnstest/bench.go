//go:build linux

package netnstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// HoldMany opens many sockets in a fresh network namespace, and returns a directory like a procfs whose PID 1 lives there. The
// sockets are open as long as the test or benchmark runs, and belong to another process, like those of [Hold].
//
// Four fifths of the listeners are TCP and the others UDP, all in the user range. A connection is two TCP sockets that do not
// listen. As a rule a process may open 20 000 descriptors.
func HoldMany(tb testing.TB, listeners, connections int) (procfs string) {
	tb.Helper()
	pid := Hold(tb, 0, func() {
		for n := range listeners {
			proto := "tcp"
			if n%5 == 4 {
				proto = "udp"
			}
			if _, err := Listen(proto, fmt.Sprintf("0.0.0.0:%d", 10_000+n)); err != nil {
				tb.Fatal(err)
			}
		}
		if connections > 0 {
			if err := ConnectMany("127.0.0.1", connections); err != nil {
				tb.Fatal(err)
			}
		}
	})
	procfs = tb.TempDir()
	if err := os.Symlink(filepath.Join("/proc", strconv.Itoa(pid)), filepath.Join(procfs, "1")); err != nil {
		tb.Fatal(err)
	}
	return procfs
}

// ConnectMany opens established connections from a loopback address to itself, through one more listener. One address has ports
// for some 25 000.
func ConnectMany(address string, connections int) error {
	listener, err := Listen("tcp", address+":0")
	if err != nil {
		return err
	}
	name, err := unix.Getsockname(listener)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	local := fmt.Sprintf("%s:%d", address, name.(*unix.SockaddrInet4).Port)
	for range connections {
		client, err := Bind("tcp", address+":0")
		if err != nil {
			return err
		}
		if err := Connect(client, local); err != nil {
			return err
		}
		if _, _, err := unix.Accept(listener); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
	}
	return nil
}
