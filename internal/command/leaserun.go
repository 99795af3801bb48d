//go:build linux

package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// lookUp returns the path of a program, as a shell finds it.
func lookUp(name string) (path string, err error) {
	path, err = exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) { // the PATH has the working directory, and a shell takes it from there
		err = nil
	}
	return path, err
}

// notRun returns the exit code that shells have for a program that cannot be run, and why it cannot.
func notRun(name string, cause error) (code int, err error) {
	lookedUp, was := errors.AsType[*exec.Error](cause)
	if was {
		cause = lookedUp.Err
	}
	code, why := ExitNotExecutable, cause
	switch {
	case errors.Is(cause, exec.ErrNotFound):
		code, why = ExitNotFound, errors.New("there is no such program on the PATH")
	case errors.Is(cause, fs.ErrNotExist) && was:
		code, why = ExitNotFound, errors.New("there is no such file")
	case errors.Is(cause, fs.ErrNotExist):
		code, why = ExitNotFound, errors.New("the interpreter that it names is not there")
	case errors.Is(cause, syscall.ENOEXEC):
		why = errors.New("it is no program for this machine, or a script without #! in its first line")
	}
	return code, fmt.Errorf("cannot run %s: %w", wording.Quoted(name), why)
}

// child is a program that runs, in this process's group: a terminal takes both for one job.
type child struct {
	cmd *exec.Cmd
	// interrupted reports whether the terminal has sent SIGINT to both.
	interrupted bool
	// continued reports whether the next SIGCONT is the one that ended a stop of both.
	continued bool
}

// start starts a program with the standard streams of this one.
func start(path string, command, environment []string, s Streams) (*child, error) {
	c := &child{cmd: &exec.Cmd{Path: path, Args: command, Env: environment, Stdin: os.Stdin, Stdout: s.Out, Stderr: s.Err}}
	return c, c.cmd.Start()
}

// wait passes signals on until the program ends, and returns how it ended.
func (c *child) wait(caught <-chan os.Signal) syscall.WaitStatus {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.cmd.Wait() // its error only repeats the state
	}()
	for {
		select {
		case s := <-caught:
			c.handle(s.(syscall.Signal))
		case <-ended:
			return c.cmd.ProcessState.Sys().(syscall.WaitStatus)
		}
	}
}

// handle passes a signal on, unless the program has got it already or it is about the program.
func (c *child) handle(s syscall.Signal) {
	switch s {
	case syscall.SIGCHLD:
		if c.stopped() && hasJobControl() { // the shell shall have its terminal back, until it continues both
			c.continued = true
			stop()
			_ = c.cmd.Process.Signal(syscall.SIGCONT) // it may be in a process group of its own
		}
		return
	case syscall.SIGCONT:
		if c.continued { // again, it would undo a stop that the program has made since
			c.continued = false
			return
		}
	case syscall.SIGPIPE: // of a warning that nobody reads
		return
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP:
		if inForeground() {
			c.interrupted = c.interrupted || s == syscall.SIGINT
			return
		}
	}
	_ = c.cmd.Process.Signal(s) // it may have ended
}

// stopped reports whether a signal has stopped the program since the last call.
func (c *child) stopped() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
	return err == nil && info.Signo != 0
}

// stop stops this process until somebody continues it.
func stop() {
	runtime.LockOSThread() // a signal to the process might reach another thread, and this one go on for a moment
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}

// catchSignals catches all signals that can be passed on, so that none ends this program before it has given its lease back. A program
// that is started then has their default actions, also for SIGPIPE, which this program ignores. What was ignored at the start, as SIGHUP
// under nohup, stays so for both.
func catchSignals() (caught chan os.Signal, release func()) {
	const last = 64 // SIGRTMAX
	// A signal that does not fit is lost.
	caught = make(chan os.Signal, last)
	for s := syscall.Signal(1); s <= last; s++ {
		switch s {
		case syscall.SIGKILL, syscall.SIGSTOP: // cannot be caught
		case syscall.SIGURG, syscall.SIGPROF: // Go's own
		case syscall.SIGTTIN, syscall.SIGTTOU: // stop both. A write that sends SIGTTOU would be tried again at once
		default:
			if s == syscall.SIGPIPE || !signal.Ignored(s) {
				signal.Notify(caught, s)
			}
		}
	}
	return caught, func() { signal.Stop(caught) }
}

// ends reports whether a signal ends a program that does not catch it, and is sent for that.
func ends(s os.Signal) bool {
	return slices.Contains([]os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}, s)
}

// endAs ends this program by SIGINT if Ctrl-C has ended the one that it ran: a shell script that runs it ends then, and does not go on.
// Otherwise it returns the exit code that shells have for a program that a signal ended.
func endAs(s syscall.Signal, interrupted bool) int {
	if s == syscall.SIGINT && interrupted {
		signal.Reset(s)
		_ = syscall.Kill(os.Getpid(), s)
		time.Sleep(time.Second) // more than it takes
	}
	return 128 + int(s)
}

// inForeground reports whether this process is in the foreground group of its terminal, each process of which gets the signals that
// keys send.
func inForeground() bool {
	group, has := foregroundGroup()
	return has && group == unix.Getpgrp()
}

// hasJobControl reports whether a shell with job control started this program on a terminal, and will continue it.
func hasJobControl() bool {
	_, has := foregroundGroup()
	return has && canBeContinued()
}

// foregroundGroup returns the foreground process group of the terminal of this session, if it has one.
func foregroundGroup() (group int, has bool) {
	if group, err := unix.IoctlGetInt(unix.Stdin, unix.TIOCGPGRP); err == nil {
		return group, true
	}
	terminal, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer func() { _ = unix.Close(terminal) }()
	group, err = unix.IoctlGetInt(terminal, unix.TIOCGPGRP)
	return group, err == nil
}
