// Package collector turns an inventory of listening sockets into Prometheus metrics. Every metric's name, help and labels
// stand here and nowhere else.
package collector

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"listen_exporter/internal/inventory"
)

// namespace begins the name of every metric that is about listening ports.
const namespace = "host_listen"

// listenerLabels are the labels of every metric that is about one listener.
var listenerLabels = []string{"proto", "family", "address", "port", "scope", "range"}

// Collector exports a snapshot of the listening ports at each scrape.
type Collector struct {
	snapshot func() *inventory.Snapshot

	port              *prometheus.Desc
	sockets           *prometheus.Desc
	acceptQueueLength *prometheus.Desc
	receiveQueueBytes *prometheus.Desc
	drops             *prometheus.Desc
	firstSeen         *prometheus.Desc
	success           *prometheus.Desc
	duration          *prometheus.Desc
	source            *prometheus.Desc
	omitted           *prometheus.Desc

	labels labelCache
}

var _ prometheus.Collector = (*Collector)(nil)

// New returns a collector that calls snapshot once at each scrape. snapshot must be safe for concurrent use.
func New(snapshot func() *inventory.Snapshot) *Collector {
	perListener := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, listenerLabels, nil)
	}
	self := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &Collector{
		snapshot: snapshot,
		port: perListener("port",
			"A port that listens on this host: a TCP socket in the state LISTEN, or a UDP socket that is bound and not connected. Always 1."),
		sockets: perListener("port_sockets",
			"How many sockets share the listening port (SO_REUSEPORT, forked workers)."),
		acceptQueueLength: perListener("port_accept_queue_length",
			"Connections that wait for accept() at the TCP listener, in the fullest of its sockets."),
		receiveQueueBytes: perListener("port_receive_queue_bytes",
			"Buffer memory of packets that wait to be read at the UDP listener, kernel overhead included, summed over its sockets."),
		drops: perListener("port_drops_total",
			"Packets that the kernel discarded at the listener since the exporter started. UDP: full receive buffer, or bad checksum."),
		firstSeen: perListener("port_first_seen_timestamp_seconds",
			"Unix time when the listener was seen to appear. Absent for what listened when the exporter started."),
		success: self("collector_success",
			"Whether the last read succeeded. While it is 0, all series that rest on it are absent.", "collector"),
		duration: self("collector_duration_seconds",
			"How long the last read took.", "collector"),
		source: self("source_info",
			"The way in which the kernel is asked for its sockets. Always 1.", "source"),
		omitted: self("ports_omitted",
			"Listeners left out because there are more than --collector.max-ports."),
		labels: labelCache{pairs: make(map[inventory.Key]*cachedPairs)},
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		c.port, c.sockets, c.acceptQueueLength, c.receiveQueueBytes, c.drops, c.firstSeen,
		c.success, c.duration, c.source, c.omitted,
	} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	snapshot := c.snapshot()

	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(c.source, 1, snapshot.Source)
	gauge(c.omitted, float64(snapshot.Omitted))
	for _, read := range snapshot.Reads {
		success := 1.0
		if read.Err != nil {
			success = 0
		}
		gauge(c.success, success, read.Proto)
		gauge(c.duration, read.Duration.Seconds(), read.Proto)
	}

	labels := c.labels.of(c.port, snapshot)
	for n, l := range snapshot.Listeners {
		send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64) {
			metrics <- &metric{desc: desc, labels: labels.listeners[n], kind: kind, value: value}
		}
		send(c.port, prometheus.GaugeValue, 1)
		send(c.sockets, prometheus.GaugeValue, float64(l.Sockets))
		switch l.Proto {
		case inventory.TCP:
			send(c.acceptQueueLength, prometheus.GaugeValue, float64(l.AcceptQueueLength))
		case inventory.UDP:
			send(c.receiveQueueBytes, prometheus.GaugeValue, float64(l.ReceiveQueueBytes))
			send(c.drops, prometheus.CounterValue, float64(l.Drops))
		}
		if !l.FirstSeen.IsZero() {
			send(c.firstSeen, prometheus.GaugeValue, float64(l.FirstSeen.UnixMilli())/float64(time.Second/time.Millisecond))
		}
	}
	for n, l := range snapshot.Gone {
		metrics <- &metric{desc: c.drops, labels: labels.gone[n], kind: prometheus.CounterValue, value: float64(l.Drops)}
	}
}

// metric is a sample whose label pairs were built before.
type metric struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair // sorted by name, shared, never changed
	kind   prometheus.ValueType
	value  float64
}

// Desc implements prometheus.Metric.
func (m *metric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m *metric) Write(out *dto.Metric) error {
	out.Label = m.labels
	if m.kind == prometheus.CounterValue {
		out.Counter = &dto.Counter{Value: &m.value}
	} else {
		out.Gauge = &dto.Gauge{Value: &m.value}
	}
	return nil
}

// labelCache keeps each listener's label pairs while it lives, so that a scrape changes numbers alone.
type labelCache struct {
	mu    sync.Mutex
	pairs map[inventory.Key]*cachedPairs
	uses  uint64 // counts the calls of of
}

type cachedPairs struct {
	pairs []*dto.LabelPair
	used  uint64 // the call of labelCache.of that last wanted them
}

// snapshotLabels are the label pairs of a snapshot's listeners, in its order.
type snapshotLabels struct {
	listeners, gone [][]*dto.LabelPair
}

// of returns the label pairs of all listeners of a snapshot, and forgets those of all others.
func (c *labelCache) of(desc *prometheus.Desc, snapshot *inventory.Snapshot) snapshotLabels {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uses++
	labels := snapshotLabels{
		listeners: c.all(desc, snapshot.Listeners),
		gone:      c.all(desc, snapshot.Gone),
	}
	for key, cached := range c.pairs {
		if cached.used != c.uses {
			delete(c.pairs, key)
		}
	}
	return labels
}

func (c *labelCache) all(desc *prometheus.Desc, listeners []inventory.Listener) [][]*dto.LabelPair {
	all := make([][]*dto.LabelPair, len(listeners))
	for n, l := range listeners {
		cached := c.pairs[l.Key]
		if cached == nil {
			cached = &cachedPairs{pairs: prometheus.MakeLabelPairs(desc, labelValues(l.Key))}
			c.pairs[l.Key] = cached
		}
		cached.used = c.uses
		all[n] = cached.pairs
	}
	return all
}

// labelValues returns a listener's label values in the order of listenerLabels.
func labelValues(k inventory.Key) []string {
	return []string{
		k.Proto, k.Family(), k.Addr.Addr().String(), strconv.Itoa(int(k.Addr.Port())), string(k.Scope), string(k.Range),
	}
}
