//go:build linux

package kernels

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// Ports that the checks name.
const (
	devicePort    = 540 // bound to an interface
	fullPort      = 541 // its accept queue is full
	queuedUDPPort = 542 // packets wait there
	smallUDPPort  = 543 // its receive buffer is small
)

// listener is a listener of the machine, and what the program must say of it.
type listener struct {
	network string // tcp, udp or mptcp
	address string // an IPv6 address, mapped ones included, makes an IPv6 socket
	options options
	sockets int // 0 for 1
	scope   string
	reach   string // the label range; empty for privileged
	waiting int    // connections that nobody accepts
	hidden  bool   // it must not be shown
}

type options struct {
	ipv6Only bool
	device   string // SO_BINDTODEVICE
	backlog  int    // 0 for 16, -1 for 0
	buffer   int    // SO_RCVBUF
}

var known = []listener{
	{network: "tcp", address: "0.0.0.0:501", scope: "any"},
	{network: "tcp", address: "[::]:502", scope: "any"},
	{network: "tcp", address: "[::]:503", options: options{ipv6Only: true}, scope: "any"},
	// One port, two families, two sockets, two listeners.
	{network: "tcp", address: "0.0.0.0:504", scope: "any"},
	{network: "tcp", address: "[::]:504", options: options{ipv6Only: true}, scope: "any"},
	{network: "tcp", address: "127.0.0.1:505", scope: "loopback"},
	{network: "tcp", address: "[::1]:506", scope: "loopback"},
	{network: "tcp", address: "[::ffff:127.0.0.1]:507", scope: "loopback"},
	{network: "tcp", address: "127.0.0.1:508", scope: "loopback", sockets: 4}, // SO_REUSEPORT
	{network: "tcp", address: "10.1.2.3:509", scope: "private"},
	{network: "tcp", address: "203.0.113.1:510", scope: "public"},
	{network: "tcp", address: "[2001:db8::1]:511", scope: "public"},
	{network: "tcp", address: "0.0.0.0:" + strconv.Itoa(devicePort), options: options{device: "lo"}, scope: "any"},
	{network: "tcp", address: "127.0.0.1:40000", scope: "loopback", reach: "ephemeral"},
	{network: "tcp", address: "127.0.0.1:8080", scope: "loopback", reach: "user"},
	// TCP and UDP on one port.
	{network: "tcp", address: "127.0.0.1:513", scope: "loopback"},
	{network: "udp", address: "127.0.0.1:513", scope: "loopback"},

	{network: "udp", address: "0.0.0.0:514", scope: "any"},
	{network: "udp", address: "[::]:515", scope: "any"},
	{network: "udp", address: "[::]:516", options: options{ipv6Only: true}, scope: "any"},
	{network: "udp", address: "[::ffff:127.0.0.1]:517", scope: "loopback"},
	{network: "udp", address: "127.0.0.1:518", scope: "loopback", sockets: 4},
	{network: "udp", address: "127.0.0.1:40001", scope: "loopback", hidden: true}, // ephemeral, and young

	{network: "mptcp", address: "127.0.0.1:520", scope: "loopback", waiting: 2},
	{network: "mptcp", address: "[::]:521", scope: "any"},
	{network: "mptcp", address: "[::]:522", options: options{ipv6Only: true}, scope: "any"},
	{network: "mptcp", address: "127.0.0.1:523", scope: "loopback", sockets: 2},

	{network: "tcp", address: "127.0.0.1:530", options: options{backlog: 8}, scope: "loopback", waiting: 3},
	{network: "tcp", address: "127.0.0.1:" + strconv.Itoa(fullPort), options: options{backlog: -1}, scope: "loopback", waiting: 1},
	{network: "udp", address: "127.0.0.1:" + strconv.Itoa(queuedUDPPort), scope: "loopback"},
	{network: "udp", address: "127.0.0.1:" + strconv.Itoa(smallUDPPort), options: options{buffer: 1}, scope: "loopback"},
}

// table is the known listeners, open.
type table struct {
	listeners []listener
	small     int   // the descriptor of the socket on smallUDPPort
	held      []any // what the garbage collector would close
}

// openTable opens the known listeners, and sockets that do not listen and must not be shown.
func openTable(mptcp bool) (*table, error) {
	t := new(table)
	for _, l := range known {
		if l.network == "mptcp" && !mptcp {
			continue
		}
		for range max(l.sockets, 1) {
			if err := t.open(l); err != nil {
				return nil, fmt.Errorf("listen on %s %s: %w", l.network, l.address, err)
			}
		}
		for range l.waiting {
			if _, err := t.dial("tcp", l.address); err != nil {
				return nil, err
			}
		}
		if !l.hidden {
			t.listeners = append(t.listeners, l)
		}
	}
	return t, t.openOthers()
}

// open opens a socket of the listener.
func (t *table) open(l listener) error {
	if l.network == "mptcp" {
		return t.openMPTCP(l)
	}
	set := []netnstest.Option{netnstest.ReusePort()}
	if l.options.ipv6Only {
		set = append(set, netnstest.IPv6Only())
	}
	if l.options.device != "" {
		set = append(set, netnstest.ToDevice(l.options.device))
	}
	fd, err := netnstest.Bind(l.network, l.address, set...)
	if err != nil {
		return err
	}
	if l.port() == smallUDPPort {
		t.small = fd
	}
	if l.options.buffer > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, l.options.buffer); err != nil {
			return err
		}
	}
	if l.network == "udp" {
		return nil
	}
	return unix.Listen(fd, l.options.limit())
}

func (t *table) openMPTCP(l listener) error {
	var config net.ListenConfig
	config.SetMultipathTCP(true)
	config.Control = func(_, _ string, connection syscall.RawConn) error {
		return control(connection, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}
	network := "tcp"
	if l.options.ipv6Only {
		network = "tcp6"
	}
	listening, err := config.Listen(context.Background(), network, l.address)
	if err != nil {
		return err
	}
	t.held = append(t.held, listening)
	connection, err := listening.(*net.TCPListener).SyscallConn()
	if err != nil {
		return err
	}
	// A second listen(2) changes the backlog.
	return control(connection, func(fd int) error { return unix.Listen(fd, l.options.limit()) })
}

func control(connection syscall.RawConn, do func(fd int) error) error {
	var result error
	err := connection.Control(func(fd uintptr) { result = do(int(fd)) })
	return errors.Join(err, result)
}

// dial returns a connection that stays open.
func (t *table) dial(network, address string) (net.Conn, error) {
	connection, err := net.Dial(network, address)
	t.held = append(t.held, connection)
	return connection, err
}

// openOthers opens sockets that do not listen: both ends of a TCP connection whose listener is closed, a bound TCP socket, and
// a connected UDP socket.
func (t *table) openOthers() error {
	closing, err := net.Listen("tcp", "127.0.0.1:550")
	if err != nil {
		return err
	}
	if _, err := t.dial("tcp", "127.0.0.1:550"); err != nil {
		return err
	}
	accepted, err := closing.Accept()
	if err != nil {
		return err
	}
	t.held = append(t.held, accepted)
	if err := closing.Close(); err != nil {
		return err
	}
	if _, err := netnstest.Bind("tcp", "127.0.0.1:551"); err != nil {
		return err
	}
	client, err := t.dial("udp", "127.0.0.1:"+strconv.Itoa(queuedUDPPort))
	if err != nil {
		return err
	}
	for range 3 {
		if _, err := client.Write(make([]byte, 100)); err != nil {
			return err
		}
	}
	return nil
}

// lines returns the samples that the program must show: those whose value is known. The limits and the IPv6-only flag are only
// there with detailed, and only then is it known that a listener on lo reaches nobody else.
func (t *table) lines(detailed bool) ([]string, error) {
	text, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		return nil, err
	}
	somaxconn, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range t.listeners {
		if detailed && l.options.device == "lo" {
			l.scope = "loopback"
		}
		sample := func(name string, value int) {
			lines = append(lines, fmt.Sprintf("host_listen_%s %s %d", name, l.labels(), value))
		}
		sample("port", 1)
		sample("port_sockets", max(l.sockets, 1))
		if l.proto() == "tcp" {
			sample("port_accept_queue_length", l.waiting)
		}
		if detailed && l.proto() == "tcp" {
			sample("port_accept_queue_limit", min(l.options.limit(), somaxconn))
		}
		if detailed && l.ip().Is6() {
			sample("port_ipv6_only", l.ipv6Only())
		}
	}
	return lines, nil
}

// labels are the values of the labels of the listener: proto, address, port, family, range and scope.
func (l *listener) labels() string {
	family := "ipv4"
	if l.ip().Is6() {
		family = "ipv6"
	}
	reach := l.reach
	if reach == "" {
		reach = "privileged"
	}
	return fmt.Sprintf("%s %s %d %s %s %s", l.proto(), l.ip(), l.port(), family, reach, l.scope)
}

func (l *listener) ip() netip.Addr { return netip.MustParseAddrPort(l.address).Addr() }

func (l *listener) port() uint16 { return netip.MustParseAddrPort(l.address).Port() }

// ipv6Only is 1 for what takes no IPv4: by its option, or by an address that IPv4 cannot reach (inet6_bind in
// net/ipv6/af_inet6.c).
func (l *listener) ipv6Only() int {
	if l.options.ipv6Only || !l.ip().IsUnspecified() && !l.ip().Is4In6() {
		return 1
	}
	return 0
}

// proto is the label: a listening MPTCP socket is a listening TCP port to its users.
func (l *listener) proto() string {
	if l.network == "mptcp" {
		return "tcp"
	}
	return l.network
}

func (o options) limit() int {
	switch o.backlog {
	case 0:
		return 16
	case -1:
		return 0
	default:
		return o.backlog
	}
}

// hasMPTCP reports whether the kernel opens MPTCP sockets.
func hasMPTCP() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
