//go:build linux

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease/api"
)

// Exit codes of lease with a command that did not run, as those of env(1) and timeout(1). Otherwise its exit code is that of the command,
// or 128 and the number of the signal that ended it.
const (
	ExitNotLeased     = 125
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// LeaseOptions are the options of lease.
type LeaseOptions struct {
	// Address is where the exporter serves leases, as api.NewClient takes it.
	Address string
	// Request is what is asked for. An empty Name is that of the command.
	Request api.Request
	// Renew or End is the id of a lease to renew or to end. Otherwise one is taken.
	Renew, End string
	// Format, of what is printed without a command, is FormatText for the ports or FormatJSON for the whole lease.
	Format string
	// Command is the program to run, with its arguments, or empty.
	Command []string
}

const (
	// answerTimeout is how long to wait for the exporter. It answers within a few seconds even if its store cannot be reached.
	answerTimeout = 10 * time.Second
	// interruptedTimeout is how long to wait for it after a signal: a lease that it gives meanwhile can be given back.
	interruptedTimeout = 2 * time.Second
)

// Lease takes a lease of ports, and returns the exit code. With a command it runs that with the ports in its environment, renews the lease
// while it runs, and gives it back at its end.
func Lease(o LeaseOptions, s Streams) int {
	given := 0
	for _, is := range []bool{o.Renew != "", o.End != "", len(o.Command) > 0} {
		if is {
			given++
		}
	}
	client, err := api.NewClient(o.Address, "", "")
	switch {
	case given > 1:
		err = errors.New("want one of --renew, --end and a command")
	case len(o.Command) > 0 && o.Format == FormatJSON:
		err = errors.New("--format=json prints the lease: want it without a command")
	case err != nil:
		err = fmt.Errorf("--lease.listen-address: %w", err)
	}
	l := lessee{o, client, s}
	switch {
	case err == nil && len(o.Command) > 0:
		return l.run()
	case err == nil:
		return l.print()
	case len(o.Command) > 0:
		s.report(err)
		return ExitNotLeased
	}
	s.report(err)
	return ExitTrouble
}

// lessee is who has a lease.
type lessee struct {
	options LeaseOptions
	client  *api.Client
	streams Streams
}

// print takes, renews or ends a lease, and prints it.
func (l lessee) print() int {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	var leased api.Lease
	var err error
	switch o := l.options; {
	case o.Renew != "":
		leased, err = l.client.Renew(ctx, o.Renew)
	case o.End != "":
		leased, err = l.client.End(ctx, o.End)
	default:
		leased, err = l.client.Take(ctx, o.Request)
	}
	if err != nil {
		l.explain(err)
		if refused, is := errors.AsType[*api.Error](err); is && refused.Exhausted != nil {
			return ExitFound
		}
		return ExitTrouble
	}
	answer := new(bytes.Buffer)
	switch {
	case l.options.Format == FormatJSON:
		text, err := json.MarshalIndent(leased, "", "  ")
		if err != nil {
			l.streams.report(err)
			return ExitTrouble
		}
		answer.Write(append(text, '\n'))
	case l.options.Renew+l.options.End == "":
		for _, port := range leased.Ports {
			fmt.Fprintln(answer, port)
		}
	}
	return l.streams.finish(answer, false, nil, nil)
}

// run runs the command with a lease.
func (l lessee) run() int {
	command := l.options.Command
	path, err := lookUp(command[0])
	if err != nil { // it would be a pity to take a port for that
		return l.notRun(err)
	}
	caught, release := catchSignals()
	defer release()
	leased, ended, err := l.take(caught)
	switch {
	case ended != 0:
		if err == nil {
			l.giveBack(leased)
		}
		return endAs(ended, inForeground())
	case err != nil:
		l.explain(err)
		return ExitNotLeased
	}
	c, err := start(path, command, environment(os.Environ(), leased.Ports), l.streams)
	if err != nil {
		l.giveBack(leased)
		return l.notRun(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var renewing sync.WaitGroup
	renewing.Go(func() { l.keep(ctx, leased) })
	status := c.wait(caught)
	cancel()
	renewing.Wait()
	l.giveBack(leased)
	if status.Signaled() {
		return endAs(status.Signal(), c.interrupted)
	}
	return status.ExitStatus()
}

func (l lessee) notRun(cause error) int {
	code, err := notRun(l.options.Command[0], cause)
	l.streams.report(err)
	return code
}

// take takes a lease. ended is the signal that asked to end meanwhile, or 0.
func (l lessee) take(caught <-chan os.Signal) (leased api.Lease, ended syscall.Signal, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		request := l.options.Request
		if request.Name == "" {
			request.Name = nameOf(l.options.Command[0])
		}
		leased, err = l.client.Take(ctx, request)
		if refused, is := errors.AsType[*api.Error](err); is && refused.Field == "name" && l.options.Request.Name == "" {
			request.Name = "" // a service has the name of the program: the exporter knows another one
			leased, err = l.client.Take(ctx, request)
		}
	}()
	for {
		select {
		case <-answered:
			return leased, ended, err
		case s := <-caught:
			if ends(s) && ended == 0 {
				ended = s.(syscall.Signal)
				defer time.AfterFunc(interruptedTimeout, cancel).Stop()
			}
		}
	}
}

// nameOf returns the name of a lease for a program.
func nameOf(program string) string {
	const longest = 63
	name := strings.Map(func(r rune) rune {
		switch {
		case '0' <= r && r <= '9', 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, filepath.Base(program))
	return name[:min(len(name), longest)]
}

// environment returns an environment with the ports of a lease, and without those of another one, in which this program runs.
func environment(of []string, ports []uint16) []string {
	of = slices.DeleteFunc(of, func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		number, is := strings.CutPrefix(name, "PORT_")
		_, err := strconv.ParseUint(number, 10, 16)
		return is && err == nil
	})
	for n, port := range ports {
		if n == 0 {
			of = append(of, fmt.Sprintf("PORT=%d", port))
		}
		of = append(of, fmt.Sprintf("PORT_%d=%d", n+1, port))
	}
	return of
}

// giveBack ends a lease whose command has ended.
func (l lessee) giveBack(leased api.Lease) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout/2)
	defer cancel()
	_, err := l.client.End(ctx, leased.ID)
	if refused, is := errors.AsType[*api.Error](err); err == nil || is && refused.Status == http.StatusNotFound { // it has expired
		return
	}
	l.warn("cannot give " + portsOf(leased) + " back, which the exporter keeps until the lease expires: " + l.why(err))
}
