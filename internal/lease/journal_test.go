//go:build linux

package lease_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
)

// sizeVariable set to full has the tests of crashes, clients and partitions take as long as they should, and not some seconds.
const sizeVariable = "LISTEN_EXPORTER_LEASES"

// size returns what make test-leases-full does, or what every other run of the tests does.
func size[T any](full, short T) T {
	if os.Getenv(sizeVariable) == "full" {
		return full
	}
	return short
}

// bootTime returns CLOCK_BOOTTIME.
func bootTime() time.Duration { return lease.HostClock().Boot() }

// process is one with a manager.
type process struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output io.Reader
	stderr bytes.Buffer
	// What it has said.
	operations []operation
	views      []shown
	// killedAt is the step at which it was killed.
	killedAt string
}

// startProcess starts a process with a manager. It does nothing before it has a plan.
func startProcess(attributes *syscall.SysProcAttr) (*process, error) {
	p := &process{cmd: host.Again(managerRole, os.Args[0])}
	p.cmd.Stderr, p.cmd.SysProcAttr = &p.stderr, attributes
	var err error
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.output, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return p, p.cmd.Start()
}

// plan has the process do something.
func (p *process) plan(what plan) error { return json.NewEncoder(p.input).Encode(what) }

// wait notes what the process says until it ends, and calls begun when it has said the first thing. An operation that was not answered
// may be done until so long after the end. A process that was killed is no error.
func (p *process) wait(late time.Duration, begun func()) error {
	open := make(map[int]operation)
	for decoder, first := json.NewDecoder(p.output), true; ; first = false {
		var s said
		if err := decoder.Decode(&s); err != nil {
			break
		}
		if first {
			begun()
		}
		switch {
		case s.Step != "":
			p.killedAt = s.Step
		case s.View != nil:
			p.views = append(p.views, *s.View)
		case s.Operation.Outcome == "":
			open[s.Number] = *s.Operation
		default:
			delete(open, s.Number)
			p.operations = append(p.operations, *s.Operation)
		}
	}
	err := p.cmd.Wait()
	for _, o := range open {
		o.Outcome, o.Return = unknown, bootTime()+late
		p.operations = append(p.operations, o)
	}
	if status := new(exec.ExitError); errors.As(err, &status) && status.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		if p.killedAt == "" {
			p.killedAt = "any moment"
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("a process with a manager: %w\n%s", err, &p.stderr)
	}
	return nil
}
