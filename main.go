//go:build linux

// Command listen_exporter exports to Prometheus the TCP and UDP ports that a host listens on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"github.com/listen-exporter/listen_exporter/internal/command"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/server"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Exit codes of the server. Shells and systemd expect different codes for a wrong command line and for a failure. The commands
// have exit codes of their own, see package command.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs the program and returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	// Without this, a pipe whose reader has gone would end the program: a command without an error, and the server with its log.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	c, done, err := parse(args, stdout)
	if errors.As(err, new(*command.WriteError)) {
		_, _ = fmt.Fprintf(stderr, "%s: error: %v\n", wording.Program, err)
		return exitFailure
	}
	if err != nil {
		// The error may quote several lines of the user's.
		_, _ = fmt.Fprintf(stderr, "%s: error: %s, try --help\n", wording.Program, strings.ReplaceAll(err.Error(), "\n", `\n`))
		return exitUsage
	}
	if done {
		return exitOK
	}
	if c.command != serveCommand {
		return runCommand(c, stdout, stderr)
	}
	logs, written := server.NewQueuedLogs(stderr, c.logLevel, c.logFormat)
	defer written.Flush(time.Second)
	if err := serve(c, logs); err != nil {
		inventory.LogEach(logs.Kit, "cannot serve", err)
		return exitFailure
	}
	return exitOK
}

// runCommand runs any command but serve.
func runCommand(c *config, stdout, stderr io.Writer) int {
	options := c.inventory
	options.Events, options.Traffic = inventory.EventsOff, false // a command looks once
	if !c.maxPortsSet && c.list.Format != command.FormatPrometheus {
		options.MaxPorts = math.MaxInt32 // the default limits what Prometheus stores
	}
	options.Leases = command.LeasesAt(c.lease.address)
	streams := command.Streams{Out: stdout, Err: stderr, Logger: newCommandLogger(c, stderr)}
	switch c.command {
	case listCommand:
		c.list.Inventory = options
		c.list.State = func() command.State { return readState(c) }
		if !*c.server.Web.WebSystemdSocket {
			c.list.OwnAddress = (*c.server.Web.WebListenAddresses)[0]
		}
		return command.List(c.list, streams)
	case auditCommand:
		return command.Audit(options, c.auditFormat, streams)
	case leaseCommand:
		c.leasing.Address = c.lease.address
		return command.Lease(c.leasing, streams)
	default:
		for _, file := range options.RegistryFiles {
			if !slices.Contains(c.check.Registry, file) {
				c.check.Registry = append(c.check.Registry, file)
			}
		}
		return command.Check(c.check, streams)
	}
}

// newCommandLogger returns the logger of a command: plain text, unless the user asked for a level or a format. It writes at once:
// somebody waits for the command, and a signal ends it even while it writes.
func newCommandLogger(c *config, stderr io.Writer) log.Logger {
	if !c.logLevelSet && !c.logFormatSet {
		return command.PlainLogger(stderr)
	}
	minimum := c.logLevel
	if !c.logLevelSet {
		minimum = commandLogLevel
	}
	return server.NewLogs(stderr, minimum, c.logFormat).Kit
}

// serve serves until SIGTERM or SIGINT. A second one ends the program at once.
func serve(c *config, logs server.Logs) error {
	// Signals count from here on: whatever hangs below, the program ends, and a reload that a service manager asks for at once,
	// however long the registry takes to load, does not end it.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)

	level.Info(logs.Kit).Log("msg", "starting "+wording.Program, "version", version.Info(), "build_context", version.BuildContext())
	runtime.GOMAXPROCS(c.gomaxprocs)
	if c.logEvents {
		trail := inventory.NewTrail(logs.Kit)
		defer trail.Close()
		c.inventory.Changed = trail.Changed
	}
	running, alive := errgroup.WithContext(ctx) // until something that runs fails
	var s *server.Server
	started := make(chan error, 1)
	go func() {
		var err error
		s, err = start(alive, c, logs, running)
		started <- err
	}()
	select {
	case err := <-started:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		level.Info(logs.Kit).Log("msg", "shutting down: the start had not ended")
		return nil
	}
	go func() {
		for range hangups {
			_ = s.Reload("SIGHUP") // which logs its error
		}
	}()
	running.Go(func() error { return s.Run(alive) })
	return running.Wait()
}

// start opens what is observed, which is watched until ctx is done, and then the ports of the server. What must end before the program
// does, as the last save of what is remembered, is in running.
func start(ctx context.Context, c *config, logs server.Logs, running *errgroup.Group) (*server.Server, error) {
	keep := openState(c, logs.Kit)
	leases, err := openLeases(c, logs.Kit)
	if err != nil {
		return nil, err
	}
	listeners, err := inventory.Open(c.inventory, logs.Kit)
	if err != nil {
		return nil, err
	}
	options := c.server
	options.Host, options.Snapshot, options.SnapshotWithProcesses = c.inventory.RegistryHost, listeners.Snapshot, listeners.SnapshotWithProcesses
	options.WriteJSON = command.ServedJSON(c.inventory)
	if files := c.inventory.RegistryFiles; len(files) > 0 {
		options.RegistryFile, options.Reload = strings.Join(files, ", "), listeners.ReloadRegistry
		go listeners.WatchRegistry(ctx)
	}
	s, err := server.New(options, logs)
	if err == nil {
		err = s.Listen()
	}
	if err != nil {
		return nil, err
	}
	if leases != nil {
		serveLeases, err := listenForLeases(c, leases, listeners, logs)
		if err != nil {
			return nil, err
		}
		running.Go(func() error { return serveLeases(ctx) })
	}
	if c.inventory.Interval > 0 {
		go listeners.Watch(ctx, logs.Kit)
	}
	running.Go(func() error {
		keep(ctx, listeners)
		<-ctx.Done()
		listeners.TakeInEvents()
		return nil
	})
	return s, nil
}
