package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"syscall"
)

const (
	// maxConnections is how many connections are open at most. One without a request takes about 20 KB, and with TLS three times as
	// much. It leaves half of the usual limit of 1024 open files.
	maxConnections = 512
	// maxHeader limits the header of a request, in bytes. Those of Prometheus have 500.
	maxHeader = 16 << 10
	// sendBuffer and receiveBuffer are what the kernel keeps for each connection, in bytes, and the kernel doubles them for its own
	// overhead (socket(7)). By default it keeps up to 4 and 6 MiB, which count for the memory limit of a unit or a container.
	sendBuffer    = 256 << 10
	receiveBuffer = 16 << 10
)

// connections limits the open connections. When there are too many, it closes the one on which nothing has happened for longest.
type connections struct {
	mu    sync.Mutex
	open  map[net.Conn]*list.Element
	quiet *list.List // of *connection, that on which nothing has happened for longest first
}

// connection is an open connection.
type connection struct {
	net.Conn
	requests int // that are being answered. It is not closed for others.
}

func newConnections() *connections {
	return &connections{open: make(map[net.Conn]*list.Element), quiet: list.New()}
}

// changed is called when a connection changes its state.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, known := c.open[conn]
	switch {
	case state == http.StateNew:
		c.open[conn] = c.quiet.PushBack(&connection{Conn: conn})
		if len(c.open) > maxConnections {
			c.closeOne()
		}
	case !known:
	case state == http.StateClosed || state == http.StateHijacked:
		c.forget(element)
	default:
		c.quiet.MoveToBack(element)
	}
}

// closeOne closes the connection on which nothing has happened for longest and no request is being answered: the newest one, if need be.
func (c *connections) closeOne() {
	element := c.quiet.Front()
	for element.Value.(*connection).requests > 0 {
		element = element.Next()
	}
	c.forget(element)
	conn := element.Value.(*connection).Conn
	if encrypted, is := conn.(*tls.Conn); is {
		conn = encrypted.NetConn() // to say goodbye could take seconds
	}
	_ = conn.Close()
}

func (c *connections) forget(element *list.Element) {
	delete(c.open, element.Value.(*connection).Conn)
	c.quiet.Remove(element)
}

// connectionKey is the key of a request's connection in its context.
type connectionKey struct{}

func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// answer calls next to answer a request, and keeps its connection open meanwhile.
func (c *connections) answer(next http.Handler, w http.ResponseWriter, request *http.Request) {
	conn, _ := request.Context().Value(connectionKey{}).(net.Conn)
	count := func(n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if element, known := c.open[conn]; known {
			element.Value.(*connection).requests += n
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
	_ = raw.Control(func(fd uintptr) { // a socket of another kind keeps its buffers
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer)
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
	})
}
