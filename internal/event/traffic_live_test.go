//go:build linux

package event

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/socket"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// The headers of a packet.
const (
	ipv4Header = 20
	ipv6Header = 40
	udpHeader  = 8
)

// openTraffic counts the traffic of ports in the test's own network namespace, until the test ends.
func openTraffic(t *testing.T, ports ...Port) *Traffic {
	t.Helper()
	root := host.CgroupRoot(t)
	traffic, err := OpenTraffic(root, ownNetns(t), 100)
	if errors.Is(err, unix.EPERM) {
		t.Skip(err)
	}
	if err == nil {
		t.Cleanup(func() { _ = traffic.Close() })
		err = traffic.SetPorts(slices.Values(ports))
	}
	if err != nil {
		t.Fatal(err)
	}
	return traffic
}

// counted returns the counters of all ports.
func counted(t *testing.T, traffic *Traffic) map[Port]Counters {
	t.Helper()
	ports := make(map[Port]Counters)
	if err := traffic.Read(func(p Port, c Counters) { ports[p] = c }); err != nil {
		t.Fatal(err)
	}
	return ports
}

// serveUDP answers each packet twice, until the test ends, and returns its port.
func serveUDP(t *testing.T, address string) Port {
	t.Helper()
	server, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		buffer := make([]byte, 65536)
		for {
			n, client, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			for range 2 {
				_, _ = server.WriteTo(buffer[:n], client)
			}
		}
	}()
	return Port{socket.UDP, server.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
}

// askUDP sends packets of a size, and waits for both answers to each.
func askUDP(t *testing.T, address string, packets, size int) {
	t.Helper()
	client, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	packet := make([]byte, size)
	for range packets {
		if _, err := client.Write(packet); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if n, err := client.Read(packet); err != nil || n != size {
				t.Fatalf("an answer of %d bytes: %v", n, err)
			}
		}
	}
}

func TestPacketsOfUDPAreCountedToTheByte(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		traffic := openTraffic(t)
		want := make(map[Port]Counters)
		for address, header := range map[string]int{
			"127.0.0.1": ipv4Header, "::1": ipv6Header, "10.0.0.1": ipv4Header, "fd00::1": ipv6Header,
		} {
			port := serveUDP(t, net.JoinHostPort(address, "0"))
			serveUDP(t, net.JoinHostPort(address, "0")) // nobody watches this one
			want[port] = Counters{}
			if err := traffic.SetPorts(maps.Keys(want)); err != nil {
				t.Fatal(err)
			}
			askUDP(t, net.JoinHostPort(address, fmt.Sprint(port.Number)), 7, 100)
			size := uint64(header + udpHeader + 100)
			want[port] = Counters{ReceivePackets: 7, ReceiveBytes: 7 * size, TransmitPackets: 14, TransmitBytes: 14 * size}
		}
		if diff := cmp.Diff(want, counted(t, traffic)); diff != "" {
			t.Errorf("counted (-want +got):\n%s", diff)
		}
	})
}

func TestPacketsOfTCPAreCountedFromTheFirstToTheLast(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		const size, segment = 10 << 20, 1000
		small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, segment) }), err)
		}}
		for _, address := range []string{"127.0.0.1", "::1", "fd00::1"} {
			t.Run(address, func(t *testing.T) {
				server, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = server.Close() }()
				port := Port{socket.TCP, uint16(server.Addr().(*net.TCPAddr).Port)}
				traffic := openTraffic(t, port)

				client, err := small.Dial("tcp", server.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				accepted, err := server.Accept() // by now all packets of the handshake have arrived
				if err != nil {
					t.Fatal(err)
				}
				shaken := counted(t, traffic)[port] // SYN and ACK, SYN+ACK
				if shaken.ReceivePackets != 2 || shaken.TransmitPackets != 1 {
					t.Errorf("after a handshake: %+v", shaken)
				}
				go func() {
					_, _ = io.CopyN(client, zeros{}, size)
					_ = client.(*net.TCPConn).CloseWrite()
				}()
				if n, err := io.Copy(io.Discard, accepted); n != size || err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				uploaded := counted(t, traffic)[port]
				// Segments that the kernel handles as one count as what they would be on the wire.
				if packets := uploaded.ReceivePackets; packets < size/segment || packets > 2*size/segment {
					t.Errorf("%d packets received, want those of %d bytes in segments of %d", packets, size, segment)
				}
				if bytes := uploaded.ReceiveBytes; bytes < size || bytes > size*11/10 {
					t.Errorf("%d bytes received, want %d and headers", bytes, size)
				}
				if bytes := uploaded.TransmitBytes; bytes == 0 || bytes > size/10 {
					t.Errorf("%d bytes sent, want those of acknowledgements", bytes)
				}
				go func() {
					_, _ = io.CopyN(accepted, zeros{}, size)
					_ = accepted.Close()
				}()
				if n, err := io.Copy(io.Discard, client); n != size || err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				_ = client.Close()
				if bytes := counted(t, traffic)[port].TransmitBytes; bytes < size || bytes > size*12/10 {
					t.Errorf("%d bytes sent, want %d and headers", bytes, size)
				}
			})
		}
	})
}

// zeros is endless.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestOnlyPacketsOfTheNamespaceAreCounted(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		traffic := openTraffic(t, Port{socket.UDP, 5300})
		for _, elsewhere := range []bool{true, false} {
			talk := func() error {
				askUDP(t, fmt.Sprintf("127.0.0.1:%d", serveUDP(t, "127.0.0.1:5300").Number), 3, 10)
				return nil
			}
			var want uint64
			if elsewhere {
				if err := netnstest.Elsewhere("", talk); err != nil {
					t.Fatal(err)
				}
			} else {
				want = 3
				_ = talk()
			}
			if got := counted(t, traffic)[Port{socket.UDP, 5300}].ReceivePackets; got != want {
				t.Errorf("elsewhere %t: %d packets, want %d", elsewhere, got, want)
			}
		}
	})
}

func TestAPortIsCountedFromWhenItIsWatched(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		kept, changed := serveUDP(t, "127.0.0.1:0"), serveUDP(t, "127.0.0.1:0")
		traffic := openTraffic(t)
		for step, test := range []struct {
			ports []Port
			want  map[Port]uint64 // packets
		}{
			{nil, map[Port]uint64{}},
			{[]Port{kept, changed, kept}, map[Port]uint64{kept: 1, changed: 1}},
			{[]Port{kept}, map[Port]uint64{kept: 2}},
			{[]Port{changed, kept}, map[Port]uint64{kept: 3, changed: 1}},
		} {
			if err := traffic.SetPorts(slices.Values(test.ports)); err != nil {
				t.Fatal(err)
			}
			for _, port := range []Port{kept, changed} {
				askUDP(t, fmt.Sprintf("127.0.0.1:%d", port.Number), 1, 10)
			}
			got := make(map[Port]uint64)
			for port, counters := range counted(t, traffic) {
				got[port] = counters.ReceivePackets
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("step %d (-want +got):\n%s", step, diff)
			}
		}
	})
}

func TestMorePortsThanThereIsRoomForAreAnError(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		traffic := openTraffic(t)
		ports := func(count int) []Port {
			var ports []Port
			for n := range count {
				ports = append(ports, Port{socket.TCP, uint16(1 + n)})
			}
			return ports
		}
		if err := traffic.SetPorts(slices.Values(ports(101))); !errors.Is(err, unix.E2BIG) {
			t.Errorf("one more than there is room for: %v", err)
		}
		if err := traffic.SetPorts(slices.Values(ports(100))); err != nil {
			t.Errorf("as many as there is room for: %v", err)
		}
		if got := len(counted(t, traffic)); got != 100 {
			t.Errorf("%d ports are watched", got)
		}
	})
}

func TestNothingStaysWhenTrafficIsCountedNoLonger(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		port := serveUDP(t, "127.0.0.1:0")
		address := fmt.Sprintf("127.0.0.1:%d", port.Number)
		openTraffic(t, port) // others' programs stay
		descriptors := func() int {
			open, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			return len(open)
		}
		var before int
		for round := range 20 {
			traffic := openTraffic(t, port)
			askUDP(t, address, 1, 10)
			if got := counted(t, traffic)[port].ReceivePackets; got != 1 {
				t.Errorf("%d packets", got)
			}
			if err := traffic.Close(); err != nil {
				t.Fatal(err)
			}
			askUDP(t, address, 1, 10)
			if round == 1 {
				before = descriptors()
			}
		}
		if after := descriptors(); after != before {
			t.Errorf("%d descriptors are open, and %d were before", after, before)
		}
	})
}
