package kernels

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ipprotoMPTCP is IPPROTO_MPTCP of include/uapi/linux/in.h.
const ipprotoMPTCP = 262

// Ports that the checks name.
const (
	devicePort    = 540 // bound to an interface
	fullPort      = 541 // its accept queue is full
	queuedUDPPort = 542 // packets wait there
	smallUDPPort  = 543 // its receive buffer is small
)

// listener is a listener that is known to be there, and what the program must say of it.
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
	freebind bool   // the machine has no such address
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
	{network: "tcp", address: "10.1.2.3:509", options: options{freebind: true}, scope: "private"},
	{network: "tcp", address: "203.0.113.1:510", options: options{freebind: true}, scope: "public"},
	{network: "tcp", address: "[2001:db8::1]:511", options: options{freebind: true}, scope: "public"},
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

// defaultBacklog is the backlog of a listener that names none.
const defaultBacklog = 16

// table is the known listeners, open.
type table struct {
	listeners []listener
	small     int // the descriptor of the socket on smallUDPPort
}

// openTable opens the known listeners, and sockets that are none: they must not be shown.
func openTable(mptcp bool) (*table, error) {
	t := new(table)
	for _, l := range known {
		if l.network == "mptcp" && !mptcp {
			continue
		}
		for range max(l.sockets, 1) {
			fd, err := listen(l.network, l.address, l.options)
			if err != nil {
				return nil, fmt.Errorf("listen on %s %s: %w", l.network, l.address, err)
			}
			if l.port() == smallUDPPort {
				t.small = fd
			}
			var stat unix.Stat_t
			if err := unix.Fstat(fd, &stat); err == nil && l.network == "mptcp" {
				fmt.Println(comment(fmt.Sprintf("mptcp: %s is inode %d to its owner", l.address, stat.Ino)))
			}
		}
		for range l.waiting {
			if _, err := dial("tcp", l.address); err != nil {
				return nil, err
			}
		}
		if !l.hidden {
			t.listeners = append(t.listeners, l)
		}
	}
	return t, t.openOthers()
}

// openOthers opens sockets that do not listen: both ends of a TCP connection whose listener is closed, a bound TCP socket, and
// a connected UDP socket.
func (t *table) openOthers() error {
	closing, err := listen("tcp", "127.0.0.1:550", options{})
	if err != nil {
		return err
	}
	if _, err := dial("tcp", "127.0.0.1:550"); err != nil {
		return err
	}
	if _, _, err := unix.Accept4(closing, unix.SOCK_CLOEXEC); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	if err := unix.Close(closing); err != nil {
		return err
	}
	if _, err := bind("tcp", "127.0.0.1:551", options{}); err != nil {
		return err
	}
	client, err := dial("udp", "127.0.0.1:"+strconv.Itoa(queuedUDPPort))
	if err != nil {
		return err
	}
	for range 3 {
		if _, err := unix.Write(client, make([]byte, 100)); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// add enters a listener that somebody else has opened.
func (t *table) add(l listener) { t.listeners = append(t.listeners, l) }

// lines returns the samples by which the program must tell of the table: those whose value is known. The limits and the
// IPv6-only flag are there with detailed alone.
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
		sample := func(name string, value int) {
			lines = append(lines, fmt.Sprintf("host_listen_%s%s %d", name, l.labels(), value))
		}
		sample("port", 1)
		sample("port_sockets", max(l.sockets, 1))
		if l.proto() == "tcp" {
			sample("port_accept_queue_length", l.waiting)
		}
		if !detailed {
			continue
		}
		if l.proto() == "tcp" {
			sample("port_accept_queue_limit", min(l.options.limit(), somaxconn))
		}
		if l.ipv6() {
			sample("port_ipv6_only", l.ipv6Only())
		}
	}
	return lines, nil
}

// labels are the listener's, as a metrics page has them, without the device.
func (l *listener) labels() string {
	family := "ipv4"
	if l.ipv6() {
		family = "ipv6"
	}
	reach := l.reach
	if reach == "" {
		reach = "privileged"
	}
	at := netip.MustParseAddrPort(l.address)
	return fmt.Sprintf(`{address="%s",family="%s",port="%d",proto="%s",range="%s",scope="%s"}`,
		at.Addr(), family, at.Port(), l.proto(), reach, l.scope)
}

func (l *listener) ipv6() bool { return netip.MustParseAddrPort(l.address).Addr().Is6() }

// ipv6Only is 1 for what takes no IPv4: by its option, or by an address that IPv4 cannot reach (inet6_bind in
// net/ipv6/af_inet6.c).
func (l *listener) ipv6Only() int {
	ip := netip.MustParseAddrPort(l.address).Addr()
	if l.options.ipv6Only || !ip.IsUnspecified() && !ip.Is4In6() {
		return 1
	}
	return 0
}

func (l *listener) port() uint16 { return netip.MustParseAddrPort(l.address).Port() }

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
		return defaultBacklog
	case -1:
		return 0
	default:
		return o.backlog
	}
}

// hasMPTCP tells whether the kernel opens MPTCP sockets.
func hasMPTCP() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, ipprotoMPTCP)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

// listen returns a socket that listens: a UDP socket does so from its bind on.
func listen(network, address string, o options) (int, error) {
	fd, err := bind(network, address, o)
	if err != nil || network == "udp" {
		return fd, err
	}
	if err := unix.Listen(fd, o.limit()); err != nil {
		return -1, fmt.Errorf("listen: %w", err)
	}
	return fd, nil
}

func bind(network, address string, o options) (int, error) {
	fd, sockaddr, err := open(network, address)
	if err != nil {
		return -1, err
	}
	set := func(on bool, level, option, value int) {
		if on && err == nil {
			if err = unix.SetsockoptInt(fd, level, option, value); err != nil {
				err = fmt.Errorf("set option %d of level %d: %w", option, level, err)
			}
		}
	}
	ipv6 := netip.MustParseAddrPort(address).Addr().Is6()
	set(true, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	set(ipv6 && o.ipv6Only, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	set(!ipv6 && o.freebind, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	set(ipv6 && o.freebind, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
	set(o.buffer > 0, unix.SOL_SOCKET, unix.SO_RCVBUF, o.buffer)
	if err != nil {
		return -1, err
	}
	if o.device != "" {
		if err := unix.BindToDevice(fd, o.device); err != nil {
			return -1, fmt.Errorf("bind to the device %s: %w", o.device, err)
		}
	}
	if err := unix.Bind(fd, sockaddr); err != nil {
		return -1, fmt.Errorf("bind: %w", err)
	}
	return fd, nil
}

// dial returns a connected socket.
func dial(network, address string) (int, error) {
	fd, sockaddr, err := open(network, address)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, sockaddr); err != nil {
		return -1, fmt.Errorf("connect to %s: %w", address, err)
	}
	return fd, nil
}

// open returns a socket of the address's family, and the address.
func open(network, address string) (int, unix.Sockaddr, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return -1, nil, err
	}
	family, kind, protocol := unix.AF_INET, unix.SOCK_STREAM, 0
	var sockaddr unix.Sockaddr
	if at.Addr().Is4() {
		sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	} else {
		family = unix.AF_INET6
		sockaddr = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	switch network {
	case "udp":
		kind = unix.SOCK_DGRAM
	case "mptcp":
		protocol = ipprotoMPTCP
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, nil, fmt.Errorf("open a %s socket: %w", network, err)
	}
	return fd, sockaddr, nil
}
