// Package collector turns an inventory of listening sockets into Prometheus metrics. Every metric's name, help and labels
// are here and nowhere else.
package collector

import (
	"context"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// perListener are the metrics that have a series for each listener, in the order of their names. value returns false if the
// listener has no such series.
var perListener = []struct {
	name, help string
	value      func(l *inventory.Listener) (float64, bool)
	counter    bool // a counter, not a gauge
	afterwards bool // the series stays for a while after the listener is gone
}{
	{
		name: "host_listen_port",
		help: "Listening port: a TCP socket in state LISTEN, or a UDP socket that is bound and not connected. Always 1.",
		value: func(*inventory.Listener) (float64, bool) {
			return 1, true
		},
	},
	{
		name: "host_listen_port_accept_queue_length",
		help: "Connections waiting for accept() at the TCP listener's fullest socket.",
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.AcceptQueueLength), l.Proto == inventory.TCP
		},
	},
	{
		name: "host_listen_port_accept_queue_limit",
		help: "Accept queue limit (backlog) of the TCP listener's fullest socket. The kernel refuses connections while the queue is longer.",
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.AcceptQueueLimit), l.Proto == inventory.TCP && l.Detailed
		},
	},
	{
		name: "host_listen_port_drops_total",
		help: "Packets that the kernel dropped at the listener since the exporter started, because a queue was full or a packet was malformed or out of state.",
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.Drops), l.Proto == inventory.UDP || l.Detailed
		},
		counter:    true,
		afterwards: true,
	},
	{
		name: "host_listen_port_first_seen_timestamp_seconds",
		help: "Unix time at which the listener was first seen. Absent if it was there when the exporter started.",
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.FirstSeen.UnixMilli()) / float64(time.Second/time.Millisecond), !l.FirstSeen.IsZero()
		},
	},
	{
		name: "host_listen_port_ipv6_only",
		help: "Whether the IPv6 listener accepts only IPv6 (1) or IPv4 too (0).",
		value: func(l *inventory.Listener) (float64, bool) {
			return boolean(l.IPv6Only), l.Detailed && l.IsIPv6()
		},
	},
	{
		name: "host_listen_port_receive_buffer_limit_bytes",
		help: "Receive buffer limit of the UDP listener's fullest socket.",
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.ReceiveBufferLimitBytes), l.Proto == inventory.UDP && l.Detailed
		},
	},
	{
		name: "host_listen_port_receive_queue_bytes",
		help: "Buffer memory of packets waiting to be read at the UDP listener's fullest socket, including kernel overhead.",
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.ReceiveQueueBytes), l.Proto == inventory.UDP
		},
	},
	{
		name: "host_listen_port_registered",
		help: "Whether the listener complies with the registry (1) or violates it (0). Absent for clients: undeclared UDP sockets on ephemeral ports.",
		value: func(l *inventory.Listener) (float64, bool) {
			return boolean(l.Verdict.Reason == ""), l.Judged
		},
	},
	{
		name: "host_listen_port_sockets",
		help: "Sockets that share the listening port (SO_REUSEPORT, forked workers).",
		value: func(l *inventory.Listener) (float64, bool) {
			return float64(l.Sockets), true
		},
	},
}

// newScrape returns a scrape with the families whose samples and labels it reuses.
func newScrape() *scrape {
	s := &scrape{
		labels: make(map[inventory.Key]*listenerLabels),
		// One series for each holder, and one more if there are too many.
		holders: gauges("host_listen_port_holder_info",
			"Holder of the listener: its process, systemd unit, container and pod, as far as they are known, and the user who owns the socket. Always 1."),
		violated: gauges("host_listen_port_violation",
			"Why the listener violates the registry: unregistered, reserved (for the team in service_name), bind or process. Always 1."),
		// One series for each port and protocol.
		services: gauges("host_listen_service_up", "Whether the registry's required service listens as declared (1) or not (0)."),
	}
	for _, m := range perListener {
		family := gauges
		if m.counter {
			family = counters
		}
		s.families = append(s.families, family(m.name, m.help))
	}
	s.families = append(s.families, s.holders, s.violated, s.services)
	return s
}

// perHost returns the families about the host as a whole: its reads, its namespaces and its registry.
func perHost(s *inventory.Snapshot) []*dto.MetricFamily {
	success := gauges("host_listen_collector_success",
		"Whether the collector's last read succeeded. While it is 0, the series that depend on the collector are absent.")
	duration := gauges("host_listen_collector_duration_seconds", "Duration of the collector's last read.")
	for _, read := range s.Reads {
		success.add(pairs("collector", read.Collector), boolean(read.Err == nil))
		duration.add(pairs("collector", read.Collector), read.Duration.Seconds())
	}
	source := gauges("host_listen_source_info", "How the kernel is asked for its sockets: netlink or procfs. Always 1.")
	source.add(pairs("source", s.Source), 1)
	omitted := gauges("host_listen_ports_omitted", "Listeners that are not exported because there are more than --collector.max-ports.")
	omitted.add(nil, float64(s.Omitted))
	unattributed := gauges("host_listen_ports_unattributed", "Listeners whose holder is not known.")
	if s.Succeeded(inventory.CollectorHolder) {
		unattributed.add(nil, float64(s.Unattributed))
	}
	namespaces := gauges("host_listen_namespaces", "Network namespaces that were found, including the main one.")
	namespacesOmitted := gauges("host_listen_namespaces_omitted",
		"Network namespaces that were not read for this scrape. Their listeners are those of their last read.")
	namespacesNeverRead := gauges("host_listen_namespaces_never_read",
		"Network namespaces that were found but never read: there are too many, or they wait for their first turn. Their listeners are missing.")
	if s.Asked(inventory.CollectorNetns) {
		namespaces.add(nil, float64(s.Namespaces))
		namespacesOmitted.add(nil, float64(s.NamespacesOmitted))
		namespacesNeverRead.add(nil, float64(s.NamespacesNeverRead))
	}
	families := []*dto.MetricFamily{
		&success.MetricFamily, &duration.MetricFamily, &omitted.MetricFamily, &source.MetricFamily,
		&unattributed.MetricFamily, &namespaces.MetricFamily, &namespacesNeverRead.MetricFamily,
		&namespacesOmitted.MetricFamily,
	}
	if s.Compliance != nil {
		families = append(families, aboutRegistry(s.Compliance)...)
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
}

// aboutRegistry returns the families about the registry as a whole.
func aboutRegistry(r *inventory.Compliance) []*dto.MetricFamily {
	size := gauges("host_listen_reserved_ports", "Ports that the registry reserves for the team.")
	used := gauges("host_listen_reserved_ports_used", "Ports reserved for the team on which something listens.")
	for _, team := range r.Reserved {
		size.add(pairs("team", team.Team), float64(team.Size))
		used.add(pairs("team", team.Team), float64(team.Used))
	}
	reloaded := gauges("host_listen_registry_last_reload_successful", "Whether the last load of the registry file was successful.")
	reloaded.add(nil, boolean(r.Reloaded))
	at := gauges("host_listen_registry_last_reload_success_timestamp_seconds", "Unix time of the last successful load of the registry file.")
	at.add(nil, float64(r.ReloadedAt.UnixMilli())/float64(time.Second/time.Millisecond))
	return []*dto.MetricFamily{&size.MetricFamily, &used.MetricFamily, &reloaded.MetricFamily, &at.MetricFamily}
}

// Collector exports a snapshot of the listening ports at each scrape.
//
// It is no prometheus.Collector: a Prometheus registry checks, hashes and sorts every sample at each scrape. With 10 000 listeners
// that takes more than half of the time.
type Collector struct {
	snapshot        func(context.Context) *inventory.Snapshot
	logLinesDropped func() uint64
	scrapes         sync.Pool // of *scrape, which no two Gathers use at the same time
}

// New returns a collector that calls snapshot once at each scrape. logLinesDropped returns how many lines of the exporter's log
// were dropped; it is nil if none ever is. Both must be safe for concurrent use.
func New(snapshot func(context.Context) *inventory.Snapshot, logLinesDropped func() uint64) *Collector {
	return &Collector{
		snapshot:        snapshot,
		logLinesDropped: logLinesDropped,
		scrapes:         sync.Pool{New: func() any { return newScrape() }},
	}
}

// Gather returns the families of a snapshot, whose time ctx limits. They are valid until done is called.
func (c *Collector) Gather(ctx context.Context) (families []*dto.MetricFamily, done func()) {
	snapshot := c.snapshot(ctx)
	s := c.scrapes.Get().(*scrape)
	families = s.fill(snapshot)
	if c.logLinesDropped != nil {
		f := counters("host_listen_log_lines_dropped_total", "Lines of the exporter's log that were dropped, because nobody read the log or it could not be written.")
		f.add(nil, float64(c.logLinesDropped()))
		families = append(families, &f.MetricFamily)
	}
	return families, func() { c.scrapes.Put(s) }
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func gauges(name, help string) *sampledFamily {
	return &sampledFamily{MetricFamily: dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum()}}
}

func counters(name, help string) *sampledFamily {
	return &sampledFamily{MetricFamily: dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_COUNTER.Enum()}}
}
