//go:build linux

package lease_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// managerOf returns a manager of the ports of a range that nobody looks at: what it knows, it knows from binding them.
func managerOf(t *testing.T, r ports.Range) *lease.Manager {
	t.Helper()
	s, err := lease.OpenFile(filepath.Join(t.TempDir(), "leases.db"), "here", lease.HostClock())
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	m, err := lease.NewManager(lease.Options{Store: s, Host: "here", MaxTTL: time.Hour})
	must(t, err)
	m.Use(func() (lease.Rules, error) {
		return lease.Rules{
			Ranges:  []lease.Range{{Range: r, Team: "ci", Users: []string{"*"}}},
			Refuse:  func(uint16) string { return "" },
			Claim:   func(uint16) string { return "" },
			Service: func(string) bool { return false },
		}, nil
	})
	return m
}

// portHolder has a port in some way. It returns descriptors to be closed.
type portHolder func(t *testing.T, port uint16) []int

// on returns a holder that listens on a port of a host, or is only bound to it.
func on(open func(proto, address string, options ...netnstest.Option) (int, error), proto, host string, options ...netnstest.Option) portHolder {
	return func(t *testing.T, port uint16) []int {
		fd, err := open(proto, fmt.Sprintf("%s:%d", host, port), options...)
		must(t, err)
		return []int{fd}
	}
}

func listens(proto, host string, options ...netnstest.Option) portHolder {
	return on(netnstest.Listen, proto, host, options...)
}

func bound(proto, host string, options ...netnstest.Option) portHolder {
	return on(netnstest.Bind, proto, host, options...)
}

// connected has a connection of a port whose listener is closed.
func connected(t *testing.T, port uint16) []int {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	listener, err := netnstest.Listen("tcp", address)
	must(t, err)
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, netnstest.Connect(client, address))
	server, _, err := unix.Accept(listener)
	must(t, errors.Join(err, unix.Close(listener)))
	return []int{server, client}
}

// closed has a connection that the server has closed first, which leaves a TIME_WAIT.
func closed(t *testing.T, port uint16) []int {
	fds := connected(t, port)
	var rest [1]byte
	must(t, unix.Close(fds[0]))
	_, err := unix.Read(fds[1], rest[:]) // the end
	must(t, errors.Join(err, unix.Close(fds[1])))
	time.Sleep(50 * time.Millisecond) // for the last acknowledgement
	return nil
}

// connectedUDP has a UDP socket with a peer.
func connectedUDP(t *testing.T, port uint16) []int {
	fds := bound("udp", "127.0.0.1")(t, port)
	must(t, netnstest.Connect(fds[0], "127.0.0.1:9"))
	return fds
}

func TestAPortIsOnlyGivenIfNothingHasItInWhateverWay(t *testing.T) {
	const inUse, wasInUse = "in use", "in use by connections that were closed within the last minute"
	netnstest.Run(t, func(t *testing.T) {
		for i, test := range []struct {
			name string
			hold []portHolder
			why  string // it is not given
		}{
			{"nothing", nil, ""},
			{"TCP on [::]", []portHolder{listens("tcp", "[::]")}, inUse},
			{"TCP on 0.0.0.0", []portHolder{listens("tcp", "0.0.0.0")}, inUse},
			{"TCP on 127.0.0.1", []portHolder{listens("tcp", "127.0.0.1")}, inUse},
			{"TCP on 127.9.9.9", []portHolder{listens("tcp", "127.9.9.9")}, inUse},
			{"TCP on ::1", []portHolder{listens("tcp", "[::1]")}, inUse},
			{"TCP on [::] without IPv4", []portHolder{listens("tcp", "[::]", netnstest.IPv6Only())}, inUse},
			{"TCP on a link-local address", []portHolder{listens("tcp", "[fe80::1%test0]")}, inUse},
			{"TCP on an address of a device", []portHolder{listens("tcp", "10.0.0.1")}, inUse},
			{"TCP bound to a device", []portHolder{listens("tcp", "0.0.0.0", netnstest.ToDevice(netnstest.Device))}, inUse},
			{"TCP that shares its port", []portHolder{listens("tcp", "0.0.0.0", netnstest.ReusePort())}, inUse},
			{"TCP that does not listen", []portHolder{bound("tcp", "0.0.0.0")}, inUse},
			{"TCP on ::1 that does not listen", []portHolder{bound("tcp", "[::1]")}, inUse},
			{"UDP on [::]", []portHolder{listens("udp", "[::]")}, inUse},
			{"UDP on 0.0.0.0", []portHolder{listens("udp", "0.0.0.0")}, inUse},
			{"UDP on ::1", []portHolder{listens("udp", "[::1]")}, inUse},
			{"UDP that shares its port", []portHolder{listens("udp", "127.0.0.1", netnstest.ReusePort())}, inUse},
			{"UDP bound to a device", []portHolder{listens("udp", "0.0.0.0", netnstest.ToDevice(netnstest.Device))}, inUse},
			{"UDP with a peer", []portHolder{connectedUDP}, inUse},
			{"a connection without its listener", []portHolder{connected}, inUse},
			{"closed connections", []portHolder{closed}, wasInUse},
			{"closed connections and one that is not", []portHolder{closed, connected}, inUse},
			{"closed connections and who is about to listen", []portHolder{closed, bound("tcp", "127.0.0.1")}, wasInUse},
		} {
			t.Run(test.name, func(t *testing.T) {
				port := uint16(5000 + 2*i)
				fds := listens("tcp", "[::]")(t, port+1) // which is of no matter
				for _, hold := range test.hold {
					fds = append(fds, hold(t, port)...)
				}
				m := managerOf(t, ports.Range{First: port, Last: port})
				for _, proto := range []string{"tcp", "udp"} {
					l, _, err := m.Take(t.Context(), lease.Request{Proto: proto})
					var exhausted *lease.ExhaustedError
					switch {
					case test.why == "" && err == nil:
						_, err := m.End(t.Context(), l.ID, 0)
						must(t, err)
					case test.why == "", !errors.As(err, &exhausted):
						t.Errorf("%s: given %v, error %v", proto, l.Ports, err)
					case !slices.Equal(exhausted.Holders, []lease.PortHolder{{Port: port, Why: test.why}}) || exhausted.Left != 0:
						t.Errorf("%s: %+v", proto, exhausted)
					}
				}
				for _, fd := range fds {
					must(t, unix.Close(fd))
				}
			})
		}
	})
}

// TestAnExpiredLeaseIsNotReclaimedWhileAPortOfItIsInUse, not even for its other ports.
func TestAnExpiredLeaseIsNotReclaimedWhileAPortOfItIsInUse(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		m := managerOf(t, ports.Range{First: 5000, Last: 5001})
		old, _, err := m.Take(t.Context(), lease.Request{UID: alice, Count: 2, TTL: time.Second, Key: "k"})
		must(t, err)
		fd := bound("tcp", "[::1]")(t, 5001)[0]
		time.Sleep(1100 * time.Millisecond)
		var exhausted *lease.ExhaustedError
		if _, _, err := m.Take(t.Context(), lease.Request{UID: bob}); !errors.As(err, &exhausted) || exhausted.Holders[1].Why != "expired, but in use" {
			t.Errorf("%v: %+v", err, exhausted)
		}
		var problem *lease.FieldError
		if _, _, err := m.Take(t.Context(), lease.Request{UID: alice, Key: "k"}); !errors.As(err, &problem) || problem.Field != "key" {
			t.Errorf("with the key of the lease: %v", err)
		}
		must(t, unix.Close(fd))
		if _, _, err := m.Take(t.Context(), lease.Request{UID: alice, Key: "k"}); err != nil {
			t.Error(err)
		}
		if _, err := m.Renew(t.Context(), old.ID, alice); !errors.Is(err, lease.ErrNoLease) {
			t.Error(err)
		}
	})
}

func TestAPortThatTheExporterMayNotBindIsNotGiven(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		l, _, err := managerOf(t, ports.Range{First: 80, Last: 80}).Take(t.Context(), lease.Request{})
		var exhausted *lease.ExhaustedError
		switch {
		case os.Geteuid() == 0 && err != nil, os.Geteuid() != 0 && !errors.As(err, &exhausted):
			t.Errorf("given %v: %v", l.Ports, err)
		case exhausted != nil && exhausted.Holders[0].Why != "cannot be bound: permission denied":
			t.Errorf("%+v", exhausted)
		}
	})
}

func TestPortsAreProvenFreeWithoutIPv6(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o600))
		fd := listens("tcp", "127.0.0.1")(t, 5000)[0]
		defer func() { _ = unix.Close(fd) }()
		m := managerOf(t, ports.Range{First: 5000, Last: 5001})
		if l, _, err := m.Take(t.Context(), lease.Request{}); err != nil || l.Ports[0] != 5001 {
			t.Errorf("given %v: %v", l.Ports, err)
		}
		if l, _, err := m.Take(t.Context(), lease.Request{}); err == nil {
			t.Errorf("given %v", l.Ports)
		}
	})
}

// TestNothingIsLeftOpenAfterPortsWereProven, which would keep a server from its port.
func TestNothingIsLeftOpenAfterPortsWereProven(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		m := managerOf(t, ports.Range{First: 5000, Last: 5031})
		open := func() int {
			entries, err := os.ReadDir("/proc/self/fd")
			must(t, err)
			return len(entries)
		}
		before := open()
		l, _, err := m.Take(context.Background(), lease.Request{Count: 32})
		must(t, err)
		if after := open(); after > before {
			t.Errorf("%d descriptors are open, and %d were before", after, before)
		}
		for _, port := range l.Ports {
			for _, proto := range []string{"tcp", "udp"} {
				fd, err := unix.Socket(unix.AF_INET6, map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}[proto], 0)
				must(t, err)
				must(t, unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)}))
				must(t, unix.Close(fd))
			}
		}
	})
}
