//go:build linux

package incidents

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// The alerts.
const (
	missing    = "PortGoneMissing"
	vanished   = "PortVanished"
	exposed    = "ListenerExposed"
	unknown    = "UnregisteredListener"
	forbidden  = "ForbiddenListener"
	taken      = "ListenerHolderChanged"
	full       = "AcceptQueueFull"
	dropping   = "ListenerDropping"
	privileged = "UnexpectedPrivilegedListener"
	down       = "ListenExporterDown"
	failed     = "ListenCollectorFailed"
	badFile    = "PortRegistryReloadFailed"
	nowhere    = "ServiceOnNoHost"
	omitted    = "ListenPortsOmitted"
	neverRead  = "ListenNamespacesNeverRead"
	flapping   = "PortFlapping"
	unsteady   = "ListenExporterFlapping"
	manyGone   = "ManyPortsVanished"
	manyOpen   = "ManyUndeclaredListeners"
	unwritten  = "ListenStateNotWritten"
	noServices = "PortRegistryWithoutServices"
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
  - {name: api, port: 8080, hosts: ["*", "!db"]}
  - {name: shop, port: 8081, hosts: ["*", "!db"]}
  - {name: redis, port: 6379, bind: loopback, hosts: ["*", "!db"]}
  - {name: proxy, port: 8443, hosts: ["*", "!db"]}
  - {name: syslog, port: 514, proto: udp, hosts: ["*", "!db"]}
  - {name: grafana, port: 3000, hosts: [web]}
  - {name: legacy, port: 3001, bind: 0.0.0.0, hosts: [web]}
  - {name: postgres, port: 5432, bind: private, hosts: [db]}
  - {name: dns, port: 53, proto: udp, hosts: [db]}
  - {name: ntp, port: 123, proto: udp, hosts: [db]}
`

// search is one more service, for the end of the registry.
const search = "  - {name: search, port: 9200}\n"

// stages are all that is played.
func (w *world) stages() []*stage {
	s := &script{world: w}
	return []*stage{
		s.ordinary(),
		s.refused("half", 2), s.refused("eighth", 8), s.late(), s.killed(), s.skewed(),
		s.loops(), s.rareLoops(),
		s.powerCuts(), s.slowBoots(), s.restarts(), s.badStates(),
		s.pairs(), s.replicas(), s.renamed(), s.departed(),
		s.registries(), s.crowds(), s.omissions(), s.losses(),
		s.outages(),
	}
}

// script makes hosts, what runs on them, and what happens to them.
type script struct {
	world *world
	hosts int
}

// host returns a host on which only sshd runs and gitd, whose exporter has a registry or none.
func (s *script) host(name, registry string) *machine {
	s.hosts++
	h := &machine{world: s.world, name: name, number: s.hosts, targets: []map[string]string{nil}, addresses: map[*engine]string{}}
	h.exporter = &exporter{host: h, registry: registry}
	h.runs("sshd", "tcp/0.0.0.0:22", "tcp/[::1]:22")
	h.runs("gitd", "tcp/0.0.0.0:2222")
	return h
}

// server returns a host that has all services that ports declares for every host but db.
func (s *script) server(name, registry string) *machine {
	h := s.host(name, registry)
	h.exporter.root = true
	h.runs("apid", "tcp/0.0.0.0:8080")
	h.runs("shopd", "tcp/0.0.0.0:8081")
	h.runs("redis", "tcp/127.0.0.1:6379")
	h.runs("proxyd", deaf, "tcp/0.0.0.0:8443")
	if registry == "" {
		h.runs("statsd", deaf, "udp/0.0.0.0:8125")
	} else {
		h.runs("syslogd", deaf, "udp/0.0.0.0:514")
	}
	return h
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

func (s *service) portNumber() string { return s.port()[len("tcp/"):] }

func (s *service) incident(name string, begin, end func() error, want []string) *incident {
	return &incident{host: s.host, name: name, at: s.port(), want: want, begin: begin, end: end}
}

// on is an incident of the whole host.
func (h *machine) on(name string, begin, end func() error, want ...string) *incident {
	return &incident{host: h, name: name, begin: begin, end: end, want: want}
}

// stops stops a service until the end of the act.
func (s *service) stops(want ...string) *incident {
	return s.incident("a service stops", s.stop, s.start, want)
}

// stopsForGood stops a service.
func (s *service) stopsForGood(want ...string) *incident {
	return s.incident("a service stops for good", s.stop, nil, want)
}

// grace is how long a declared port may be missing.
const grace = 2 * time.Minute / speed

// restarts starts a service again as soon as an alert could be pending. A slow machine takes seconds for that, which are most of its
// grace. Where they are all of it an alert is right: when it has ended, the service restarts again. Three restarts are no loop.
func (s *service) restarts() *incident {
	i := s.incident("a service restarts within its grace", nil, nil, nil)
	i.begin = func() error {
		for attempt := 1; ; attempt++ {
			i.since = time.Now()
			err := s.stop()
			time.Sleep(30 * time.Second / speed)
			err = errors.Join(err, s.start(), s.host.world.monitoring.seen(time.Now(), []*machine{s.host}))
			took := time.Since(i.since)
			if err != nil || took < grace || attempt == 3 {
				return err
			}
			s.host.world.logf("%s of %s was away for %s", s.program, s.host.name, took)
			if err := s.host.awaitQuiet(s.port()); err != nil {
				return err
			}
		}
	}
	return i
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
	return s.isKnocked("a backlog fills", knocking, s.connect, want)
}

// connect is a client that hangs up at once.
func (s *service) connect() error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(s.host.address(), s.portNumber()), 100*time.Millisecond)
	if err == nil {
		err = conn.Close()
	}
	return err
}

// drops sends packets to a service that reads none of them until the end of the act.
func (s *service) drops(want ...string) *incident {
	return s.isKnocked("UDP packets are dropped", knocking, func() error {
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
func (s *service) isKnocked(name string, pause time.Duration, knock func() error, want []string) *incident {
	clients := repeated(func(wait func(time.Duration) bool) error {
		for wait(pause) {
			_ = knock() // most of them fail: that is the incident
		}
		return nil
	})
	return s.incident(name, clients.begin, func() error {
		return errors.Join(s.serve(), await(s.program+" serves", func() (bool, error) { return knock() == nil, nil }), clients.end())
	}, want)
}

// activity is what goes on during an act.
type activity struct {
	run     func(wait func(time.Duration) bool) error
	stop    chan struct{}
	stopped chan error
}

// repeated is an activity that runs until wait, which waits, returns false.
func repeated(run func(wait func(time.Duration) bool) error) *activity {
	return &activity{run, make(chan struct{}), make(chan error, 1)}
}

func (a *activity) begin() error {
	go func() {
		a.stopped <- a.run(func(d time.Duration) bool {
			select {
			case <-a.stop:
				return false
			case <-time.After(d):
				return true
			}
		})
	}()
	return nil
}

func (a *activity) end() error {
	close(a.stop)
	return <-a.stopped
}
