//go:build linux

package socket

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

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
	at := func(address string, options ...netnstest.Option) openedSocket { return openedSocket{address, options} }
	sharing := func(address string) openedSocket { return at(address, reuse) }
	both := func(first, second openedSocket) []openedSocket { return []openedSocket{first, second} }
	siblings := func(address string) []openedSocket { return slices.Repeat([]openedSocket{sharing(address)}, 4) }
	tests := []struct {
		name    string
		sockets []openedSocket // the first is missing: the others may answer in its place
	}{
		{"by_itself", []openedSocket{at("127.0.0.1:9000")}},
		{"wildcard", []openedSocket{at("0.0.0.0:9000")}},
		{"address_of_an_interface", []openedSocket{at("10.0.0.1:9000")}},
		{"dual_stack", []openedSocket{at("[::]:9000")}},
		{"ipv6_only", []openedSocket{at("[::]:9000", only)}},
		{"ipv6_loopback", []openedSocket{at("[::1]:9000")}},
		{"ipv6_link_local", []openedSocket{at("[fe80::1%test0]:9000")}},
		{"ipv4_mapped", []openedSocket{at("[::ffff:127.0.0.1]:9000")}},
		{"bound_to_a_device", []openedSocket{at("0.0.0.0:9000", device)}},
		{"ipv6_bound_to_a_device", []openedSocket{at("[::]:9000", device)}},
		{"an_address_next_to_a_wildcard", both(sharing("127.0.0.1:9000"), sharing("0.0.0.0:9000"))},
		{"an_address_next_to_a_dual_stack_wildcard", both(sharing("127.0.0.1:9000"), sharing("[::]:9000"))},
		{"a_wildcard_next_to_a_dual_stack_wildcard", both(sharing("0.0.0.0:9000"), sharing("[::]:9000"))},
		{"a_dual_stack_wildcard_next_to_a_wildcard", both(sharing("[::]:9000"), sharing("0.0.0.0:9000"))},
		{"an_ipv6_address_next_to_an_ipv6_wildcard", both(sharing("[::1]:9000"), sharing("[::]:9000"))},
		{"an_ipv4_address_next_to_its_ipv4_mapped_address", both(sharing("127.0.0.1:9000"), sharing("[::ffff:127.0.0.1]:9000"))},
		{"an_ipv4_mapped_address_next_to_its_ipv4_address", both(sharing("[::ffff:127.0.0.1]:9000"), sharing("127.0.0.1:9000"))},
		{"one_with_a_device_next_to_one_without", both(at("0.0.0.0:9000", reuse, device), sharing("0.0.0.0:9000"))},
		{"one_without_a_device_next_to_one_with", both(sharing("0.0.0.0:9000"), at("0.0.0.0:9000", reuse, device))},
		{"siblings_that_share_the_port", siblings("0.0.0.0:9000")},
		{"ipv6_siblings_that_share_the_port", siblings("[::]:9000")},
	}
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		for _, proto := range []Protocol{TCP, UDP} {
			for _, test := range tests {
				// Whichever comes first: the kernel asks its sockets in the order of their birth.
				for _, othersFirst := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s_%s_%t", proto, test.name, othersFirst), func(t *testing.T) {
						n := liveNetlink(t)
						wanted, others := test.sockets[0], test.sockets[1:]
						openOthers := func() {
							for _, o := range others {
								o.open(t, proto)
							}
						}
						if othersFirst {
							openOthers()
						}
						closeNow, missing := opened(t, n, proto, wanted)
						if !othersFirst {
							openOthers()
						}
						if want := netip.MustParseAddrPort(wanted.address); missing.Addr != netip.AddrPortFrom(want.Addr().WithZone(""), want.Port()) {
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
						if got := len(readLive(t, n, proto)); got != len(others) {
							t.Errorf("a read gives %d sockets after it was closed, want %d", got, len(others))
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
