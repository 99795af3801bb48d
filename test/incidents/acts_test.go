package incidents

import (
	"errors"
	"time"
)

// acts are the incidents. Those of one act happen at the same time.
func (s *script) acts() [][]*incident {
	return [][]*incident{s.ofPorts(), s.ofHosts(), s.ofExporters()}
}

// ofPorts are incidents of single ports, with a registry and without.
func (s *script) ofPorts() []*incident {
	web, db, plain := s.web, s.db, s.plain
	newService := &service{host: web, program: "finder", sockets: []string{"tcp/0.0.0.0:9200"}}
	incidents := []*incident{
		web.on("the exporter is upgraded", func() error { return web.exporter.upgrade() }, nil),
		web.service("apid").stops("PortGoneMissing api"),
		web.service("shopd").restarts("PortGoneMissing"),
		web.service("redis").moves("tcp/0.0.0.0:6379", "ListenerExposed redis"),
		web.service("gitd").isReplaced("another program takes a port", "ListenerHolderChanged git"),
		web.appears("a rogue privileged listener", "rpcbind", []string{"tcp/0.0.0.0:111"}, "UnregisteredListener"),
		web.appears("a rogue high port", "backdoor", []string{"tcp/0.0.0.0:31337"}, "UnregisteredListener"),
		web.appears("a rogue port in a team's range", "squatter", []string{"tcp/0.0.0.0:30080"}, "UnregisteredListener alpha"),
		web.appears("a forbidden port on loopback", "telnetd", []string{"tcp/127.0.0.1:23"}, "ForbiddenListener"),
		web.appears("an undeclared port on loopback", "debugger", []string{"tcp/127.0.0.1:9229"}),
		web.service("proxyd").isFull("AcceptQueueFull"),
		web.service("syslogd").drops("ListenerDropping"),
		newService.incident("a service is declared that does not run yet", func() error {
			return web.exporter.declare(ports + search)
		}, newService.start, []string{"PortGoneMissing search"}),
		web.hasClients(),
		web.service("grafana").moves("tcp/[::]:3000"),
		web.service("legacyd").moves("tcp/[::]:3001", "ListenerExposed legacy"),

		db.on("the exporter is upgraded, and reads procfs from then on", func() error {
			return errors.Join(db.exporter.upgrade("--collector.source=procfs"), db.awaitSource("procfs"))
		}, func() error { return errors.Join(db.exporter.upgrade(), db.awaitSource("netlink")) }),
		db.service("named").stops("PortGoneMissing dns"),
		db.appears("a rogue listener on the TCP port of the same number", "resolver", []string{"tcp/0.0.0.0:53"}, "UnregisteredListener"),
		db.service("ntpd").dropsFor("UDP packets are dropped for a minute", time.Minute/speed),
		db.service("postgres").moves("tcp/127.0.0.1:5432"),
		db.service("gitd").isReplaced("another program takes a port, which the exporter has no right to see"),

		plain.on("the exporter is upgraded, and reads all network namespaces", func() error {
			return plain.exporter.upgrade("--collector.netns=all")
		}, nil),
		plain.service("apid").stops("PortVanished"),
		plain.service("shopd").restarts("PortVanished"),
		plain.service("redis").moves("tcp/0.0.0.0:6379"),
		plain.service("cupsd").moves("tcp/0.0.0.0:631", "UnexpectedPrivilegedListener"),
		plain.service("gitd").isReplaced("another program takes a port"),
		plain.service("proxyd").isFull("AcceptQueueFull"),
		plain.service("statsd").drops("ListenerDropping"),
		plain.hasClients(),
		plain.service("grafana").moves("tcp/[::]:3000"),
	}
	forGood := plain.service("oldd").stops("PortVanished")
	forGood.name, forGood.end = "a service stops for good", nil
	return append(incidents, forGood)
}

// ofHosts are incidents of exporters that see less, and of whole hosts.
func (s *script) ofHosts() []*incident {
	web, db, plain := s.web, s.db, s.plain
	unwatched := web.service("apid")
	unseen := unwatched.incident("a service stops while the exporter is down, and is still gone afterwards", unwatched.stop, func() error {
		return errors.Join(web.awaitAlert("PortGoneMissing", unwatched.port(), true), unwatched.start())
	}, []string{"PortGoneMissing api"})
	unseen.late = true
	return []*incident{
		web.on("the exporter is stopped", web.exporter.stop, func() error { return web.exporter.start() }, "ListenExporterDown"),
		unseen,
		db.on("/proc cannot be read, by the exporter with netlink", func() error { return db.hideProcesses(2) },
			func() error { return db.hideProcesses(0) }),
		plain.on("/proc cannot be read, by the exporter with procfs", func() error {
			return errors.Join(plain.exporter.upgrade("--collector.source=procfs"), plain.hideProcesses(2))
		}, func() error { return plain.hideProcesses(0) }, "ListenCollectorFailed"),
	}
}

// ofExporters are incidents of exporters, and what may happen at the same time.
func (s *script) ofExporters() []*incident {
	web, db, plain := s.web, s.db, s.plain
	return []*incident{
		web.on("an edit breaks the registry, another mends it", func() error { return web.exporter.declare(ports + search + "  - {") },
			func() error { return web.exporter.declare(ports + search) }, "PortRegistryReloadFailed"),
		web.service("shopd").stops("PortGoneMissing shop"),
		db.on("the host goes away, and boots", db.die, db.boot, "ListenExporterDown"),
		// A port that is left out must not look closed.
		plain.on("the exporter is upgraded, and leaves out ports and network namespaces", func() error {
			plain.exporter.files = 64
			return errors.Join(plain.makeNamespaces(100), plain.exporter.upgrade("--collector.max-ports=10", "--collector.netns=all"))
		}, func() error {
			plain.exporter.files = 0
			plain.namespaces.Kill()
			return plain.exporter.upgrade()
		}, "ListenPortsOmitted", "ListenNamespacesNeverRead"),
		plain.appears("a rogue privileged listener", "rpcbind", []string{"tcp/0.0.0.0:111"}, "UnexpectedPrivilegedListener"),
		plain.appears("a rogue high port", "backdoor", []string{"tcp/0.0.0.0:31337"}),
	}
}
