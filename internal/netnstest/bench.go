package netnstest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// HoldMany opens many sockets in a fresh network namespace, and returns a directory that stands for a procfs of which PID 1
// lives in there. The sockets are open as long as the test or benchmark runs, and belong to another process, like [Hold]'s.
//
// Of the listeners four fifths are TCP and the others UDP, all in the user range. A connection is two TCP sockets that do not
// listen. A process has 20 000 descriptors where nobody has raised the limit.
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
		if err := connectMany(connections); err != nil {
			tb.Fatal(err)
		}
	})
	procfs = tb.TempDir()
	if err := os.Symlink(filepath.Join("/proc", strconv.Itoa(pid)), filepath.Join(procfs, "1")); err != nil {
		tb.Fatal(err)
	}
	return procfs
}

// connectMany opens established connections over loopback, from a listener that is one more.
func connectMany(connections int) error {
	if connections == 0 {
		return nil
	}
	listener, err := Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	name, err := unix.Getsockname(listener)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port)).String()
	for range connections {
		client, err := Bind("tcp", "127.0.0.1:0")
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
