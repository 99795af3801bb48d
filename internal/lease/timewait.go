//go:build linux

package lease

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxSockets is how many bytes are read of a list of sockets: nobody shall keep the exporter busy by asking for what is not there.
const maxSockets = 4 << 20

// closedConnections returns the ports of which the kernel lists nothing but connections that were closed. It keeps the end that was closed
// first for a minute, as TIME_WAIT (proc_pid_net(5)).
func closedConnections() *portSet {
	const timeWait = "06" // TCP_TIME_WAIT, include/net/tcp_states.h
	waiting, others := new(portSet), new(portSet)
	for _, path := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(path)
		if err != nil {
			continue // without IPv6 there is no tcp6
		}
		for lines := bufio.NewScanner(io.LimitReader(f, maxSockets)); lines.Scan(); {
			fields := strings.Fields(lines.Text()) // sl local_address rem_address st …
			if len(fields) < 4 {
				continue
			}
			_, digits, _ := strings.Cut(fields[1], ":")
			port, err := strconv.ParseUint(digits, 16, 16)
			switch {
			case err != nil:
			case fields[3] == timeWait:
				waiting.add(uint16(port))
			default:
				others.add(uint16(port))
			}
		}
		_ = f.Close()
	}
	waiting.without(others)
	return waiting
}
