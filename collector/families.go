//go:build linux

package collector

import (
	"slices"
	"strconv"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// families are all families, sorted by name.
var families = []family{
	{
		name:    "host_listen_closed_total",
		help:    "Listeners that closed since the exporter started.",
		counter: true,
		names:   []string{"proto"},
		host:    changes(func(c inventory.Changes) uint64 { return c.Closed }),
		same:    sameMemory,
	},
	{
		name:  "host_listen_collector_duration_seconds",
		help:  "Duration of the collector's last read.",
		names: []string{"collector"},
		host: func(r reading, add add) {
			for _, read := range r.Reads {
				add(read.Duration.Seconds(), "collector", read.Collector)
			}
		},
	},
	{
		name:  "host_listen_collector_success",
		help:  "Whether the collector's last read succeeded. While it is 0, the series that depend on the collector are absent.",
		note:  "The collectors are `tcp`, `udp`, `holder`, `registry`, `netns`, `event` and `traffic`. For `registry` it is 0 while the file does not answer; a bad file leaves it at 1. The last good file stays in force in both cases.",
		names: []string{"collector"},
		host: func(r reading, add add) {
			for _, read := range r.Reads {
				add(boolean(read.Err == nil), "collector", read.Collector)
			}
		},
	},
	{
		name:    "host_listen_events_lost_total",
		help:    "Events (openings, closings and connections of listeners) that the kernel could not report since the exporter started.",
		note:    "Only with `--collector.events`.",
		counter: true,
		host: func(r reading, add add) {
			if r.Succeeded(inventory.CollectorEvent) {
				add(float64(r.EventsLost))
			}
		},
	},
	{
		name:  "host_listen_lease_info",
		help:  "Port that is leased on this host: for whose team, as which service, and by which user. Always 1.",
		note:  "Of the first 1 024 ports. Only with `--lease.enable`.",
		names: []string{"port", "proto", "service_name", "team", "uid"},
		host: leases(func(v *inventory.LeaseView, add add) {
			eachLeased(v, isLeased, func(l *inventory.Lease, port uint16) {
				add(1, "port", portLabel(port), "proto", l.Proto, "service_name", l.Name, "team", l.Team, "uid", strconv.FormatUint(uint64(l.UID), 10))
			})
		}),
		same: sameLeases,
	},
	{
		name:  "host_listen_lease_overstayed_start_timestamp_seconds",
		help:  "Unix time at which the port's lease had expired and the port still listened. Absent while that is not so.",
		note:  "The port is not leased to others meanwhile. Of the first 1 024 ports. Only with `--lease.enable`.",
		names: []string{"port", "proto", "service_name", "team"},
		host: leases(func(v *inventory.LeaseView, add add) {
			eachLeased(v, isOverstayed, func(l *inventory.Lease, port uint16) {
				add(unixSeconds(v.Booted.Add(l.Overstayed)), "port", portLabel(port), "proto", l.Proto, "service_name", l.Name, "team", l.Team)
			})
		}),
		same: sameLeases,
	},
	{
		name:  "host_listen_lease_ports_available",
		help:  "Ports of the team's ranges that could be leased now: those that are not leased on any host, that nothing listens on, and that nothing forbids to lease.",
		note:  "Only with `--lease.enable`.",
		names: []string{"team"},
		host:  teams(func(t inventory.LeaseTeam) int { return t.Available }),
	},
	{
		name: "host_listen_lease_store_up",
		help: "Whether the store of leases can be reached and takes new leases (1) or not (0).",
		note: "Only with `--lease.enable`.",
		host: leases(func(v *inventory.LeaseView, add add) { add(boolean(v.Err == nil && v.Unwritable == nil)) }),
	},
	{
		name:  "host_listen_leases",
		help:  "Ports of the team's ranges that are leased on this host, those whose lease is overstayed included.",
		note:  "Only with `--lease.enable`.",
		names: []string{"team"},
		host:  teams(func(t inventory.LeaseTeam) int { return t.Leased }),
	},
	{
		name: "host_listen_leases_omitted",
		help: "Leased ports of this host that host_listen_lease_info leaves out.",
		note: "Only with `--lease.enable`.",
		host: leases(func(v *inventory.LeaseView, add add) {
			add(float64(eachLeased(v, isLeased, func(*inventory.Lease, uint16) {})))
		}),
		same: sameLeases,
	},
	{
		name:    "host_listen_log_lines_dropped_total",
		help:    "Lines of the exporter's log that were dropped, because nobody read the log or it could not be written.",
		counter: true,
		host: func(r reading, add add) {
			if r.logLinesDropped != nil {
				add(float64(r.logLinesDropped()))
			}
		},
	},
	{
		name: "host_listen_namespaces",
		help: "Network namespaces that were found, including the main one.",
		note: "Only with `--collector.netns=all`.",
		host: namespaces(func(s *inventory.Snapshot) int { return s.Namespaces }),
	},
	{
		name: "host_listen_namespaces_never_read",
		help: "Network namespaces that were found but never read: there are too many, or they wait for their first turn. Their listeners are missing.",
		note: "Only with `--collector.netns=all`.",
		host: namespaces(func(s *inventory.Snapshot) int { return s.NamespacesNeverRead }),
	},
	{
		name: "host_listen_namespaces_omitted",
		help: "Network namespaces that were not read for this scrape. Their listeners are those of their last read.",
		note: "Only with `--collector.netns=all`.",
		host: namespaces(func(s *inventory.Snapshot) int { return s.NamespacesOmitted }),
	},
	{
		name:    "host_listen_opened_total",
		help:    "Listeners that opened since the exporter started.",
		note:    "Exact with `--collector.events`. Otherwise a lower bound: what looks see, of which a restart between two counts.",
		counter: true,
		names:   []string{"proto"},
		host:    changes(func(c inventory.Changes) uint64 { return c.Opened }),
		same:    sameMemory,
	},
	{
		name:  "host_listen_port",
		help:  "Listening port: a TCP socket in state LISTEN, or a UDP socket that is bound and not connected. Always 1.",
		about: listeners,
	},
	{
		name:  "host_listen_port_accept_queue_full_start_timestamp_seconds",
		help:  "Unix time since which the TCP listener's accept queue has been full. Absent while it is not.",
		note:  "Full is: at 3 of 4 looks. It ends with 2 looks in a row at which it is not.",
		about: listeners,
		value: start(func(s *inventory.Starts) time.Time { return s.Full }),
	},
	{
		name:  "host_listen_port_accept_queue_length",
		help:  "Connections waiting for accept() at the TCP listener's fullest socket.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.AcceptQueueLength), l.Proto == inventory.TCP
		},
	},
	{
		name:  "host_listen_port_accept_queue_limit",
		help:  "Accept queue limit (backlog) of the TCP listener's fullest socket. The kernel refuses connections while the queue is longer.",
		note:  "Only from netlink.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.AcceptQueueLimit), l.Proto == inventory.TCP && l.Detailed
		},
	},
	{
		name:  "host_listen_port_connections_total",
		help:  "TCP connections that the listener has completed since the exporter started, accepted or not yet.",
		note:  "Only with `--collector.events`.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.Connections.Count), l.Connections.Counts
		},
		counter: true,
	},
	{
		name:  "host_listen_port_dropping_start_timestamp_seconds",
		help:  "Unix time since which the listener has lost more than a packet a second because it is too slow. Absent while it does not.",
		note:  "The rate is that of a minute. TCP: only while the accept queue is more than half full, because port scans count as drops.",
		about: listeners,
		value: start(func(s *inventory.Starts) time.Time { return s.Dropping }),
	},
	{
		name:  "host_listen_port_drops_total",
		help:  "Packets that the kernel dropped at the listener since the exporter started, because a queue was full or a packet was malformed or out of state.",
		note:  "UDP, and TCP from netlink. The counter survives the socket and, if it is not zero, is kept for one hour after the port closes.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.Drops), l.Proto == inventory.UDP || l.Detailed
		},
		counter:    true,
		afterwards: true,
	},
	{
		name:  "host_listen_port_first_seen_timestamp_seconds",
		help:  "Unix time at which the listener was first seen. Absent if it was there when the exporter started.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) { return unixSeconds(l.FirstSeen), !l.FirstSeen.IsZero() },
	},
	{
		name:  "host_listen_port_flapping",
		help:  "How often the port opened within the last 15 minutes, with who held it last. Absent unless it has opened at least 4 times.",
		note:  "It begins with the fourth opening and ends when fewer than two are left. A label is `(many)` if there were several.",
		names: []string{"address", "port", "process", "proto", "service_name", "unit"},
		host: remembered(func(m *inventory.Memory, add add) {
			for _, p := range m.Flapping {
				address, process, unit := lastLabels(p.Last)
				add(float64(p.Openings), "address", address, "port", portLabel(p.Port), "process", process, "proto", p.Proto,
					"service_name", p.Service, "unit", unit)
			}
		}),
		same: sameMemory,
	},
	{
		name:  "host_listen_port_gone_timestamp_seconds",
		help:  "Unix time at which the port, which had been open for --collector.settled-after, was found closed, with who held it last. Only without a registry.",
		note:  "Absent when the port is back, and after `--collector.remember`. A label is `(many)` if there were several.",
		names: []string{"address", "port", "process", "proto", "unit"},
		host: remembered(func(m *inventory.Memory, add add) {
			for _, p := range m.Gone {
				address, process, unit := lastLabels(p.Last)
				add(unixSeconds(p.Since), "address", address, "port", portLabel(p.Port), "process", process, "proto", p.Proto, "unit", unit)
			}
		}),
		same: sameMemory,
	},
	{
		name:  "host_listen_port_holder_info",
		help:  "Holder of the listener: its process, systemd unit, container and pod, as far as they are known, and the user who owns the socket. Always 1.",
		note:  "One for each distinct holder, at most four for a listener. All others share one series with `process=\"(many)\"`.",
		about: holders,
	},
	{
		name:  "host_listen_port_ipv6_only",
		help:  "Whether the IPv6 listener accepts only IPv6 (1) or IPv4 too (0).",
		note:  "Only from netlink.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) { return boolean(l.IPv6Only), l.Detailed && l.IsIPv6() },
	},
	{
		name:  "host_listen_port_last_connection_timestamp_seconds",
		help:  "Unix time at which the TCP listener last completed a connection. Absent if it has completed none since the exporter started.",
		note:  "Only with `--collector.events`.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) {
			return unixSeconds(l.Connections.Last), !l.Connections.Last.IsZero()
		},
	},
	{
		name:  "host_listen_port_receive_buffer_limit_bytes",
		help:  "Receive buffer limit of the UDP listener's fullest socket.",
		note:  "Only from netlink.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.ReceiveBufferLimitBytes), l.Proto == inventory.UDP && l.Detailed
		},
	},
	{
		name:    "host_listen_port_receive_bytes_total",
		help:    "Bytes of the packets, from the IP header on, that came to a port with a listener in the main network namespace since it was first reported.",
		note:    "Only with [`--collector.traffic`](traffic.md).",
		counter: true,
		names:   []string{"port", "proto"},
		host:    traffic(func(t *inventory.PortTraffic) uint64 { return t.ReceiveBytes }),
	},
	{
		name:    "host_listen_port_receive_packets_total",
		help:    "Packets that came to a port with a listener in the main network namespace since it was first reported.",
		note:    "Only with [`--collector.traffic`](traffic.md).",
		counter: true,
		names:   []string{"port", "proto"},
		host:    traffic(func(t *inventory.PortTraffic) uint64 { return t.ReceivePackets }),
	},
	{
		name:  "host_listen_port_receive_queue_bytes",
		help:  "Buffer memory of packets waiting to be read at the UDP listener's fullest socket, including kernel overhead.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.ReceiveQueueBytes), l.Proto == inventory.UDP
		},
	},
	{
		name:  "host_listen_port_registered",
		help:  "Whether the listener complies with the registry (1) or violates it (0). Absent for clients: undeclared UDP sockets on ephemeral ports.",
		note:  "Its average over a fleet is the fleet's compliance.",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) { return boolean(l.Verdict.Reason == ""), l.Judged },
	},
	{
		name:  "host_listen_port_sockets",
		help:  "Sockets that share the listening port (SO_REUSEPORT, forked workers).",
		about: listeners,
		value: func(l *inventory.Listener) (float64, bool) { return float64(l.Sockets), true },
	},
	{
		name:    "host_listen_port_transmit_bytes_total",
		help:    "Bytes of the packets, from the IP header on, that left a port with a listener in the main network namespace since it was first reported.",
		note:    "Only with [`--collector.traffic`](traffic.md).",
		counter: true,
		names:   []string{"port", "proto"},
		host:    traffic(func(t *inventory.PortTraffic) uint64 { return t.TransmitBytes }),
	},
	{
		name:    "host_listen_port_transmit_packets_total",
		help:    "Packets that left a port with a listener in the main network namespace since it was first reported.",
		note:    "Only with [`--collector.traffic`](traffic.md).",
		counter: true,
		names:   []string{"port", "proto"},
		host:    traffic(func(t *inventory.PortTraffic) uint64 { return t.TransmitPackets }),
	},
	{
		name:  "host_listen_port_violation",
		help:  "Why the listener violates the registry: forbidden, unregistered, reserved (for the team in service_name), bind or process. Always 1.",
		note:  "[What each reason means](registry.md#what-is-a-violation).",
		about: violations,
	},
	{
		name:  "host_listen_port_violation_start_timestamp_seconds",
		help:  "Unix time since which the listener has violated the registry for this reason.",
		about: violations,
		value: start(func(s *inventory.Starts) time.Time { return s.Violation }),
	},
	{
		name: "host_listen_ports_omitted",
		help: "Listeners that are not exported because there are more than --collector.max-ports.",
		host: func(r reading, add add) { add(float64(r.Omitted)) },
	},
	{
		name: "host_listen_ports_unattributed",
		help: "Listeners whose holder is not known.",
		host: func(r reading, add add) {
			if r.Succeeded(inventory.CollectorHolder) {
				add(float64(r.Unattributed))
			}
		},
	},
	{
		name: "host_listen_registry_last_reload_success_timestamp_seconds",
		help: "Unix time of the last successful load of the registry file.",
		host: compliance(func(c *inventory.Compliance, add add) { add(unixSeconds(c.ReloadedAt)) }),
	},
	{
		name: "host_listen_registry_last_reload_successful",
		help: "Whether the last load of the registry file was successful.",
		host: compliance(func(c *inventory.Compliance, add add) { add(boolean(c.Reloaded)) }),
	},
	{
		name: "host_listen_registry_services",
		help: "Services of the registry that are for this host.",
		host: compliance(func(c *inventory.Compliance, add add) { add(float64(len(c.Declared))) }),
	},
	{
		name:  "host_listen_reserved_ports",
		help:  "Ports that the registry reserves for the team.",
		names: []string{"team"},
		host: compliance(func(c *inventory.Compliance, add add) {
			for _, team := range c.Reserved {
				add(float64(team.Size), "team", team.Team)
			}
		}),
	},
	{
		name:  "host_listen_reserved_ports_used",
		help:  "Ports reserved for the team on which something listens.",
		names: []string{"team"},
		host: compliance(func(c *inventory.Compliance, add add) {
			for _, team := range c.Reserved {
				add(float64(team.Used), "team", team.Team)
			}
		}),
	},
	{
		name:    "host_listen_service_changes_total",
		help:    "How often the registry's required service has gone up or down since the exporter started. Absent before the first time.",
		counter: true,
		names:   []string{"port", "proto", "service_name"},
		host: remembered(func(m *inventory.Memory, add add) {
			for _, s := range m.Services {
				if s.Changes > 0 {
					add(float64(s.Changes), "port", s.Ports, "proto", s.Proto, "service_name", s.Name)
				}
			}
		}),
		same: sameMemory,
	},
	{
		name:  "host_listen_service_down_start_timestamp_seconds",
		help:  "Unix time since which the registry's required service has not listened as declared, with where it last did. Absent while it is up, and for 5 minutes after the host's boot.",
		names: []string{"address", "port", "process", "proto", "service_name", "unit"},
		host: remembered(func(m *inventory.Memory, add add) {
			for _, s := range m.Services {
				if !s.DownSince.IsZero() {
					address, process, unit := lastLabels(s.Last)
					add(unixSeconds(s.DownSince), "address", address, "port", s.Ports, "process", process, "proto", s.Proto,
						"service_name", s.Name, "unit", unit)
				}
			}
		}),
		same: sameMemory,
	},
	{
		name:  "host_listen_service_info",
		help:  "What the registry says of the service. required is one-host if it must listen on only one of its hosts. Always 1.",
		names: []string{"owner", "purpose", "required", "service_name"},
		host: func(r reading, add add) {
			for _, s := range declared(r.Snapshot) {
				required := ""
				if s.OneHost {
					required = "one-host"
				}
				add(1, "owner", s.Owner, "purpose", inOneLine(s.Purpose), "required", required, "service_name", s.Name)
			}
		},
		same: func(a, b *inventory.Snapshot) bool {
			one, other := declared(a), declared(b)
			return len(one) == len(other) && (len(one) == 0 || &one[0] == &other[0])
		},
	},
	{
		name:  "host_listen_service_last_change_timestamp_seconds",
		help:  "Unix time at which the registry's required service last went up or down. Absent if that is not remembered.",
		names: []string{"port", "proto", "service_name"},
		host: remembered(func(m *inventory.Memory, add add) {
			for _, s := range m.Services {
				if !s.LastChange.IsZero() {
					add(unixSeconds(s.LastChange), "port", s.Ports, "proto", s.Proto, "service_name", s.Name)
				}
			}
		}),
		same: sameMemory,
	},
	{
		name:  "host_listen_service_up",
		help:  "Whether the registry's required service listens as declared (1) or not (0).",
		note:  "With `required: one-port`, `port` is the list of its ports.",
		names: []string{"port", "proto", "service_name"},
		host: func(r reading, add add) {
			for _, state := range services(r.Snapshot) {
				add(boolean(state.Up), "port", state.Ports, "proto", state.Proto, "service_name", state.Name)
			}
		},
		same: func(a, b *inventory.Snapshot) bool { return slices.Equal(services(a), services(b)) },
	},
	{
		name:  "host_listen_source_info",
		help:  "How the kernel is asked for its sockets: netlink or procfs. Always 1.",
		names: []string{"source"},
		host:  func(r reading, add add) { add(1, "source", r.Source) },
	},
	{
		name: "host_listen_state_last_write_successful",
		help: "Whether the last write of --state.file succeeded (1) or not (0).",
		note: "Only with `--state.file`.",
		host: func(r reading, add add) {
			if r.Saves {
				add(boolean(r.Saved))
			}
		},
		same: func(a, b *inventory.Snapshot) bool { return a.Saves == b.Saves && a.Saved == b.Saved },
	},
	{
		name: "host_listen_state_loaded",
		help: "Whether what is remembered goes back before the start of the exporter (1) or not (0).",
		host: remembered(func(m *inventory.Memory, add add) { add(boolean(m.Loaded)) }),
		same: sameMemory,
	},
	{
		name: "host_listen_time_seconds",
		help: "Unix time by the host's own clock, with which to compare its timestamps.",
		note: "Prometheus's own clock may differ.",
		host: func(r reading, add add) { add(unixSeconds(r.Time)) },
	},
	{
		name:    "host_listen_violations_total",
		help:    "Listeners that began to violate the registry since the exporter started, by reason.",
		note:    "With `--collector.events` also those that no look saw. On loopback only `forbidden` and `process` count. Only with a registry.",
		counter: true,
		names:   []string{"reason"},
		host: remembered(func(m *inventory.Memory, add add) {
			for _, v := range m.Violations {
				add(float64(v.Count), "reason", v.Reason)
			}
		}),
		same: sameMemory,
	},
	{
		name: "host_listen_watch_interval_seconds",
		help: "How often the exporter looks at present between scrapes: --collector.interval, or less often where a look takes too long.",
		note: "Absent with `--collector.interval=0`.",
		host: func(r reading, add add) {
			if r.WatchInterval > 0 {
				add(r.WatchInterval.Seconds())
			}
		},
		same: func(a, b *inventory.Snapshot) bool { return a.WatchInterval == b.WatchInterval },
	},
}

// start returns the value function of a family about since when something has been wrong.
func start(of func(*inventory.Starts) time.Time) func(*inventory.Listener) (float64, bool) {
	return func(l *inventory.Listener) (float64, bool) {
		if l.Starts == nil {
			return 0, false
		}
		at := of(l.Starts)
		return unixSeconds(at), !at.IsZero()
	}
}
