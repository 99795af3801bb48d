package incidents

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ports is the registry of the hosts that have one.
const ports = `
forbidden:
  - {port: 23, reason: telnet is not used here}
reserved:
  - {team: alpha, ports: 30000-30999}
services:
  - {name: ssh, port: 22, process: sshd}
  - {name: git, port: 2222, process: gitd}
  - {name: api, port: 8080, hosts: [web]}
  - {name: shop, port: 8081, hosts: [web]}
  - {name: redis, port: 6379, bind: loopback, hosts: [web]}
  - {name: proxy, port: 8443, hosts: [web]}
  - {name: syslog, port: 514, proto: udp, hosts: [web]}
  - {name: grafana, port: 3000, hosts: [web]}
  - {name: legacy, port: 3001, bind: 0.0.0.0, hosts: [web]}
  - {name: postgres, port: 5432, bind: private, hosts: [db]}
  - {name: dns, port: 53, proto: udp, hosts: [db]}
  - {name: ntp, port: 123, proto: udp, hosts: [db]}
`

// search is one more service, for the end of the registry.
const search = "  - {name: search, port: 9200}\n"

// script is the hosts, what runs on them, and what happens to them.
type script struct {
	web, db, plain *machine
}

func (s *script) hosts() []*machine { return []*machine{s.web, s.db, s.plain} }

func newScript(w *world) *script {
	s := &script{
		web:   &machine{world: w, name: "web", number: 1},
		db:    &machine{world: w, name: "db", number: 2},
		plain: &machine{world: w, name: "plain", number: 3},
	}
	for _, h := range s.hosts() {
		h.exporter = &exporter{host: h, root: h == s.web}
		if h != s.plain {
			h.exporter.registry = ports
		}
		h.runs("sshd", "tcp/0.0.0.0:22", "tcp/[::1]:22")
		h.runs("gitd", "tcp/0.0.0.0:2222")
	}
	for _, h := range []*machine{s.web, s.plain} {
		h.runs("apid", "tcp/0.0.0.0:8080")
		h.runs("shopd", "tcp/0.0.0.0:8081")
		h.runs("redis", "tcp/127.0.0.1:6379")
		h.runs("proxyd", deaf, "tcp/0.0.0.0:8443")
		h.runs("grafana", "tcp/0.0.0.0:3000")
	}
	s.web.runs("syslogd", deaf, "udp/0.0.0.0:514")
	s.web.runs("legacyd", "tcp/0.0.0.0:3001")
	s.db.runs("postgres", "tcp/10.77.2.2:5432")
	s.db.runs("named", "udp/0.0.0.0:53")
	s.db.runs("ntpd", deaf, "udp/0.0.0.0:123")
	s.plain.runs("statsd", deaf, "udp/0.0.0.0:8125")
	s.plain.runs("cupsd", "tcp/127.0.0.1:631")
	s.plain.runs("oldd", "tcp/0.0.0.0:9999")
	return s
}

// runs adds a program that runs on the host from its boot on.
func (h *machine) runs(program string, sockets ...string) {
	h.services = append(h.services, &service{host: h, program: program, sockets: sockets})
}

// service returns one of the host's programs.
func (h *machine) service(program string) *service {
	for _, s := range h.services {
		if s.program == program {
			return s
		}
	}
	panic("no program " + program + " on " + h.name)
}

// port returns the first port of the service as an alert names it, such as tcp/80.
func (s *service) port() string {
	for _, socket := range s.sockets {
		if proto, address, ok := strings.Cut(socket, "/"); ok {
			return proto + "/" + address[strings.LastIndexByte(address, ':')+1:]
		}
	}
	return ""
}

// stops stops a service until the end of the act.
func (s *service) stops(want ...string) *incident {
	return s.incident("a service stops", s.stop, s.start, want)
}

// restarts starts a service again as soon as an alert is pending.
func (s *service) restarts(waiting string) *incident {
	return s.incident("a service restarts within its grace", func() error {
		return errors.Join(s.stop(), s.host.awaitAlert(waiting, s.port(), false), s.start())
	}, nil, nil)
}

// moves restarts a service with another address.
func (s *service) moves(to string, want ...string) *incident {
	name := fmt.Sprintf("a service moves from %s to %s", withoutPort(s.sockets[0]), withoutPort(to))
	return s.incident(name, func() error { return s.moveTo(to) }, func() error { return s.moveTo(s.sockets...) }, want)
}

func withoutPort(socket string) string {
	_, address, _ := strings.Cut(socket, "/")
	host, _, _ := net.SplitHostPort(address)
	return host
}

// isReplaced gives the port of a service to another program.
func (s *service) isReplaced(name string, want ...string) *incident {
	return s.incident(name, func() error {
		return errors.Join(s.stop(), s.startAs("intruder", s.sockets...))
	}, func() error { return s.moveTo(s.sockets...) }, want)
}

// appears starts a program that is in no registry.
func (h *machine) appears(name, program string, sockets []string, want ...string) *incident {
	s := &service{host: h, program: program, sockets: sockets}
	return s.incident(name, s.start, s.stop, want)
}

// hasClients starts a program that opens many UDP sockets, as a resolver does.
func (h *machine) hasClients() *incident {
	i := h.appears("a burst of clients' UDP sockets", "resolver", slices.Repeat([]string{"udp/0.0.0.0:0"}, 200))
	i.at = clients
	return i
}

// isFull connects clients to a service that accepts none of them until the end of the act.
func (s *service) isFull(want ...string) *incident {
	return s.isKnocked("a backlog fills", func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(s.host.address(), s.portNumber()), 100*time.Millisecond)
		if err == nil {
			err = conn.Close()
		}
		return err
	}, want)
}

// drops sends packets to a service that reads none of them until the end of the act.
func (s *service) drops(want ...string) *incident {
	return s.isKnocked("UDP packets are dropped", func() error {
		conn, err := net.Dial("udp", net.JoinHostPort(s.host.address(), s.portNumber()))
		if err == nil {
			_, err = conn.Write([]byte("packet"))
			err = errors.Join(err, conn.Close())
		}
		return err
	}, want)
}

// knocking is the time between two clients.
const knocking = 10 * time.Millisecond

// dropsFor sends packets to a service that reads none of them for a while.
func (s *service) dropsFor(name string, length time.Duration) *incident {
	knocked := s.drops()
	return s.incident(name, func() error {
		err := knocked.begin()
		time.Sleep(length)
		return errors.Join(err, knocked.end())
	}, nil, nil)
}

// isKnocked sends clients until the service serves them all.
func (s *service) isKnocked(name string, knock func() error, want []string) *incident {
	stop, stopped := make(chan struct{}), make(chan struct{})
	return s.incident(name, func() error {
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(knocking):
					_ = knock() // most of them fail: that is the incident
				}
			}
		}()
		return nil
	}, func() error {
		err := errors.Join(s.serve(), await(s.program+" serves", func() (bool, error) { return knock() == nil, nil }))
		close(stop)
		<-stopped
		return err
	}, want)
}

func (s *service) portNumber() string { return s.port()[len("tcp/"):] }

func (s *service) incident(name string, begin, end func() error, want []string) *incident {
	return &incident{host: s.host, name: name, at: s.port(), want: want, begin: begin, end: end}
}

// on is an incident of the whole host.
func (h *machine) on(name string, begin, end func() error, want ...string) *incident {
	return &incident{host: h, name: name, begin: begin, end: end, want: want}
}

// hideProcesses sets whether only root sees the processes of other users below /proc, as on a hardened host: 2 hides them, 0
// does not.
func (h *machine) hideProcesses(level int) error {
	return h.inside(func() error {
		return unix.Mount("proc", "/proc", "proc", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("hidepid=%d", level))
	})
}

// upgrade stops the exporter for as long as a package upgrade takes, in which some scrapes fail.
func (e *exporter) upgrade(flags ...string) error {
	e.flags = flags
	return errors.Join(e.stop(), e.host.awaitUp(0), e.start(), e.host.awaitUp(1))
}
