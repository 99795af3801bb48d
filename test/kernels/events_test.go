//go:build linux

package kernels

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

const (
	eventsPort      = 2010 // where the program with events serves
	connectedPort   = 505
	shortLived      = 200 // listeners of each protocol
	connectionsMade = 3
)

// allowLockedMemory lets programs of other users keep what events take in the kernel, as LimitMEMLOCK= does. Before Linux 5.11 it
// counts as locked memory.
func allowLockedMemory() error {
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}

// checkEvents has a program with the two capabilities and no other right count listeners that live for less than a look, and
// connections to one that was there before.
func (g *guest) checkEvents() error {
	p, err := startProgram("auto", eventsPort, func(cmd *exec.Cmd) {
		cmd.Args = append(cmd.Args, "--collector.events=on")
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}
	})
	if err != nil {
		return err
	}
	defer p.Kill()
	connected := knownListener("tcp", connectedPort)
	// A first look makes the listeners known.
	if err := host.Await(patience, func() error {
		scraped, err := p.scrape()
		if err == nil {
			_, err = scraped.value("host_listen_port_connections_total", connected)
		}
		return err
	}); err != nil {
		return fmt.Errorf("%w\n%s", err, p.logged())
	}
	if !strings.Contains(p.logged(), "hooks=functions") {
		return fmt.Errorf("the program does not say that it is attached to functions:\n%s", p.logged())
	}
	for range connectionsMade {
		if _, err := g.table.dial("tcp", connected.address); err != nil {
			return err
		}
	}
	for range shortLived {
		for _, proto := range []string{"tcp", "udp"} {
			fd, err := netnstest.Listen(proto, "127.0.0.1:601")
			if err != nil {
				return err
			}
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
	}
	want := []string{fmt.Sprintf("tcp %d", shortLived), fmt.Sprintf("udp %d", shortLived)}
	// The program opens its own port while events begin.
	wantWithOwn := []string{fmt.Sprintf("tcp %d", shortLived+1), want[1]}
	return host.Await(patience, func() error {
		scraped, err := p.scrape()
		if err != nil {
			return err
		}
		if rows := scraped.Rows("host_listen_collector_success", "collector"); !slices.Contains(rows, "event 1") {
			return fmt.Errorf("got %q\n%s", rows, p.logged())
		}
		for _, name := range []string{"host_listen_opened_total", "host_listen_closed_total"} {
			rows := scraped.Rows(name, "proto")
			if name == "host_listen_opened_total" && slices.Equal(rows, wantWithOwn) {
				continue
			}
			if err := host.Same(want, rows)(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if made, err := scraped.value("host_listen_port_connections_total", connected); err != nil || made != connectionsMade {
			return fmt.Errorf("%v connections, %w, want %d", made, err, connectionsMade)
		}
		return nil
	})
}
