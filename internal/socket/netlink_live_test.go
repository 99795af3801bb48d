package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// openedSocket is a socket that a test opens.
type openedSocket struct {
	address string
	options []netnstest.Option
}

// open opens a socket that the test's end closes, if nothing has before.
func (o openedSocket) open(t *testing.T, proto Protocol) (closeNow func()) {
	t.Helper()
	fd, err := netnstest.Listen(proto.String(), o.address, o.options...)
	if err != nil {
		t.Fatal(err)
	}
	closeNow = sync.OnceFunc(func() { _ = unix.Close(fd) })
	t.Cleanup(closeNow)
	return closeNow
}

// liveNetlink returns a source of the test's own network namespace.
func liveNetlink(t *testing.T) *Netlink {
	t.Helper()
	n, err := OpenNetlink("/proc", TCP, UDP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	return n
}

// readLive returns a copy of what one Read gives.
func readLive(t *testing.T, s Source, proto Protocol) []Socket {
	t.Helper()
	sockets, _, err := s.Read(proto)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(sockets)
}

// confirm returns the sockets that Confirm gives for one that is missing.
func confirm(t *testing.T, s Source, proto Protocol, missing Socket) []Socket {
	t.Helper()
	there, err := s.Confirm(proto, []Socket{missing})
	if err != nil {
		t.Fatalf("confirm %+v: %v", missing, err)
	}
	return there
}

// opened opens a socket and returns what one Read says of it.
func opened(t *testing.T, n *Netlink, proto Protocol, o openedSocket) (closeNow func(), s Socket) {
	t.Helper()
	before := readLive(t, n, proto)
	closeNow = o.open(t, proto)
	after := readLive(t, n, proto)
	added := slices.DeleteFunc(after, func(s Socket) bool {
		return slices.ContainsFunc(before, func(b Socket) bool { return b.ID == s.ID })
	})
	if len(added) != 1 {
		t.Fatalf("after %s was opened a read gives the new sockets %+v, want one", o.address, added)
	}
	return closeNow, added[0]
}

func hasID(sockets []Socket, id uint64) bool {
	return slices.ContainsFunc(sockets, func(s Socket) bool { return s.ID == id })
}

// The kernel answers a lookup as it would deliver a packet: what it answers may be another socket.
func TestALookupConfirmsASocketAsLongAsItIsOpen(t *testing.T) {
	device, reuse, only := netnstest.ToDevice(netnstest.Device), netnstest.ReusePort(), netnstest.IPv6Only()
	tests := []struct {
		name    string
		missing openedSocket
		others  []openedSocket // which may answer in its place
	}{
		{name: "by_itself", missing: openedSocket{address: "127.0.0.1:9000"}},
		{name: "wildcard", missing: openedSocket{address: "0.0.0.0:9000"}},
		{name: "address_of_an_interface", missing: openedSocket{address: "10.0.0.1:9000"}},
		{name: "dual_stack", missing: openedSocket{address: "[::]:9000"}},
		{name: "ipv6_only", missing: openedSocket{address: "[::]:9000", options: []netnstest.Option{only}}},
		{name: "ipv6_loopback", missing: openedSocket{address: "[::1]:9000"}},
		{name: "ipv6_link_local", missing: openedSocket{address: "[fe80::1%test0]:9000"}},
		{name: "ipv4_mapped", missing: openedSocket{address: "[::ffff:127.0.0.1]:9000"}},
		{name: "bound_to_a_device", missing: openedSocket{address: "0.0.0.0:9000", options: []netnstest.Option{device}}},
		{name: "ipv6_bound_to_a_device", missing: openedSocket{address: "[::]:9000", options: []netnstest.Option{device}}},
		{
			name: "a_wildcard_next_to_an_address", missing: openedSocket{address: "127.0.0.1:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{{"0.0.0.0:9000", []netnstest.Option{reuse}}},
		},
		{
			name: "a_dual_stack_wildcard_next_to_an_address", missing: openedSocket{address: "127.0.0.1:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{{"[::]:9000", []netnstest.Option{reuse}}},
		},
		{
			name: "a_dual_stack_wildcard_next_to_a_wildcard", missing: openedSocket{address: "0.0.0.0:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{{"[::]:9000", []netnstest.Option{reuse}}},
		},
		{
			name: "a_wildcard_next_to_a_dual_stack_wildcard", missing: openedSocket{address: "[::]:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{{"0.0.0.0:9000", []netnstest.Option{reuse}}},
		},
		{
			name: "an_ipv6_wildcard_next_to_an_ipv6_address", missing: openedSocket{address: "[::1]:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{{"[::]:9000", []netnstest.Option{reuse}}},
		},
		{
			name: "an_ipv4_mapped_address_next_to_its_ipv4_address", missing: openedSocket{address: "127.0.0.1:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{{"[::ffff:127.0.0.1]:9000", []netnstest.Option{reuse}}},
		},
		{
			name: "an_ipv4_address_next_to_its_ipv4_mapped_address", missing: openedSocket{address: "[::ffff:127.0.0.1]:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{{"127.0.0.1:9000", []netnstest.Option{reuse}}},
		},
		{
			name: "one_without_a_device_next_to_one_with", missing: openedSocket{address: "0.0.0.0:9000", options: []netnstest.Option{reuse, device}},
			others: []openedSocket{{"0.0.0.0:9000", []netnstest.Option{reuse}}},
		},
		{
			name: "one_with_a_device_next_to_one_without", missing: openedSocket{address: "0.0.0.0:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{{"0.0.0.0:9000", []netnstest.Option{reuse, device}}},
		},
		{
			name: "siblings_that_share_the_port", missing: openedSocket{address: "0.0.0.0:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{
				{"0.0.0.0:9000", []netnstest.Option{reuse}}, {"0.0.0.0:9000", []netnstest.Option{reuse}}, {"0.0.0.0:9000", []netnstest.Option{reuse}},
			},
		},
		{
			name: "ipv6_siblings_that_share_the_port", missing: openedSocket{address: "[::]:9000", options: []netnstest.Option{reuse}},
			others: []openedSocket{
				{"[::]:9000", []netnstest.Option{reuse}}, {"[::]:9000", []netnstest.Option{reuse}}, {"[::]:9000", []netnstest.Option{reuse}},
			},
		},
	}
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		for _, proto := range []Protocol{TCP, UDP} {
			for _, test := range tests {
				// Whichever comes first: the kernel asks its sockets in the order of their birth.
				for _, othersFirst := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s_%s_%t", proto, test.name, othersFirst), func(t *testing.T) {
						n := liveNetlink(t)
						openOthers := func() {
							for _, o := range test.others {
								o.open(t, proto)
							}
						}
						if othersFirst {
							openOthers()
						}
						closeNow, missing := opened(t, n, proto, test.missing)
						if !othersFirst {
							openOthers()
						}
						if want := netip.MustParseAddrPort(test.missing.address); missing.Addr != netip.AddrPortFrom(want.Addr().WithZone(""), want.Port()) {
							t.Fatalf("a read gives %s, want %s", missing.Addr, want)
						}
						for range 3 {
							there := confirm(t, n, proto, missing)
							at := slices.IndexFunc(there, func(s Socket) bool { return s.ID == missing.ID })
							if at < 0 {
								t.Fatalf("%+v is open, but Confirm gives %+v", missing, there)
							}
							if there[at] != missing {
								t.Errorf("Confirm gives %+v, want %+v", there[at], missing)
							}
						}
						closeNow()
						for range 3 {
							if there := confirm(t, n, proto, missing); hasID(there, missing.ID) {
								t.Errorf("%+v is closed, but Confirm gives %+v", missing, there)
							}
						}
						if got := len(readLive(t, n, proto)); got != len(test.others) {
							t.Errorf("a read gives %d sockets after it was closed, want %d", got, len(test.others))
						}
					})
				}
			}
		}
	})
}

func TestADisconnectedUDPSocketIsConfirmed(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		for _, addresses := range [][2]string{
			{"127.0.0.1:9000", "127.0.0.1:9001"},
			{"[::1]:9000", "[::1]:9001"}, // the kernel leaves the remote address in place
		} {
			t.Run(addresses[0], func(t *testing.T) {
				n := liveNetlink(t)
				fd, err := netnstest.Bind("udp", addresses[0])
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = unix.Close(fd) }()
				missing := readLive(t, n, UDP)[0]
				if err := netnstest.Connect(fd, addresses[1]); err != nil {
					t.Fatal(err)
				}
				if sockets := readLive(t, n, UDP); len(sockets) != 0 {
					t.Errorf("a read gives the connected socket: %+v", sockets)
				}
				if there := confirm(t, n, UDP, missing); hasID(there, missing.ID) {
					t.Errorf("Confirm takes a connected socket for one that listens: %+v", there)
				}
				if err := netnstest.Disconnect(fd); err != nil {
					t.Fatal(err)
				}
				if sockets := readLive(t, n, UDP); !hasID(sockets, missing.ID) {
					t.Errorf("a read does not give the disconnected socket, but %+v", sockets)
				}
				if there := confirm(t, n, UDP, missing); !hasID(there, missing.ID) {
					t.Errorf("Confirm does not give the disconnected socket, but %+v", there)
				}
			})
		}
	})
}

func TestASourceThatFailedOpensItsSocketAgain(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		n := liveNetlink(t)
		openedSocket{address: "127.0.0.1:9000"}.open(t, TCP)
		want := readLive(t, n, TCP)
		if len(want) != 1 {
			t.Fatalf("a read gives %+v, want one socket", want)
		}
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			// Something that is no socket takes its place.
			null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Dup3(null, n.fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(null)
			if sockets, _, err := n.Read(TCP); !errors.Is(err, unix.ENOTSOCK) {
				t.Errorf("a read from what is no socket gives %+v, %v; want %v", sockets, err, unix.ENOTSOCK)
			}
			// And then no other can be opened.
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
				t.Fatal(err)
			}
			sockets, _, readErr := n.Read(TCP)
			_, confirmErr := n.Confirm(TCP, want)
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Fatal(err)
			}
			if !errors.Is(readErr, unix.EMFILE) || !errors.Is(confirmErr, unix.EMFILE) {
				t.Errorf("with no descriptor left: a read gives %+v, %v, a confirmation %v; want %v", sockets, readErr, confirmErr, unix.EMFILE)
			}
			for range 2 {
				if diff := cmp.Diff(want, readLive(t, n, TCP), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
					t.Errorf("after the failure (-before +after):\n%s", diff)
				}
			}
		}
	})
}
