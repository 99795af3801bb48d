//go:build linux

package collector

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func key(proto, address string, scope inventory.Scope, portRange inventory.Range) inventory.Key {
	return inventory.Key{Proto: proto, Addr: netip.MustParseAddrPort(address), Scope: scope, Range: portRange}
}

func onDevice(k inventory.Key, device string) inventory.Key {
	k.Device = device
	return k
}

func inNamespace(k inventory.Key, name string) inventory.Key {
	k.Netns = name
	return k
}

func example() *inventory.Snapshot {
	return &inventory.Snapshot{
		Time:   time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC),
		Source: "netlink",
		Reads: []inventory.Read{
			{Collector: inventory.TCP, Duration: 1500 * time.Microsecond},
			{Collector: inventory.UDP, Duration: 250 * time.Microsecond},
			{Collector: inventory.CollectorHolder, Duration: 125 * time.Microsecond},
			{Collector: inventory.CollectorNetns, Duration: time.Second},
		},
		Listeners: []inventory.Listener{
			{Key: onDevice(key("tcp", "0.0.0.0:22", inventory.ScopeAny, inventory.RangePrivileged), "eth0"), Sockets: 1, Detailed: true},
			{
				Key: key("tcp", "[::]:22", inventory.ScopeAny, inventory.RangePrivileged), Sockets: 1, Detailed: true,
				AcceptQueueLength: 3, AcceptQueueLimit: 128, Drops: 9, IPv6Only: true,
				Starts:  &inventory.Starts{Full: time.Date(2026, 11, 22, 3, 58, 20, 0, time.UTC), Dropping: time.Date(2026, 11, 22, 3, 58, 21, 0, time.UTC)},
				Holders: []inventory.Holder{{Process: "sshd", Unit: "ssh.service"}},
			},
			{
				Key: key("udp", "127.0.0.1:53", inventory.ScopeLoopback, inventory.RangePrivileged), Sockets: 4, Detailed: true,
				ReceiveQueueBytes: 768, ReceiveBufferLimitBytes: 851968, Drops: 5,
				Holders: []inventory.Holder{
					{Process: "a \"quoted\"\nname", UID: 1000},
					{Process: "b"},
					{Process: "c"},
					{ContainerID: "0123456789ab", PodUID: "6c2bfd4e-0c0f-4f2a-9c57-6e0f0a4b8a11", UID: 65535},
				},
				ManyHolders: true,
			},
			{
				Key: inNamespace(key("tcp", "[::ffff:192.0.2.1]:8080", inventory.ScopePublic, inventory.RangeUser), "blue"), Sockets: 1, // read through procfs
				FirstSeen: time.Date(2026, 11, 22, 3, 0, 0, 250e6, time.UTC),
			},
		},
		Gone: []inventory.Listener{
			{Key: key("udp", "0.0.0.0:514", inventory.ScopeAny, inventory.RangePrivileged), Drops: 7},
		},
		Omitted:      2,
		Unattributed: 2,
		Namespaces:   250, NamespacesOmitted: 186, NamespacesNeverRead: 7,
		Memory: &inventory.Memory{
			Changes: []inventory.Changes{{Proto: "tcp", Opened: 3, Closed: 2}, {Proto: "udp"}},
			Gone: []inventory.GonePort{
				{Proto: "tcp", Port: 25, Since: time.Date(2026, 11, 22, 3, 30, 0, 0, time.UTC), Last: inventory.Last{
					Addresses: []string{"0.0.0.0", "::"}, Processes: []string{"(many)"}, Units: []string{"postfix.service"},
				}},
			},
			Flapping: []inventory.FlappingPort{{Proto: "tcp", Port: 8080, Openings: 7, Last: inventory.Last{Addresses: []string{"::"}, Processes: []string{"java"}}}},
			Loaded:   true,
		},
		WatchInterval: 5 * time.Second,
		Saves:         true,
	}
}

const exampleText = `
# HELP host_listen_closed_total Listeners that closed since the exporter started.
# TYPE host_listen_closed_total counter
host_listen_closed_total{proto="tcp"} 2
host_listen_closed_total{proto="udp"} 0
# HELP host_listen_collector_duration_seconds Duration of the collector's last read.
# TYPE host_listen_collector_duration_seconds gauge
host_listen_collector_duration_seconds{collector="holder"} 0.000125
host_listen_collector_duration_seconds{collector="netns"} 1
host_listen_collector_duration_seconds{collector="tcp"} 0.0015
host_listen_collector_duration_seconds{collector="udp"} 0.00025
# HELP host_listen_collector_success Whether the collector's last read succeeded. While it is 0, the series that depend on the collector are absent.
# TYPE host_listen_collector_success gauge
host_listen_collector_success{collector="holder"} 1
host_listen_collector_success{collector="netns"} 1
host_listen_collector_success{collector="tcp"} 1
host_listen_collector_success{collector="udp"} 1
# HELP host_listen_namespaces Network namespaces that were found, including the main one.
# TYPE host_listen_namespaces gauge
host_listen_namespaces 250
# HELP host_listen_namespaces_never_read Network namespaces that were found but never read: there are too many, or they wait for their first turn. Their listeners are missing.
# TYPE host_listen_namespaces_never_read gauge
host_listen_namespaces_never_read 7
# HELP host_listen_namespaces_omitted Network namespaces that were not read for this scrape. Their listeners are those of their last read.
# TYPE host_listen_namespaces_omitted gauge
host_listen_namespaces_omitted 186
# HELP host_listen_opened_total Listeners that opened since the exporter started.
# TYPE host_listen_opened_total counter
host_listen_opened_total{proto="tcp"} 3
host_listen_opened_total{proto="udp"} 0
# HELP host_listen_port Listening port: a TCP socket in state LISTEN, or a UDP socket that is bound and not connected. Always 1.
# TYPE host_listen_port gauge
host_listen_port{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 1
host_listen_port{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port{address="0.0.0.0",device="eth0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port{address="::ffff:192.0.2.1",family="ipv6",netns="blue",port="8080",proto="tcp",range="user",scope="public"} 1
# HELP host_listen_port_accept_queue_full_start_timestamp_seconds Unix time since which the TCP listener's accept queue has been full. Absent while it is not.
# TYPE host_listen_port_accept_queue_full_start_timestamp_seconds gauge
host_listen_port_accept_queue_full_start_timestamp_seconds{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 1.7953199e+09
# HELP host_listen_port_accept_queue_length Connections waiting for accept() at the TCP listener's fullest socket.
# TYPE host_listen_port_accept_queue_length gauge
host_listen_port_accept_queue_length{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 3
host_listen_port_accept_queue_length{address="0.0.0.0",device="eth0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 0
host_listen_port_accept_queue_length{address="::ffff:192.0.2.1",family="ipv6",netns="blue",port="8080",proto="tcp",range="user",scope="public"} 0
# HELP host_listen_port_accept_queue_limit Accept queue limit (backlog) of the TCP listener's fullest socket. The kernel refuses connections while the queue is longer.
# TYPE host_listen_port_accept_queue_limit gauge
host_listen_port_accept_queue_limit{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 128
host_listen_port_accept_queue_limit{address="0.0.0.0",device="eth0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 0
# HELP host_listen_port_dropping_start_timestamp_seconds Unix time since which the listener has lost more than a packet a second because it is too slow. Absent while it does not.
# TYPE host_listen_port_dropping_start_timestamp_seconds gauge
host_listen_port_dropping_start_timestamp_seconds{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 1.795319901e+09
# HELP host_listen_port_drops_total Packets that the kernel dropped at the listener since the exporter started, because a queue was full or a packet was malformed or out of state.
# TYPE host_listen_port_drops_total counter
host_listen_port_drops_total{address="0.0.0.0",family="ipv4",port="514",proto="udp",range="privileged",scope="any"} 7
host_listen_port_drops_total{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 5
host_listen_port_drops_total{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 9
host_listen_port_drops_total{address="0.0.0.0",device="eth0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 0
# HELP host_listen_port_first_seen_timestamp_seconds Unix time at which the listener was first seen. Absent if it was there when the exporter started.
# TYPE host_listen_port_first_seen_timestamp_seconds gauge
host_listen_port_first_seen_timestamp_seconds{address="::ffff:192.0.2.1",family="ipv6",netns="blue",port="8080",proto="tcp",range="user",scope="public"} 1.79531640025e+09
# HELP host_listen_port_flapping How often the port opened within the last 15 minutes, with who held it last. Absent unless it has opened at least 4 times.
# TYPE host_listen_port_flapping gauge
host_listen_port_flapping{address="::",port="8080",process="java",proto="tcp"} 7
# HELP host_listen_port_gone_timestamp_seconds Unix time at which the port, which had been open for --collector.settled-after, was found closed, with who held it last. Only without a registry.
# TYPE host_listen_port_gone_timestamp_seconds gauge
host_listen_port_gone_timestamp_seconds{address="(many)",port="25",process="\"(many)\"",proto="tcp",unit="postfix.service"} 1.7953182e+09
# HELP host_listen_port_holder_info Holder of the listener: its process, systemd unit, container and pod, as far as they are known, and the user who owns the socket. Always 1.
# TYPE host_listen_port_holder_info gauge
host_listen_port_holder_info{address="127.0.0.1",family="ipv4",port="53",process="(many)",proto="udp",range="privileged",scope="loopback"} 1
host_listen_port_holder_info{address="127.0.0.1",family="ipv4",port="53",process="a \"quoted\"\nname",proto="udp",range="privileged",scope="loopback",uid="1000"} 1
host_listen_port_holder_info{address="127.0.0.1",family="ipv4",port="53",process="b",proto="udp",range="privileged",scope="loopback",uid="0"} 1
host_listen_port_holder_info{address="127.0.0.1",family="ipv4",port="53",process="c",proto="udp",range="privileged",scope="loopback",uid="0"} 1
host_listen_port_holder_info{address="127.0.0.1",container_id="0123456789ab",family="ipv4",pod_uid="6c2bfd4e-0c0f-4f2a-9c57-6e0f0a4b8a11",port="53",proto="udp",range="privileged",scope="loopback",uid="65535"} 1
host_listen_port_holder_info{address="::",family="ipv6",port="22",process="sshd",proto="tcp",range="privileged",scope="any",uid="0",unit="ssh.service"} 1
# HELP host_listen_port_ipv6_only Whether the IPv6 listener accepts only IPv6 (1) or IPv4 too (0).
# TYPE host_listen_port_ipv6_only gauge
host_listen_port_ipv6_only{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 1
# HELP host_listen_port_receive_buffer_limit_bytes Receive buffer limit of the UDP listener's fullest socket.
# TYPE host_listen_port_receive_buffer_limit_bytes gauge
host_listen_port_receive_buffer_limit_bytes{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 851968
# HELP host_listen_port_receive_queue_bytes Buffer memory of packets waiting to be read at the UDP listener's fullest socket, including kernel overhead.
# TYPE host_listen_port_receive_queue_bytes gauge
host_listen_port_receive_queue_bytes{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 768
# HELP host_listen_port_sockets Sockets that share the listening port (SO_REUSEPORT, forked workers).
# TYPE host_listen_port_sockets gauge
host_listen_port_sockets{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 4
host_listen_port_sockets{address="::",family="ipv6",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port_sockets{address="0.0.0.0",device="eth0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port_sockets{address="::ffff:192.0.2.1",family="ipv6",netns="blue",port="8080",proto="tcp",range="user",scope="public"} 1
# HELP host_listen_ports_omitted Listeners that are not exported because there are more than --collector.max-ports.
# TYPE host_listen_ports_omitted gauge
host_listen_ports_omitted 2
# HELP host_listen_ports_unattributed Listeners whose holder is not known.
# TYPE host_listen_ports_unattributed gauge
host_listen_ports_unattributed 2
# HELP host_listen_source_info How the kernel is asked for its sockets: netlink or procfs. Always 1.
# TYPE host_listen_source_info gauge
host_listen_source_info{source="netlink"} 1
# HELP host_listen_state_last_write_successful Whether the last write of --state.file succeeded (1) or not (0).
# TYPE host_listen_state_last_write_successful gauge
host_listen_state_last_write_successful 0
# HELP host_listen_state_loaded Whether what is remembered goes back before the start of the exporter (1) or not (0).
# TYPE host_listen_state_loaded gauge
host_listen_state_loaded 1
# HELP host_listen_time_seconds Unix time by the host's own clock, with which to compare its timestamps.
# TYPE host_listen_time_seconds gauge
host_listen_time_seconds 1.79532e+09
# HELP host_listen_watch_interval_seconds How often the exporter looks at present between scrapes: --collector.interval, or less often where a look takes too long.
# TYPE host_listen_watch_interval_seconds gauge
host_listen_watch_interval_seconds 5
`

// newCollector returns a collector of a snapshot that takes no time.
func newCollector(snapshot func() *inventory.Snapshot) *Collector {
	return New(func(context.Context) *inventory.Snapshot { return snapshot() }, nil)
}

func TestASnapshotBecomesMetrics(t *testing.T) {
	c := newCollector(example)
	for range 2 { // the second scrape uses the memory of the first
		if err := testutil.CollectAndCompare(c, strings.NewReader(exampleText)); err != nil {
			t.Error(err)
		}
	}
}

func TestMetricsAreFreeOfLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(newCollector(example))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func TestAFailedReadIsAGaugeOfZeroAndNoSeries(t *testing.T) {
	snapshot := example()
	c := newCollector(func() *inventory.Snapshot { return snapshot })
	if _, err := testutil.CollectAndLint(c); err != nil {
		t.Fatal(err)
	}
	snapshot = example()
	snapshot.Reads[0].Err = errors.New("permission denied")
	snapshot.Listeners = snapshot.Listeners[2:3] // the inventory leaves the protocol out
	want := `
# HELP host_listen_collector_success Whether the collector's last read succeeded. While it is 0, the series that depend on the collector are absent.
# TYPE host_listen_collector_success gauge
host_listen_collector_success{collector="tcp"} 0
host_listen_collector_success{collector="udp"} 1
host_listen_collector_success{collector="holder"} 1
host_listen_collector_success{collector="netns"} 1
# HELP host_listen_port Listening port: a TCP socket in state LISTEN, or a UDP socket that is bound and not connected. Always 1.
# TYPE host_listen_port gauge
host_listen_port{address="127.0.0.1",family="ipv4",port="53",proto="udp",range="privileged",scope="loopback"} 1
`
	for _, names := range [][]string{{"host_listen_collector_success", "host_listen_port"}, {"host_listen_port_accept_queue_length"}} {
		expected := want
		if len(names) == 1 {
			expected = ""
		}
		if err := testutil.CollectAndCompare(c, strings.NewReader(expected), names...); err != nil {
			t.Error(err)
		}
	}
}
