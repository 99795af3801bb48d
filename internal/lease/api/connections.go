//go:build linux

package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/users"
)

const (
	// maxConnections is how many connections are open at most, next to those of root, and maxOfOne how many of them a user has, or a host by
	// TCP. One takes about 20 KB. Above maxShared each user has one only: those who hold all others keep nobody out who has none yet.
	maxConnections = 256
	maxShared      = 192
	maxOfOne       = 128
)

// root is the owner of connections whom no others keep out.
const root = "user 0"

// connections limits the open connections, so that nobody who holds many can keep others out.
type connections struct {
	users   users.Namespace
	mu      sync.Mutex
	open    map[net.Conn]*connection
	events  uint64 // since the start
	closing bool
}

// connection is an open connection.
type connection struct {
	net.Conn
	uid    uint32
	unsure error  // why uid is not known
	owner  string // the user, or the host
	since  uint64 // the number of the last event
	// busy reports whether the request was read and the answer is not yet sent. What it asks for may be done by then.
	busy bool
}

func newConnections() *connections {
	return &connections{users: users.Own(), open: make(map[net.Conn]*connection)}
}

// connectionKey is the key of a connection in the context of its requests.
type connectionKey struct{}

func connectionOf(r *http.Request) *connection {
	conn, _ := r.Context().Value(connectionKey{}).(*connection)
	return conn
}

// accepted is called for a new connection, and returns the context of its requests.
func (c *connections) accepted(ctx context.Context, conn net.Conn) context.Context {
	opened := c.connection(conn)
	c.add(opened)
	return context.WithValue(ctx, connectionKey{}, opened)
}

// add adds a new connection, and closes one if there are too many.
func (c *connections) add(opened *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events++
	opened.since = c.events
	c.open[opened.Conn] = opened
	switch {
	case c.closing:
		c.close(opened)
	case len(c.open) > maxOfOne:
		c.closeOne(opened)
	}
}

func (c *connections) connection(conn net.Conn) *connection {
	opened := &connection{Conn: conn}
	if peer, is := conn.(*net.UnixConn); is {
		opened.uid, opened.unsure = c.peer(peer)
		opened.owner = fmt.Sprint("user ", opened.uid)
		return opened
	}
	// Who has one address of IPv6 has a network of them.
	address, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	host := address.Addr().Unmap().WithZone("")
	prefix, _ := host.Prefix(min(host.BitLen(), 64))
	opened.owner = prefix.String()
	return opened
}

// peer returns who has connected: the user of the process then (SO_PEERCRED in unix(7)).
func (c *connections) peer(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	if failed := raw.Control(func(fd uintptr) {
		credentials, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); failed != nil {
		return 0, failed
	}
	if err != nil {
		return 0, fmt.Errorf("getsockopt SO_PEERCRED: %w", err)
	}
	if _, unknown := c.users.Number(credentials.Uid); unknown {
		return credentials.Uid, fmt.Errorf("user %d may be any user outside the exporter's user namespace: want one whom it maps", credentials.Uid)
	}
	return credentials.Uid, nil
}

// closeOne closes a connection if there are too many: one of a user who has too many, or else of one who has most, or else, if these are all
// busy, the newest one.
func (c *connections) closeOne(newest *connection) {
	of := make(map[string]int)
	most := 0
	for _, conn := range c.open {
		of[conn.owner]++
		if conn.owner != root {
			most = max(most, of[conn.owner])
		}
	}
	others := len(c.open) - of[root]
	switch {
	case of[newest.owner] > maxOfOne:
		c.close(c.leastMissed(newest, func(conn *connection) bool { return conn.owner == newest.owner }))
	case newest.owner == root:
	case others > maxConnections, others > maxShared && of[newest.owner] > 1:
		c.close(c.leastMissed(newest, func(conn *connection) bool { return conn.owner != root && of[conn.owner] == most }))
	}
}

// leastMissed returns the connection of some that is not busy and on which nothing has happened for longest, or the newest one if all
// are busy.
func (c *connections) leastMissed(newest *connection, of func(*connection) bool) *connection {
	chosen := newest
	for _, conn := range c.open {
		if !conn.busy && conn.since < chosen.since && of(conn) {
			chosen = conn
		}
	}
	return chosen
}

// changed is called when a connection changes its state.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, is := c.open[conn]
	switch {
	case !is:
	case state == http.StateClosed || state == http.StateHijacked:
		delete(c.open, conn)
	default:
		c.events++
		known.since, known.busy = c.events, false
	}
}

// begin notes that the request of a connection was read. It returns false if the connection is closed, so that nobody would read the
// answer.
func (c *connections) begin(conn *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, is := c.open[conn.Conn]
	conn.busy = true
	return is
}

// end closes all connections that are not busy, and those to come.
func (c *connections) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for _, conn := range c.open {
		if !conn.busy {
			c.close(conn)
		}
	}
}

// close closes a connection at once, without a goodbye of TLS, which could take seconds.
func (c *connections) close(conn *connection) {
	delete(c.open, conn.Conn)
	plain := conn.Conn
	if encrypted, is := plain.(*tls.Conn); is {
		plain = encrypted.NetConn()
	}
	_ = plain.Close()
}
