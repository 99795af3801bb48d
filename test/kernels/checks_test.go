package kernels

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// commonChecks are those of every boot, in order.
var commonChecks = []check{
	{"the program starts as nobody, with each source that there is", startPrograms},
	{"each source shows the known listeners and no other", checkTable},
	{"an MPTCP listener is one TCP listener from each source", checkMPTCP},
	{"the sources agree on every queue", checkQueues},
	{"the sources count the same UDP drops", checkUDPDrops},
	{"every read succeeds", checkSuccess},
}

var checksWithModules = []check{
	{"auto chooses netlink and has no reason to log", checkAutoNetlink},
	{"netlink counts the connections that a full accept queue refuses", checkTCPDrops},
	{"netlink names the device, procfs does not", checkDevice},
	{"every row of sock_diag has its memory, IPv6-only flag and cgroup id", checkAttributes},
	{"each program ends with status 0 on SIGTERM", endPrograms},
}

var checksWithoutModules = []check{
	{"auto chooses procfs and says why in one line", checkAutoProcfs},
	{"the source netlink is refused with status 1 and one clear line", checkNetlinkRefused},
	{"it is refused too with tcp_diag alone, for UDP's sake", checkWithoutUDPDiag},
	{"a program that runs keeps its source when the modules come", checkSourceKept},
	{"each program ends with status 0 on SIGTERM", endPrograms},
}

func startPrograms(g *guest) error {
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
		g.table.add(p.listener())
	}
	return nil
}

// detailed tells whether a program reads through netlink, or ought to.
func (g *guest) detailed(p *program) bool { return g.modules && p.source != "procfs" }

// forEach calls a function with each program's page, and joins what it finds.
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

func checkTable(g *guest) error {
	return g.forEach(func(p *program, scraped page) error {
		want, err := g.table.lines(g.detailed(p))
		if err != nil {
			return err
		}
		slices.Sort(want)
		got := scraped.of("host_listen_port", "host_listen_port_sockets",
			"host_listen_port_accept_queue_length", "host_listen_port_accept_queue_limit", "host_listen_port_ipv6_only")
		return differences(want, got)
	})
}

func checkMPTCP(g *guest) error {
	if !g.mptcp {
		g.fact("no MPTCP")
		return nil
	}
	g.fact("MPTCP")
	printMPTCPRows()
	return g.forEach(func(_ *program, scraped page) error {
		for _, l := range known {
			if l.network != "mptcp" {
				continue
			}
			wanted := "host_listen_port_sockets" + l.labels()
			found := slices.DeleteFunc(scraped.of("host_listen_port_sockets"), func(line string) bool { return !strings.HasPrefix(line, wanted) })
			if want := []string{fmt.Sprintf("%s %d", wanted, max(l.sockets, 1))}; !slices.Equal(found, want) {
				return fmt.Errorf("got %q, want %q", found, want)
			}
		}
		return nil
	})
}

func checkQueues(g *guest) error {
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
		if first == nil {
			first = queues
		}
		return differences(first, queues)
	})
}

func checkUDPDrops(g *guest) error {
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
	client, err := dial("udp", small.address)
	if err != nil {
		return err
	}
	const sent = 20
	for range sent {
		if _, err := unix.Write(client, make([]byte, 512)); err != nil {
			return fmt.Errorf("send: %w", err)
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
	g.fact("UDP drops %d", dropped)
	return counted(float64(dropped))
}

func checkTCPDrops(g *guest) error {
	full := knownListener("tcp", fullPort)
	fd, sockaddr, err := open("tcp", full.address)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	if err := unix.Connect(fd, sockaddr); !errors.Is(err, unix.EINPROGRESS) {
		return errors.Join(errors.New("a connection to a full accept queue is not in progress"), err)
	}
	time.Sleep(10 * time.Millisecond)
	return g.forEach(func(p *program, scraped page) error {
		value, err := scraped.value("host_listen_port_drops_total", full)
		switch {
		case !g.detailed(p) && err == nil:
			return fmt.Errorf("%v drops counted, want no such series", value)
		case !g.detailed(p):
			return nil
		case err == nil && value < 1:
			return errors.New("no drop is counted")
		case p.source == "netlink":
			g.fact("TCP drops %v", value)
		}
		return err
	})
}

func checkSuccess(g *guest) error {
	return g.forEach(func(_ *program, scraped page) error {
		for _, proto := range []string{"tcp", "udp"} {
			if line := `host_listen_collector_success{collector="` + proto + `"} 1`; !scraped.has(line) {
				return fmt.Errorf("there is no %s", line)
			}
		}
		return nil
	})
}

// reasonText is how the program says that it does not use netlink.
const reasonText = "netlink cannot be used"

func checkAutoNetlink(g *guest) error { return checkAuto(g, "netlink", 0) }

func checkAutoProcfs(g *guest) error { return checkAuto(g, "procfs", 1) }

func checkAuto(g *guest, want string, reasons int) error {
	return g.forEach(func(p *program, scraped page) error {
		if p.source != "auto" {
			return nil
		}
		if line := `host_listen_source_info{source="` + want + `"} 1`; !scraped.has(line) {
			return fmt.Errorf("got %q, want %s", scraped.of("host_listen_source_info"), line)
		}
		if auto := "auto chose " + want; !slices.Contains(g.facts, auto) {
			g.fact("%s", auto)
		}
		lines := p.logLines(reasonText)
		if len(lines) != reasons {
			return fmt.Errorf("%d lines say %q, want %d:\n%s", len(lines), reasonText, reasons, p.logged())
		}
		for _, line := range lines {
			fmt.Println(comment(line))
		}
		return nil
	})
}

func checkNetlinkRefused(_ *guest) error { return refused("tcp") }

func checkWithoutUDPDiag(_ *guest) error {
	if err := loadModules("inet_diag", "tcp_diag"); err != nil {
		return err
	}
	return refused("udp")
}

// refused tries the source netlink, which must fail on a protocol.
func refused(proto string) error {
	status, stderr, err := runToEnd("--collector.source=netlink", "--web.listen-address=127.0.0.1:2009")
	if err != nil {
		return err
	}
	failures := slices.DeleteFunc(strings.Split(stderr, "\n"), func(line string) bool { return !strings.Contains(line, "level=error") })
	if status != 1 || len(failures) != 1 || !strings.Contains(failures[0], "--collector.source=netlink: ") || !strings.Contains(failures[0], proto+" sockets") {
		return fmt.Errorf("status %d, want 1 and one error that names the flag and %s:\n%s", status, proto, stderr)
	}
	fmt.Println(comment(failures[0]))
	return nil
}

func checkSourceKept(g *guest) error {
	if err := loadModules("udp_diag"); err != nil {
		return err
	}
	return checkAutoProcfs(g)
}

func checkDevice(g *guest) error {
	l := knownListener("tcp", devicePort)
	line := "host_listen_port" + strings.Replace(l.labels(), ",", `,device="lo",`, 1) + " 1"
	return g.forEach(func(p *program, scraped page) error {
		if got := scraped.has(line); got != g.detailed(p) {
			return fmt.Errorf("%s is there: %t, want %t", line, got, g.detailed(p))
		}
		return nil
	})
}

func endPrograms(g *guest) error {
	var errs []error
	for _, p := range g.programs {
		errs = append(errs, p.end())
	}
	return errors.Join(errs...)
}

// differences returns an error that shows in what two sorted lists differ, or nil.
func differences(want, got []string) error {
	if slices.Equal(want, got) {
		return nil
	}
	text := "(-want +got):"
	for len(want) > 0 || len(got) > 0 {
		switch {
		case len(got) == 0 || len(want) > 0 && want[0] < got[0]:
			text += "\n-" + want[0]
			want = want[1:]
		case len(want) == 0 || got[0] < want[0]:
			text += "\n+" + got[0]
			got = got[1:]
		default:
			want, got = want[1:], got[1:]
		}
	}
	return errors.New(text)
}

// knownListener returns an entry of the table.
func knownListener(proto string, port uint16) listener {
	return known[slices.IndexFunc(known, func(l listener) bool { return l.proto() == proto && l.port() == port })]
}
