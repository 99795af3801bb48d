//go:build linux

package inventory_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestTrafficOfAListenerIsCountedOnceItIsSeen(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		host.CgroupRoot(t)
		send := func(port, packets int) {
			conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			for range packets {
				if _, err := conn.Write(make([]byte, 72)); err != nil {
					t.Fatal(err)
				}
			}
		}
		bind(t, "udp", "127.0.0.1:53")
		i := open(t, "netlink", func(o *inventory.Options) { o.Traffic = true })
		t.Cleanup(i.Close)
		if s := i.Snapshot(t.Context()); !s.Succeeded(inventory.CollectorTraffic) {
			t.Skipf("traffic cannot be counted here: %+v", s.Reads)
		}
		send(53, 3)
		bind(t, "udp", "127.0.0.1:54")
		send(54, 1)
		read(t, i)
		send(54, 2)
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
