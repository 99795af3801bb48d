//go:build linux

package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// Leases are what a Server serves: those of a [lease.Manager].
type Leases interface {
	Take(ctx context.Context, r lease.Request) (l lease.Lease, repeated bool, err error)
	Renew(ctx context.Context, id string, uid uint32) (lease.Lease, error)
	End(ctx context.Context, id string, uid uint32) (lease.Lease, error)
	View() lease.View
	Now() time.Duration
}

var _ Leases = (*lease.Manager)(nil)

// Options are the options of a Server.
type Options struct {
	Leases Leases
	// Host is the name of this host in the registry.
	Host string
	// Address is unix:PATH or HOST:PORT. The latter wants a WebConfigFile with basic_auth_users.
	Address string
	// WebConfigFile is that of exporter-toolkit, or empty. It is only for HOST:PORT.
	WebConfigFile string
	Logger        log.Logger
	// Toolkit is the same logger for exporter-toolkit.
	Toolkit *slog.Logger
}

// Limits of the server. Nobody can hold a connection for long by being slow.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second // for reading the body, patience, and sending
	idleTimeout       = time.Minute
	maxHeader         = 8 << 10          // bytes
	shutdownTimeout   = 12 * time.Second // longer than patience, and shorter than what service managers wait before they kill
)

// Server serves leases.
type Server struct {
	options  Options
	listener net.Listener
	conns    *connections
}

// Open returns a server that listens, and does not answer before Run.
func Open(o Options) (*Server, error) {
	s := &Server{options: o, conns: newConnections()}
	if !s.isUnix() {
		if err := validate(o); err != nil {
			return nil, err
		}
	}
	var err error
	s.listener, err = listen(o.Address)
	return s, err
}

func (s *Server) isUnix() bool { return strings.HasPrefix(s.options.Address, unixScheme) }

// validate returns an error unless the web configuration file says who may ask over TCP.
func validate(o Options) error {
	if o.WebConfigFile == "" {
		return fmt.Errorf("%s is reached by other hosts: want --web.config.file with basic_auth_users, or an address such as unix:/run/listen_exporter/lease.sock", o.Address)
	}
	if err := web.Validate(o.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	hashes, err := passwords(o.WebConfigFile)
	if err == nil && len(hashes) == 0 {
		err = errors.New("it has no basic_auth_users, whom leases on a TCP port want")
	}
	if err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	return nil
}

// Run serves until ctx is done. It then finishes the requests that were read, and cuts off those that do not end in time. The Leases must
// work until it returns.
func (s *Server) Run(ctx context.Context) error {
	server := s.httpServer()
	served := make(chan error, 1)
	go func() { served <- s.serve(server) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.conns.end()
	timeout, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(timeout); err != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) { // the socket is removed
		return err
	}
	return nil
}

func (s *Server) serve(server *http.Server) error {
	if s.isUnix() {
		level.Info(s.options.Logger).Log("msg", "serving leases", "address", s.options.Address)
		return server.Serve(s.listener)
	}
	return web.Serve(s.listener, server, &web.FlagConfig{WebConfigFile: &s.options.WebConfigFile}, s.options.Toolkit)
}

func (s *Server) httpServer() *http.Server {
	h := &handler{
		leases: s.options.Leases, host: s.options.Host, logger: s.options.Logger, who: peer,
		begin: func(r *http.Request) bool { return s.conns.begin(connectionOf(r)) },
	}
	if !s.isUnix() {
		h.who = func(r *http.Request) (uint32, error) { return account(r, s.options.WebConfigFile) }
	}
	server := &http.Server{
		Handler:           h.mux(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		Protocols:         new(http.Protocols),
		ConnState:         s.conns.changed,
		ConnContext:       s.conns.accepted,
		ErrorLog:          slog.NewLogLogger(s.options.Toolkit.Handler(), slog.LevelError),
	}
	server.Protocols.SetHTTP1(true) // a connection has one request at a time
	return server
}
