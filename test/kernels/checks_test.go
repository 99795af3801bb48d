//go:build linux

package kernels

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// checks are those of a boot, in order.
func (g *guest) checks() []host.Check {
	checks := []host.Check{
		{Name: "the program starts as nobody, with each source that there is", Run: g.startPrograms},
		{Name: "each source shows the known listeners and no other, and of MPTCP one TCP listener", Run: g.checkTable},
		{Name: "the sources agree on every queue", Run: g.checkQueues},
		{Name: "the sources count the same UDP drops", Run: g.checkUDPDrops},
		{Name: "every read succeeds", Run: g.checkSuccess},
		{Name: "with two capabilities, events count listeners that live for less than a look, and connections", Run: g.checkEvents},
	}
	if g.modules {
		checks = append(checks, []host.Check{
			{Name: "auto chooses netlink and has no reason to log", Run: func() error { return g.checkAuto("netlink", 0) }},
			{Name: "netlink counts the connections that a full accept queue refuses", Run: g.checkTCPDrops},
			{Name: "netlink names the device, procfs does not", Run: g.checkDevice},
			{Name: "netlink finds the unit of every listener by its cgroup", Run: g.checkUnits},
		}...)
	} else {
		checks = append(checks, []host.Check{
			{Name: "auto chooses procfs and says why in one line", Run: func() error { return g.checkAuto("procfs", 1) }},
			{Name: "the source netlink is refused with status 1 and one clear line", Run: func() error { return refused("tcp") }},
			{Name: "it is refused too with only tcp_diag, because of UDP", Run: func() error {
				return errors.Join(loadModules("inet_diag", "tcp_diag"), refused("udp"))
			}},
			{Name: "a program that runs keeps its source when the modules come", Run: func() error {
				return errors.Join(loadModules("udp_diag"), g.checkAuto("procfs", 1))
			}},
		}...)
	}
	return append(checks, host.Check{Name: "each program ends with status 0 on SIGTERM", Run: g.endPrograms})
}

func (g *guest) startPrograms() error {
	sources := []string{"procfs", "auto"}
	if g.modules {
		sources = append(sources, "netlink")
	}
	for n, source := range sources {
		p, err := startProgram(source, 2001+n)
		if err != nil {
			return err
		}
		g.programs = append(g.programs, p)
		g.table.listeners = append(g.table.listeners, p.listener())
	}
	return nil
}

// detailed reports whether a program must read through netlink.
func (g *guest) detailed(p *program) bool { return g.modules && p.source != "procfs" }

// forEach calls a function with each program's page and joins the errors.
func (g *guest) forEach(do func(*program, page) error) error {
	if len(g.programs) == 0 {
		return errors.New("no program runs")
	}
	var errs []error
	for _, p := range g.programs {
		scraped, err := p.scrape()
		if err == nil {
			err = do(p, scraped)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("source %s: %w", p.source, err))
		}
	}
	return errors.Join(errs...)
}

func (g *guest) checkTable() error {
	return g.forEach(func(p *program, scraped page) error {
		want, err := g.table.lines(g.detailed(p))
		if err != nil {
			return err
		}
		slices.Sort(want)
		got := scraped.of("host_listen_port", "host_listen_port_sockets",
			"host_listen_port_accept_queue_length", "host_listen_port_accept_queue_limit", "host_listen_port_ipv6_only")
		return host.Same(want, got)()
	})
}

func (g *guest) checkQueues() error {
	var first []string
	return g.forEach(func(_ *program, scraped page) error {
		bytes, err := scraped.value("host_listen_port_receive_queue_bytes", knownListener("udp", queuedUDPPort))
		if err != nil {
			return err
		}
		if bytes < 300 {
			return fmt.Errorf("%v bytes wait at the UDP port %d, want at least 300", bytes, queuedUDPPort)
		}
		queues := scraped.of("host_listen_port_receive_queue_bytes", "host_listen_port_accept_queue_length")
		queues = slices.DeleteFunc(queues, func(row string) bool { // whose scope only netlink knows
			return strings.Contains(row, " "+strconv.Itoa(devicePort)+" ")
		})
		if first == nil {
			first = queues
		}
		return host.Same(first, queues)()
	})
}

func (g *guest) checkUDPDrops() error {
	small := knownListener("udp", smallUDPPort)
	counted := func(want float64) error {
		return g.forEach(func(_ *program, scraped page) error {
			got, err := scraped.value("host_listen_port_drops_total", small)
			if err == nil && got != want {
				err = fmt.Errorf("%v drops counted, want %v", got, want)
			}
			return err
		})
	}
	if err := counted(0); err != nil {
		return fmt.Errorf("before any packet was sent: %w", err)
	}
	client, err := g.table.dial("udp", small.address)
	if err != nil {
		return err
	}
	const sent = 20
	for range sent {
		if _, err := client.Write(make([]byte, 512)); err != nil {
			return err
		}
	}
	dropped := sent
	for {
		if _, _, err := unix.Recvfrom(g.table.small, make([]byte, 1024), unix.MSG_DONTWAIT); err != nil {
			break // empty
		}
		dropped--
	}
	if dropped == 0 || dropped == sent {
		return fmt.Errorf("%d of %d packets were dropped: this shows nothing", dropped, sent)
	}
	return counted(float64(dropped))
}

func (g *guest) checkTCPDrops() error {
	full := knownListener("tcp", fullPort)
	var late net.Error
	if _, err := net.DialTimeout("tcp", full.address, 10*time.Millisecond); !errors.As(err, &late) || !late.Timeout() {
		return fmt.Errorf("a connection to a full accept queue: got %w, want a timeout", err)
	}
	return g.forEach(func(p *program, scraped page) error {
		value, err := scraped.value("host_listen_port_drops_total", full)
		switch {
		case !g.detailed(p) && err == nil:
			return fmt.Errorf("%v drops counted, want no such series", value)
		case !g.detailed(p):
			return nil
		case err == nil && value < 1:
			return errors.New("no drop is counted")
		}
		return err
	})
}

func (g *guest) checkSuccess() error {
	return g.forEach(func(_ *program, scraped page) error {
		rows := scraped.Rows("host_listen_collector_success", "collector")
		if !slices.Contains(rows, "tcp 1") || !slices.Contains(rows, "udp 1") {
			return fmt.Errorf("got %q", rows)
		}
		return nil
	})
}

// reasonText is what the program logs when it does not use netlink.
const reasonText = "netlink cannot be used"

func (g *guest) checkAuto(want string, reasons int) error {
	return g.forEach(func(p *program, scraped page) error {
		if p.source != "auto" {
			return nil
		}
		if lines := strings.Count(p.logged(), reasonText); lines != reasons {
			return fmt.Errorf("%d lines say %q, want %d:\n%s", lines, reasonText, reasons, p.logged())
		}
		return host.Same([]string{want + " 1"}, scraped.Rows("host_listen_source_info", "source"))()
	})
}

// refused starts the program with the source netlink, which must fail for a protocol.
func refused(proto string) error {
	status, stderr, err := runToEnd("--collector.source=netlink", "--web.listen-address=127.0.0.1:2009")
	if err != nil {
		return err
	}
	_, failure, _ := strings.Cut(stderr, "level=error")
	if status != 1 || strings.Count(stderr, "level=error") != 1 ||
		!strings.Contains(failure, "--collector.source=netlink: ") || !strings.Contains(failure, proto+" sockets") {
		return fmt.Errorf("status %d, want 1 and one error that names the flag and %s:\n%s", status, proto, stderr)
	}
	return nil
}

func (g *guest) checkDevice() error {
	l := knownListener("tcp", devicePort)
	row := fmt.Sprintf("tcp %s %d lo 1", l.ip(), l.port())
	return g.forEach(func(p *program, scraped page) error {
		rows := scraped.Rows("host_listen_port", "proto", "address", "port", "device")
		if got := slices.Contains(rows, row); got != g.detailed(p) {
			return fmt.Errorf("%s is there: %t, want %t", row, got, g.detailed(p))
		}
		return nil
	})
}

func (g *guest) endPrograms() error {
	var errs []error
	for _, p := range g.programs {
		if err := p.Terminate(); err != nil {
			errs = append(errs, fmt.Errorf("%w\n%s", err, p.logged()))
		}
	}
	return errors.Join(errs...)
}

// checkUnits finds the unit in which all sockets were opened, by the cgroup id that sock_diag has for each.
func (g *guest) checkUnits() error {
	want := make([]string, 0, len(g.table.listeners))
	for _, l := range g.table.listeners {
		want = append(want, fmt.Sprintf("%s %s %d %s 1", l.proto(), l.ip(), l.port(), guestUnit))
	}
	slices.Sort(want)
	return g.forEach(func(p *program, scraped page) error {
		if !g.detailed(p) {
			return nil
		}
		return host.Same(want, scraped.Rows("host_listen_port_holder_info", "proto", "address", "port", "unit"))()
	})
}

// knownListener returns an entry of the table.
func knownListener(proto string, port uint16) listener {
	return known[slices.IndexFunc(known, func(l listener) bool { return l.proto() == proto && l.port() == port })]
}
