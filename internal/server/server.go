// Package server serves metrics, the page and the health of the exporter over HTTP.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/exporter-toolkit/web"
)

// Limits of the server. Nobody can hold a connection, or one of the few places for a scrape, by being slow.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = time.Minute     // longer than usual scrape timeouts
	idleTimeout       = 5 * time.Minute // longer than usual scrape intervals, so that connections stay open
	shutdownTimeout   = 20 * time.Second
)

// Server is the HTTP server of the exporter.
type Server struct {
	options Options
	logs    Logs
	handler http.Handler
	ready   atomic.Bool // the first snapshot is made
}

// New returns a server that does not listen yet.
func New(o Options, logs Logs) (*Server, error) {
	if err := web.Validate(*o.Web.WebConfigFile); err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	s := &Server{options: o, logs: logs}
	var err error
	s.handler, err = s.newHandler()
	return s, err
}

// Run listens and serves until ctx is done. It then finishes the scrapes in progress.
func (s *Server) Run(ctx context.Context) error {
	listeners, err := listen(s.options.Web, s.logs.Kit)
	if err != nil {
		return err
	}
	// The first snapshot is the baseline of later changes, so it does not wait for a scrape. The exporter's own port is open by
	// now and belongs to it.
	go func() {
		s.options.Snapshot()
		s.ready.Store(true)
	}()
	server := s.httpServer()
	served := make(chan error, 1)
	go func() { served <- web.ServeMultiple(listeners, server, s.options.Web, s.logs.Toolkit) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	level.Info(s.logs.Kit).Log("msg", "shutting down: finishing the scrapes in progress")
	timeout, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(timeout); err != nil {
		return fmt.Errorf("stop within %s: %w", shutdownTimeout, err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
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
		ErrorLog:          slog.NewLogLogger(s.logs.Toolkit.Handler(), slog.LevelError),
	}
}
