//go:build linux

package inventory_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestTrafficOfAListenerIsCountedOnceItIsSeen(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		host.CgroupRoot(t)
		send := func(socket, packets int) {
			for range packets {
				to, err := unix.Getsockname(socket)
				if err == nil {
					err = unix.Sendto(socket, make([]byte, 72), 0, to)
				}
				if err == nil {
					_, _, err = unix.Recvfrom(socket, make([]byte, 72), 0) // by now it is counted
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		early := bind(t, "udp", "127.0.0.1:53")
		i := open(t, "netlink", func(o *inventory.Options) { o.Traffic = true })
		t.Cleanup(i.Close)
		if s := i.Snapshot(t.Context()); !s.Succeeded(inventory.CollectorTraffic) {
			t.Skipf("traffic cannot be counted here: %+v", s.Reads)
		}
		send(early, 3)
		late := bind(t, "udp", "127.0.0.1:54")
		send(late, 1)
		read(t, i)
		send(late, 2)
		s, _ := read(t, i)
		var got []string
		for _, p := range s.Traffic {
			got = append(got, fmt.Sprintf("%s %d: %d %d", p.Proto, p.Port, p.ReceivePackets, p.ReceiveBytes))
		}
		if got, want := strings.Join(got, ", "), "udp 53: 3 300, udp 54: 2 200"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestWithoutRightsOnlyTrafficIsMissing(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		host.CgroupRoot(t)
		listen(t, "tcp", "127.0.0.1:22")
		r := startReader(t, netnstest.AsNobody, task{Options: optionsOf("auto", func(o *inventory.Options) { o.Traffic = true })})
		s := r.snapshot(t)
		if len(s.Listeners) != 1 || s.Traffic != nil {
			t.Errorf("listeners %+v, traffic %+v", s.Listeners, s.Traffic)
		}
		for _, read := range s.Reads {
			wrong := read.Collector == inventory.CollectorTraffic
			if wrong != (read.Err != nil) || wrong && !strings.Contains(read.Err.Error(), "CAP_BPF and CAP_PERFMON and CAP_NET_ADMIN") {
				t.Errorf("%s: %v", read.Collector, read.Err)
			}
		}
	})
}
