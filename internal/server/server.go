//go:build linux

// Package server serves metrics, the page and the health of the exporter over HTTP.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/exporter-toolkit/web"
)

// Limits of the server. Nobody can hold a connection, or one of the few places for a scrape, by being slow.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = time.Minute      // longer than usual scrape timeouts
	idleTimeout       = 5 * time.Minute  // longer than usual scrape intervals, so that connections stay open
	shutdownTimeout   = 15 * time.Second // service managers and Kubernetes wait for 20 s or more before they kill
)

// Server is the HTTP server of the exporter.
type Server struct {
	options   Options
	logs      Logs
	handler   http.Handler
	listeners []net.Listener
	ready     atomic.Bool  // the first snapshot is made
	requests  atomic.Int64 // in progress
	conns     *connections
	panics    panics
	reload    struct {
		sync.Mutex
		err error // of the last reload
	}
}

// New returns a server that does not listen yet.
func New(o Options, logs Logs) (*Server, error) {
	if err := web.Validate(*o.Web.WebConfigFile); err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	s := &Server{options: o, logs: logs, conns: newConnections(), panics: panics{logger: logs.Kit}}
	handler, err := s.newHandler()
	s.handler = s.watched(handler)
	return s, err
}

// Listen opens the ports of the server.
func (s *Server) Listen() (err error) {
	s.listeners, err = listen(s.options.Web, s.logs.Kit)
	for _, l := range s.listeners {
		boundBuffers(l)
	}
	return err
}

// Run serves until ctx is done. It then finishes the scrapes in progress, and cuts off those that do not end in time. Listen must
// have succeeded.
func (s *Server) Run(ctx context.Context) error {
	// The first snapshot is the baseline of later changes, so it does not wait for a scrape. The exporter's own port is open by
	// now and belongs to it.
	go func() {
		ctx, cancel := context.WithTimeout(ctx, usualBudget)
		defer cancel()
		_ = s.panics.guard("make the first snapshot", func() error {
			s.options.Snapshot(ctx)
			return nil
		})
		s.ready.Store(true)
	}()
	server := s.httpServer()
	served := make(chan error, 1)
	go func() { served <- web.ServeMultiple(s.listeners, server, s.options.Web, s.logs.Toolkit) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	level.Info(s.logs.Kit).Log("msg", "shutting down: finishing the scrapes in progress")
	timeout, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(timeout); err != nil {
		level.Warn(s.logs.Kit).Log("msg", "shutting down: some requests did not end in time and are cut off",
			"requests", s.requests.Load(), "timeout", shutdownTimeout)
		_ = server.Close()
	}
	return nil
}

func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 16 << 10,
			WriteByteTimeout: maxPatience,
		},
		ConnState:   s.conns.changed,
		ConnContext: s.conns.accepted,
		ErrorLog:    slog.NewLogLogger(s.logs.Toolkit.Handler(), slog.LevelError),
	}
}

// watched counts the requests in progress and logs a panic only once, unlike net/http.
func (s *Server) watched(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		defer s.requests.Add(-1)
		// No browser shall take an answer for anything else than it is.
		w.Header().Set("X-Content-Type-Options", "nosniff")
		err := s.panics.guard("answer a request", func() error {
			s.conns.answer(next, w, r)
			return nil
		})
		if err != nil {
			panic(http.ErrAbortHandler) // a part of the answer may have been sent
		}
	})
}
