//go:build linux

package socket

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// ss returns what ss(8) shows of the sockets that listen, a line for each: its columns Netid, Recv-Q, Send-Q and Local Address:Port,
// d of skmem and, for UDP, rb.
func ss(t *testing.T) []string {
	t.Helper()
	output, err := exec.Command("ss", "-lntuHmO").Output()
	if err != nil {
		t.Fatalf("ss: %v", err)
	}
	var lines []string
	for line := range strings.Lines(string(output)) {
		columns := strings.Fields(line)
		shown := []string{columns[0], columns[2], columns[3], columns[4]}
		memory := strings.Split(strings.TrimSuffix(columns[len(columns)-1], ")"), ",") // skmem:(r0,rb212992,t0,tb212992,f0,w0,o0,bl0,d0)
		shown = append(shown, memory[len(memory)-1])
		if columns[0] == "udp" { // for TCP the limit is the backlog
			shown = append(shown, memory[1])
		}
		lines = append(lines, strings.Join(shown, " "))
	}
	slices.Sort(lines)
	return lines
}

// asSSShows returns what ss would show of sockets. How it names an interface that is gone is "if" and its index.
func asSSShows(proto Protocol, sockets []Socket) []string {
	var lines []string
	for _, s := range sockets {
		address := s.Addr.Addr().String()
		switch {
		case s.Addr.Addr() == netip.IPv6Unspecified() && !s.IPv6Only:
			address = "*"
		case s.Addr.Addr().Is6():
			address = "[" + address + "]"
		}
		if s.Device == DeviceGone {
			address += fmt.Sprintf("%%if%d", s.Interface)
		} else if s.Device != "" {
			address += "%" + s.Device
		}
		if proto == TCP {
			lines = append(lines, fmt.Sprintf("tcp %d %d %s:%d d%d", s.Queue, s.QueueLimit, address, s.Addr.Port(), s.Drops))
		} else {
			lines = append(lines, fmt.Sprintf("udp %d 0 %s:%d d%d rb%d", s.Queue, address, s.Addr.Port(), s.Drops, s.QueueLimit))
		}
	}
	return lines
}

// openDifferent opens sockets of every kind that a reader can take for another one.
func openDifferent(t *testing.T) {
	device := netnstest.ToDevice
	reuse, only := netnstest.ReusePort(), netnstest.IPv6Only()
	ip(t, "link", "add", "dead0", "type", "bridge")
	interfaces := []string{"lo", netnstest.Device, "dead0"}
	for _, kind := range []string{"bridge", "dummy", "vrf table 10"} {
		name := kind[:3] + "0"
		if exec.Command("ip", append([]string{"link", "add", name, "type"}, strings.Fields(kind)...)...).Run() == nil { // else the kernel has none
			interfaces = append(interfaces, name)
		}
	}
	for _, proto := range []Protocol{TCP, UDP} {
		open := func(address string, options ...netnstest.Option) int {
			fd, err := netnstest.Listen(proto.String(), address, options...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(fd) })
			return fd
		}
		for _, name := range interfaces {
			open("0.0.0.0:8000", device(name))
			open("[::]:8001", device(name))
			open("[::]:8002", device(name), only)
			open("127.0.0.1:8003", device(name))
		}
		open("[::]:8010") // also takes IPv4
		open("[::]:8011", only)
		open("0.0.0.0:8011")
		open("[::ffff:127.0.0.1]:8012")
		open("[::ffff:0.0.0.0]:8013")
		open("127.0.0.1:8014")
		open("[::1]:8014")
		open("[fe80::1%" + netnstest.Device + "]:8015")
		open("10.0.0.1:8016")
		for range 3 {
			open("0.0.0.0:8020", reuse)
			open("[::]:8021", reuse)
		}
		open("0.0.0.0:8125") // reserved
		open("0.0.0.0:0")    // any port that is free
	}
	connected, err := netnstest.Bind("udp", "127.0.0.1:8030") // which does not listen
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(connected) })
	if err := netnstest.Connect(connected, "127.0.0.1:8014"); err != nil {
		t.Fatal(err)
	}
	for range 3 { // UDP with a queue
		if _, err := unix.Write(connected, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	waiting, err := netnstest.Bind("tcp", "127.0.0.1:0") // TCP with a queue
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(waiting) })
	if err := netnstest.Connect(waiting, "127.0.0.1:8014"); err != nil {
		t.Fatal(err)
	}
	ip(t, "link", "del", "dead0")
}

func TestWhatSSShowsIsRead(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("needs ss, of iproute2")
	}
	netnstest.RunAsRootAndNobody(t, func(t *testing.T) {
		if err := setSysctls([...]string{"1024", "1024 65535", "8125"}); err != nil {
			t.Fatal(err)
		}
		openDifferent(t)
	}, func(t *testing.T) {
		n := liveNetlink(t)
		for deadline := time.Now().Add(10 * time.Second); ; { // a queue may be on its way
			before := ss(t)
			var got []string
			for _, proto := range []Protocol{TCP, UDP} {
				got = append(got, asSSShows(proto, readLive(t, n, proto))...)
			}
			slices.Sort(got)
			diff := cmp.Diff(before, got)
			if diff == "" && len(got) > 50 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d sockets (-ss +netlink):\n%s", len(got), diff)
			}
		}
		for _, proto := range []Protocol{TCP, UDP} {
			if diff := cmp.Diff(inTables(readLive(t, n, proto)), inTables(readLive(t, NewProcfs("/proc/self", ""), proto))); diff != "" {
				t.Errorf("%s sockets (-netlink +procfs):\n%s", proto, diff)
			}
		}
	})
}

// inTables returns what the tables of procfs have of sockets. The device is not in them.
func inTables(sockets []Socket) []string {
	var lines []string
	for _, s := range sockets {
		lines = append(lines, fmt.Sprintf("%s inode %d uid %d queue %d", s.Addr, s.Inode, s.UID, s.Queue))
	}
	slices.Sort(lines)
	return lines
}
