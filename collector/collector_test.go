package collector

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"listen_exporter/internal/inventory"
)

func key(proto, address string, scope inventory.Scope, portRange inventory.Range) inventory.Key {
	return inventory.Key{Proto: proto, Addr: netip.MustParseAddrPort(address), Scope: scope, Range: portRange}
}

func example() *inventory.Snapshot {
	return &inventory.Snapshot{
		Source: "procfs",
		Reads: []inventory.Read{
			{Proto: inventory.TCP, Duration: 1500 * time.Microsecond},
			{Proto: inventory.UDP, Duration: 250 * time.Microsecond},
		},
		Listeners: []inventory.Listener{
			{Key: key("tcp", "0.0.0.0:22", inventory.ScopeAny, inventory.RangePrivileged), Sockets: 1},
			{Key: key("tcp", "[::]:22", inventory.ScopeAny, inventory.RangePrivileged), Sockets: 1, AcceptQueueLength: 3},
			{Key: key("udp", "127.0.0.1:53", inventory.ScopeLoopback, inventory.RangePrivileged), Sockets: 4, ReceiveQueueBytes: 768, Drops: 5},
			{
				Key: key("tcp", "[::ffff:192.0.2.1]:8080", inventory.ScopePublic, inventory.RangeUser), Sockets: 1,
				FirstSeen: time.Date(2026, 11, 22, 3, 0, 0, 250e6, time.UTC),
			},
		},
		Gone: []inventory.Listener{
			{Key: key("udp", "0.0.0.0:514", inventory.ScopeAny, inventory.RangePrivileged), Drops: 7},
		},
		Omitted: 2,
	}
}

const exampleText = `
# HELP host_listen_collector_duration_seconds How long the last read took.
# TYPE host_listen_collector_duration_seconds gauge
host_listen_collector_duration_seconds{collector="tcp"} 0.0015
host_listen_collector_duration_seconds{collector="udp"} 0.00025
# HELP host_listen_collector_success Whether the last read succeeded. While it is 0, all series that rest on it are absent.
# TYPE host_listen_collector_success gauge
host_listen_collector_success{collector="tcp"} 1
host_listen_collector_success{collector="udp"} 1
# HELP host_listen_port A port that listens on this host: a TCP socket in the state LISTEN, or a UDP socket that is bound and not connected. Always 1.
# TYPE host_listen_port gauge
host_listen_port{address="0.0.0.0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 1
host_listen_port{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port{address="::ffff:192.0.2.1",family="ipv6",port="8080",proto="tcp",range="user",scope="public"} 1
# HELP host_listen_port_accept_queue_length Connections that wait for accept() at the TCP listener, in the fullest of its sockets.
# TYPE host_listen_port_accept_queue_length gauge
host_listen_port_accept_queue_length{address="0.0.0.0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 0
host_listen_port_accept_queue_length{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 3
host_listen_port_accept_queue_length{address="::ffff:192.0.2.1",family="ipv6",port="8080",proto="tcp",range="user",scope="public"} 0
# HELP host_listen_port_drops_total Packets that the kernel discarded at the listener since the exporter started. UDP: full receive buffer, or bad checksum.
# TYPE host_listen_port_drops_total counter
host_listen_port_drops_total{address="0.0.0.0",family="ipv4",port="514",proto="udp",range="privileged",scope="any"} 7
host_listen_port_drops_total{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 5
# HELP host_listen_port_first_seen_timestamp_seconds Unix time when the listener was seen to appear. Absent for what listened when the exporter started.
# TYPE host_listen_port_first_seen_timestamp_seconds gauge
host_listen_port_first_seen_timestamp_seconds{address="::ffff:192.0.2.1",family="ipv6",port="8080",proto="tcp",range="user",scope="public"} 1.79531640025e+09
# HELP host_listen_port_receive_queue_bytes Buffer memory of packets that wait to be read at the UDP listener, kernel overhead included, summed over its sockets.
# TYPE host_listen_port_receive_queue_bytes gauge
host_listen_port_receive_queue_bytes{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 768
# HELP host_listen_port_sockets How many sockets share the listening port (SO_REUSEPORT, forked workers).
# TYPE host_listen_port_sockets gauge
host_listen_port_sockets{address="0.0.0.0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port_sockets{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 4
host_listen_port_sockets{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port_sockets{address="::ffff:192.0.2.1",family="ipv6",port="8080",proto="tcp",range="user",scope="public"} 1
# HELP host_listen_ports_omitted Listeners left out because there are more than --collector.max-ports.
# TYPE host_listen_ports_omitted gauge
host_listen_ports_omitted 2
# HELP host_listen_source_info The way in which the kernel is asked for its sockets. Always 1.
# TYPE host_listen_source_info gauge
host_listen_source_info{source="procfs"} 1
`

func TestASnapshotBecomesMetrics(t *testing.T) {
	c := New(example)
	for range 2 { // the second scrape uses the labels of the first
		if err := testutil.CollectAndCompare(c, strings.NewReader(exampleText)); err != nil {
			t.Error(err)
		}
	}
}

func TestMetricsAreFreeOfLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(New(example))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func TestMetricsPassThePedanticRegistry(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(New(example)); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
}

func TestAFailedReadIsAGaugeOfZeroAndNoSeries(t *testing.T) {
	snapshot := example()
	snapshot.Reads[0].Err = errors.New("permission denied")
	snapshot.Listeners = snapshot.Listeners[2:3] // the inventory leaves the protocol out
	c := New(func() *inventory.Snapshot { return snapshot })
	want := `
# HELP host_listen_collector_success Whether the last read succeeded. While it is 0, all series that rest on it are absent.
# TYPE host_listen_collector_success gauge
host_listen_collector_success{collector="tcp"} 0
host_listen_collector_success{collector="udp"} 1
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "host_listen_collector_success"); err != nil {
		t.Error(err)
	}
}

func TestLabelsAreKeptWhileAListenerLivesAndForgottenAfterwards(t *testing.T) {
	snapshot := example()
	c := New(func() *inventory.Snapshot { return snapshot })
	count := func() int { return testutil.CollectAndCount(c) }
	count()
	kept := c.labels.pairs[snapshot.Listeners[0].Key]
	count()
	if c.labels.pairs[snapshot.Listeners[0].Key] != kept {
		t.Error("the labels of a listener that lives were built again")
	}
	snapshot = &inventory.Snapshot{Listeners: snapshot.Listeners[:1]}
	count()
	if got := len(c.labels.pairs); got != 1 {
		t.Errorf("the labels of %d listeners are kept, want 1", got)
	}
}

func TestScrapesMayOverlap(t *testing.T) {
	snapshots := make(chan *inventory.Snapshot, 100)
	for n := range cap(snapshots) {
		snapshots <- &inventory.Snapshot{Listeners: []inventory.Listener{
			{Key: key("tcp", fmt.Sprintf("127.0.0.1:%d", n%7+1), inventory.ScopeLoopback, inventory.RangePrivileged)},
		}}
	}
	c := New(func() *inventory.Snapshot { return <-snapshots })
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	var scrapes sync.WaitGroup
	for range cap(snapshots) - 1 {
		scrapes.Go(func() {
			if _, err := registry.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	scrapes.Wait()
}
