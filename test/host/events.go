//go:build linux

package host

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CountsShortListeners opens and closes TCP listeners in the network namespace of the process, and waits until a program with
// events has counted exactly these. scrape returns a new page of it.
func CountsShortListeners(count int, scrape func() (Page, error)) error {
	opened := func() (int, error) {
		page, err := scrape()
		if err != nil {
			return 0, err
		}
		if rows := page.Rows("host_listen_collector_success", "collector"); !slices.Contains(rows, "event 1") {
			return 0, fmt.Errorf("host_listen_collector_success is %q, want event 1", rows)
		}
		if rows := page.Rows("host_listen_events_lost_total"); len(rows) != 1 || rows[0] != "0" {
			return 0, fmt.Errorf("host_listen_events_lost_total is %q, want 0", rows)
		}
		for _, row := range page.Rows("host_listen_opened_total", "proto") {
			if value, is := strings.CutPrefix(row, "tcp "); is {
				return strconv.Atoi(value)
			}
		}
		return 0, errors.New("there is no host_listen_opened_total")
	}
	before, err := opened()
	if err != nil {
		return err
	}
	for range count {
		if err := listenForAMoment(); err != nil {
			return err
		}
	}
	return Await(limit, Want(before+count, opened))
}

// listenForAMoment is not by net.Listen, which opens sockets of MPTCP.
func listenForAMoment() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: 7, Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(fd, 1),
		unix.Close(fd),
	)
}
