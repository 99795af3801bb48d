//go:build linux

package incidents

import (
	"errors"
	"time"
)

// ordinary is what happens to single ports, hosts and exporters, with a registry and without, while everything else works.
func (s *script) ordinary() *stage {
	web, db, plain := s.server("web", ports), s.host("db", ports), s.server("plain", "")
	web.runs("grafana", "tcp/0.0.0.0:3000")
	web.runs("legacyd", "tcp/0.0.0.0:3001")
	db.runs("postgres", "tcp/"+db.address()+":5432")
	db.runs("named", "udp/0.0.0.0:53")
	db.runs("ntpd", deaf, "udp/0.0.0.0:123")
	plain.exporter.root = false
	plain.runs("grafana", "tcp/0.0.0.0:3000")
	plain.runs("cupsd", "tcp/127.0.0.1:631")
	return &stage{
		name: "ordinary", hosts: []*machine{web, db, plain},
		acts: []act{{incidents: ofPorts(web, db, plain)}, {incidents: ofHosts(web, db, plain)}, {incidents: ofExporters(web, db, plain)}},
	}
}

// ofPorts are incidents of single ports, with a registry and without.
func ofPorts(web, db, plain *machine) []*incident {
	newService := &service{host: web, program: "finder", sockets: []string{"tcp/0.0.0.0:9200"}}
	return []*incident{
		web.on("the exporter is upgraded, and reads all network namespaces", func() error {
			return web.exporter.restart("--collector.netns=all")
		}, nil),
		web.service("apid").stops(missing + " api"),
		web.service("shopd").restarts(),
		web.service("redis").moves("tcp/0.0.0.0:6379", exposed+" redis"),
		web.service("gitd").isReplaced("another program takes a port", taken+" git"),
		web.appears("a rogue privileged listener", "rpcbind", []string{"tcp/0.0.0.0:111"}, unknown),
		web.appears("a rogue high port", "backdoor", []string{"tcp/0.0.0.0:31337"}, unknown),
		web.appears("a rogue port in a team's range", "squatter", []string{"tcp/0.0.0.0:30080"}, unknown+" alpha"),
		web.appears("a forbidden port on loopback", "telnetd", []string{"tcp/127.0.0.1:23"}, forbidden),
		web.appears("an undeclared port on loopback", "debugger", []string{"tcp/127.0.0.1:9229"}),
		web.service("proxyd").isFull(full),
		web.service("syslogd").drops(dropping),
		newService.incident("a service is declared that does not run yet", func() error {
			return web.exporter.declare(ports + search)
		}, newService.start, []string{missing + " search"}),
		web.hasClients(),
		web.service("grafana").moves("tcp/[::]:3000"),
		web.service("legacyd").moves("tcp/[::]:3001", exposed+" legacy"),

		db.on("the exporter is upgraded, and reads procfs from then on", func() error {
			return errors.Join(db.exporter.restart("--collector.source=procfs"), db.awaitSource("procfs"))
		}, func() error { return errors.Join(db.exporter.restart(), db.awaitSource("netlink")) }),
		db.service("named").stops(missing + " dns"),
		db.appears("a rogue listener on the TCP port of the same number", "resolver", []string{"tcp/0.0.0.0:53"}, unknown),
		db.service("ntpd").dropsFor("UDP packets are dropped for a minute", time.Minute/speed),
		db.service("postgres").moves("tcp/127.0.0.1:5432"),
		db.service("gitd").isReplaced("another program takes a port, which the exporter has no right to see"),

		plain.service("apid").stops(vanished),
		plain.service("shopd").restarts(),
		plain.service("redis").moves("tcp/0.0.0.0:6379"),
		plain.service("cupsd").moves("tcp/0.0.0.0:631", privileged),
		plain.service("gitd").isReplaced("another program takes a port"),
		plain.service("proxyd").isFull(full),
		plain.service("statsd").drops(dropping),
		plain.hasClients(),
		plain.service("grafana").moves("tcp/[::]:3000"),
	}
}

// ofHosts are incidents of exporters that see less, and of whole hosts.
func ofHosts(web, db, plain *machine) []*incident {
	unwatched := web.service("apid")
	unseen := unwatched.incident("a service stops while the exporter is down, and is still gone afterwards", unwatched.stop, func() error {
		return errors.Join(web.awaitAlert(missing, unwatched.port(), true), unwatched.start())
	}, []string{missing + " api"})
	unseen.late = true
	return []*incident{
		web.on("the exporter is stopped", web.exporter.stop, func() error { return web.exporter.start() }, down),
		unseen,
		db.on("/proc cannot be read, by the exporter with netlink", func() error { return db.hideProcesses(2) },
			func() error { return db.hideProcesses(0) }),
		plain.on("/proc cannot be read, by the exporter with procfs", func() error {
			return errors.Join(plain.exporter.restart("--collector.source=procfs"), plain.hideProcesses(2))
		}, func() error { return plain.hideProcesses(0) }, failed),
	}
}

// ofExporters are incidents of exporters, and what may happen at the same time.
func ofExporters(web, db, plain *machine) []*incident {
	return []*incident{
		web.on("an edit breaks the registry, another mends it", func() error { return web.exporter.declare(ports + search + "  - {") },
			func() error { return web.exporter.declare(ports + search) }, badFile),
		web.service("shopd").stops(missing + " shop"),
		db.on("the host goes away, and boots", db.die, db.boot, down),
		// A port that is left out must not look closed.
		plain.on("the exporter is upgraded, and leaves out ports and network namespaces", func() error {
			plain.exporter.files = 64
			return errors.Join(plain.makeNamespaces(100), plain.exporter.restart("--collector.max-ports=10", "--collector.netns=all"))
		}, func() error {
			plain.exporter.files = 0
			plain.namespaces.Kill()
			return plain.exporter.restart()
		}, omitted, neverRead),
		plain.appears("a rogue privileged listener", "rpcbind", []string{"tcp/0.0.0.0:111"}, privileged),
		plain.appears("a rogue high port", "backdoor", []string{"tcp/0.0.0.0:31337"}),
	}
}
