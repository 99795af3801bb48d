//go:build linux

package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Ready is what a process of [StartReady] prints when it is ready.
const Ready = "ready"

// Process is a running process.
type Process struct {
	Cmd   *exec.Cmd
	Input io.WriteCloser // only of StartReady
	ended chan struct{}  // is closed
	err   error          // from Wait
}

// Start starts a command.
func Start(cmd *exec.Cmd) (*Process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{Cmd: cmd, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// StartReady starts a command and waits until it prints that it is ready.
func StartReady(cmd *exec.Cmd) (*Process, error) {
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, said, err := os.Pipe() // Wait would close a StdoutPipe before it is read
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	cmd.Stdout, cmd.Stderr = said, os.Stderr
	p, err := Start(cmd)
	_ = said.Close()
	if err != nil {
		return nil, err
	}
	p.Input = input
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || line != Ready+"\n" {
		p.Kill()
		return nil, fmt.Errorf("%s said %q, and not that it is ready", filepath.Base(cmd.Path), line)
	}
	return p, nil
}

// Ended returns an error once the process has ended.
func (p *Process) Ended() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s has ended: %w", filepath.Base(p.Cmd.Path), errors.Join(errors.New("it must run"), p.err))
	default:
		return nil
	}
}

// Kill ends the process at once, if there is one.
func (p *Process) Kill() {
	if p != nil {
		_ = p.Cmd.Process.Kill()
		<-p.ended
	}
}

// Terminate sends SIGTERM, on which the process must end with status 0.
func (p *Process) Terminate() error {
	if p == nil {
		return errors.New("it does not run")
	}
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end %s: %w", p.Cmd, err)
	}
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("%s: %w", p.Cmd, p.err)
		}
		return nil
	case <-time.After(limit):
		p.Kill()
		return errors.New(p.Cmd.String() + " does not end on SIGTERM")
	}
}
