package incidents

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// nobody is the user who runs the program, as in the shipped unit and DaemonSet, without any capability.
const nobody = 65534

// exporter is the program that is tested, on a host.
type exporter struct {
	host     *machine
	root     bool     // may see which process holds a port
	registry string   // at the start; empty for none
	flags    []string // of this exporter only
	files    int      // how many it may have open, if that is limited
	process  *host.Process
}

// file is the host's registry.
func (e *exporter) file() string { return filepath.Join(e.host.world.dir, e.host.name+"-ports.yml") }

// log is where the program writes its log.
func (e *exporter) log() string { return filepath.Join(e.host.world.dir, e.host.name+"-exporter.log") }

// start starts the program, and waits until it has read the sockets for the first time.
func (e *exporter) start(flags ...string) error {
	log, err := os.OpenFile(e.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// 1m by default, and as much faster as the rules are.
	flags = append(flags, "--collector.udp.ephemeral-min-age="+promDuration(time.Minute/speed))
	if e.registry != "" {
		flags = append(flags, "--registry.file="+e.file())
	}
	cmd := exec.Command(e.host.world.exporter, append(flags, e.flags...)...)
	if e.files > 0 {
		cmd = exec.Command("prlimit", slices.Concat([]string{fmt.Sprintf("--nofile=%d", e.files)}, cmd.Args)...)
	}
	cmd.Stderr = log
	if !e.root {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
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

// declare replaces the registry in one step.
func (e *exporter) declare(text string) error {
	if err := os.WriteFile(e.file()+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(e.file()+".new", e.file())
}
