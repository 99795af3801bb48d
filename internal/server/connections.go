//go:build linux

package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxConnections is how many connections are open at most. One without a request takes about 20 KB, and with TLS three times as
	// much.
	maxConnections = 256
	// maxStreams is how many requests a connection can make at a time with HTTP/2.
	maxStreams = 8
	// maxHeader limits the header of a request, in bytes. Those of Prometheus have 500.
	maxHeader = 16 << 10
	// sendBuffer and receiveBuffer are what the kernel keeps for each connection, in bytes, and the kernel doubles them for its own
	// overhead (socket(7)). By default it keeps up to 4 and 6 MiB, which count for the memory limit of a unit or a container.
	// A reader on the same host is served faster than with more: what is sent stays in the processor's cache.
	sendBuffer    = 64 << 10
	receiveBuffer = 16 << 10
	// unsent is how much of it may wait for a client that takes nothing, in bytes (TCP_NOTSENT_LOWAT). The answers of many such clients
	// wait in the kernel when they are idle for the server.
	unsent = 32 << 10
)

// connections limits the open connections. When there are too many, it closes one of the host that has most: that on which nothing has
// happened for longest.
type connections struct {
	mu    sync.Mutex
	open  map[net.Conn]*list.Element
	hosts map[netip.Prefix]int // how many connections each host has
	quiet *list.List           // of *connection, that on which nothing has happened for longest first
}

// connection is an open connection.
type connection struct {
	net.Conn // nil in a test without a connection
	host     netip.Prefix
	quick    atomic.Bool // its client took its last answer within grace
	requests int         // that are being answered. It is not closed for others.
}

func newConnections() *connections {
	return &connections{open: make(map[net.Conn]*list.Element), hosts: make(map[netip.Prefix]int), quiet: list.New()}
}

// connectionKey is the key of a connection in the context of its requests.
type connectionKey struct{}

// accepted is called for a new connection, and returns the context of its requests.
func (c *connections) accepted(ctx context.Context, conn net.Conn) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	opened := &connection{Conn: conn, host: hostOf(conn.RemoteAddr().String())}
	c.open[conn] = c.quiet.PushBack(opened)
	c.hosts[opened.host]++
	if len(c.open) > maxConnections {
		c.closeOne()
	}
	return context.WithValue(ctx, connectionKey{}, opened)
}

func connectionOf(request *http.Request) *connection {
	if conn, is := request.Context().Value(connectionKey{}).(*connection); is {
		return conn
	}
	return new(connection)
}

// changed is called when a connection changes its state.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, known := c.open[conn]
	switch {
	case !known:
	case state == http.StateClosed || state == http.StateHijacked:
		c.forget(element)
	default:
		c.quiet.MoveToBack(element)
	}
}

// closeOne closes a connection on which no request is being answered: the newest one, if need be. One that is quick, as a scraper's, is
// spared if its host has others.
func (c *connections) closeOne() {
	newest := c.quiet.Back()
	chosen := newest
	for element := newest.Prev(); element != nil; element = element.Prev() {
		conn, best := element.Value.(*connection), chosen.Value.(*connection)
		more := c.hosts[conn.host] - c.hosts[best.host]
		if conn.requests == 0 && (more > 0 || more == 0 && (chosen == newest || !conn.quick.Load() || best.quick.Load())) {
			chosen = element
		}
	}
	c.forget(chosen)
	abort(chosen.Value.(*connection).Conn)
}

// hostOf returns the host of a client's address. Who has one address of IPv6 has a network of them, and vsock(7) has only the zero Prefix.
func hostOf(address string) netip.Prefix {
	parsed, _ := netip.ParseAddrPort(address)
	host := parsed.Addr().Unmap().WithZone("")
	prefix, _ := host.Prefix(min(host.BitLen(), 64))
	return prefix
}

// abort closes a connection at once: without a goodbye of TLS, which could take seconds, and the kernel forgets what it has not sent.
func abort(conn net.Conn) {
	if encrypted, is := conn.(*tls.Conn); is {
		conn = encrypted.NetConn()
	}
	if tcp, is := conn.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (c *connections) forget(element *list.Element) {
	conn := element.Value.(*connection)
	delete(c.open, conn.Conn)
	if c.hosts[conn.host]--; c.hosts[conn.host] == 0 {
		delete(c.hosts, conn.host)
	}
	c.quiet.Remove(element)
}

// answer calls next to answer a request, and keeps its connection open meanwhile.
func (c *connections) answer(next http.Handler, w http.ResponseWriter, request *http.Request) {
	conn := connectionOf(request)
	count := func(n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if element, known := c.open[conn.Conn]; known {
			conn.requests += n
			c.quiet.MoveToBack(element)
		}
	}
	count(1)
	defer count(-1)
	next.ServeHTTP(w, request)
}

// boundBuffers limits the kernel's buffers of the connections that a listener accepts.
func boundBuffers(l net.Listener) {
	listener, is := l.(syscall.Conn)
	if !is {
		return
	}
	raw, err := listener.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // a socket of another kind has other options
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
		// Also ends a connection whose client is there but has no room for long.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(maxPatience.Milliseconds()))
	})
}
