//go:build linux

package incidents

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// nobody is the user who runs the program, as in the shipped unit and DaemonSet, without any capability.
const nobody = 65534

// settled is how long a port must be open before it is missed: 20 minutes, which the script can wait for.
const settled = 20 * time.Minute / speed

// exporter is the program that is tested, on a host.
type exporter struct {
	host     *machine
	root     bool     // may see which process holds a port
	registry string   // at the start; empty for none
	forgets  bool     // it has no state file
	flags    []string // of this exporter only
	files    int      // how many it may have open, if that is limited
	process  *host.Process
}

// file is the host's registry.
func (e *exporter) file() string { return e.host.file("ports.yml") }

// log is where the program writes its log.
func (e *exporter) log() string { return e.host.file("exporter.log") }

// stateFile is what the program remembers by.
func (e *exporter) stateFile() string { return e.host.file("state") + "/state" }

// command returns how the program starts.
func (e *exporter) command() (*exec.Cmd, error) {
	// Each default, and as much faster as the rules are.
	flags := append([]string{
		"--collector.udp.ephemeral-min-age=" + promDuration(time.Minute/speed),
		"--collector.interval=" + promDuration(5*time.Second/speed),
		"--collector.settled-after=" + promDuration(settled),
	}, e.flags...)
	if e.registry != "" {
		flags = append(flags, "--registry.file="+e.file())
	}
	if !e.forgets {
		flags = append(flags, "--state.file="+e.stateFile())
		dir := e.host.file("state")
		if err := errors.Join(os.MkdirAll(dir, 0o750), os.Chown(dir, e.user(), e.user())); err != nil {
			return nil, err
		}
	}
	arguments := append([]string{e.host.world.exporter}, flags...)
	if e.files > 0 {
		arguments = slices.Concat([]string{"prlimit", fmt.Sprintf("--nofile=%d", e.files)}, arguments)
	}
	// The clock of a host that has booted counts from there.
	arguments = slices.Concat([]string{
		"unshare", "--time", fmt.Sprintf("--boottime=-%d", int(e.host.uptime.Seconds())),
		fmt.Sprintf("--setgid=%d", e.user()), fmt.Sprintf("--setuid=%d", e.user()),
	}, arguments)
	return exec.Command(arguments[0], arguments[1:]...), nil
}

func (e *exporter) user() int {
	if e.root {
		return 0
	}
	return nobody
}

// start starts the program, and waits until it has read the sockets for the first time.
func (e *exporter) start() error {
	log, err := os.OpenFile(e.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, err := e.command()
	if err != nil {
		return err
	}
	cmd.Stderr = log
	if err := e.host.inside(func() (err error) {
		e.process, err = host.Start(cmd)
		return err
	}); err != nil {
		return fmt.Errorf("start the exporter on %s: %w", e.host.name, err)
	}
	process := e.process
	return await("the exporter on "+e.host.name+" is ready", func() (bool, error) {
		_, err := host.Get("http://" + e.host.address() + ":10190/-/ready")
		return err == nil, process.Ended()
	})
}

func (e *exporter) stop() error {
	err := e.process.Terminate()
	e.process = nil
	return err
}

// crash ends the program without a chance to write anything.
func (e *exporter) crash() error {
	e.process.Kill()
	e.process = nil
	return nil
}

// declare replaces the registry in one step.
func (e *exporter) declare(text string) error {
	if err := os.WriteFile(e.file()+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(e.file()+".new", e.file())
}

// restart stops the exporter for as long as a package upgrade takes, in which some scrapes fail. It has other flags afterwards.
func (e *exporter) restart(flags ...string) error {
	e.flags = flags
	return errors.Join(e.stop(), e.host.awaitUp(0), e.start(), e.host.awaitUp(1))
}
