//go:build linux

package collector

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func required(name, proto string, port uint16, up bool) inventory.ServiceState {
	return inventory.ServiceState{Service: &inventory.Service{Name: name, Proto: proto, Port: port, Ports: strconv.Itoa(int(port))}, Up: up}
}

func judged(l inventory.Listener, reason, service string) inventory.Listener {
	l.Judged, l.Verdict = true, inventory.Verdict{Reason: reason, Service: service}
	return l
}

func judgedExample() *inventory.Snapshot {
	ssh := inventory.Listener{Key: onDevice(key("tcp", "0.0.0.0:22", inventory.ScopeAny, inventory.RangePrivileged), "eth0"), Detailed: true}
	redis := inventory.Listener{Key: key("tcp", "[::]:6379", inventory.ScopeAny, inventory.RangeUser), Detailed: true}
	alpha := inventory.Listener{Key: key("udp", "127.0.0.1:30001", inventory.ScopeLoopback, inventory.RangeUser), Detailed: true}
	rogue := inventory.Listener{Key: key("tcp", "127.0.0.1:31337", inventory.ScopeLoopback, inventory.RangeUser), Detailed: true}
	pod := inventory.Listener{Key: inNamespace(key("tcp", "0.0.0.0:22", inventory.ScopeAny, inventory.RangePrivileged), "blue"), Detailed: true}
	rogue.Starts = &inventory.Starts{Violation: time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)}
	return &inventory.Snapshot{
		Source: "netlink",
		Memory: &inventory.Memory{Services: []inventory.ServiceMemory{
			{Name: "ssh", Proto: "tcp", Ports: "22", LastChange: time.Date(2026, 11, 22, 2, 30, 0, 0, time.UTC), Changes: 4},
			{
				Name: "redis", Proto: "tcp", Ports: "6379", DownSince: time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC), LastChange: time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC),
				Last: inventory.Last{Addresses: []string{"127.0.0.1"}, Processes: []string{"redis", "sentinel"}},
			},
		}},
		Reads: []inventory.Read{{Collector: inventory.TCP}, {Collector: inventory.UDP}, {Collector: inventory.CollectorRegistry}},
		Listeners: []inventory.Listener{
			judged(ssh, "", "ssh"),
			judged(redis, inventory.ReasonBind, "redis"),
			judged(alpha, inventory.ReasonReserved, "alpha"),
			judged(rogue, inventory.ReasonUnregistered, ""),
			pod,
		},
		Compliance: &inventory.Compliance{
			Declared:   []inventory.ServiceInfo{{Name: "ssh"}, {Name: "redis"}},
			Services:   []inventory.ServiceState{required("ssh", "tcp", 22, true), required("redis", "tcp", 6379, false)},
			Reserved:   []inventory.TeamUse{{Team: "alpha", Size: 1000, Used: 1}},
			Reloaded:   true,
			ReloadedAt: time.Date(2026, 11, 22, 3, 0, 0, 250e6, time.UTC),
		},
	}
}

const judgedText = `
# HELP host_listen_collector_success Whether the collector's last read succeeded. While it is 0, the series that depend on the collector are absent.
# TYPE host_listen_collector_success gauge
host_listen_collector_success{collector="registry"} 1
host_listen_collector_success{collector="tcp"} 1
host_listen_collector_success{collector="udp"} 1
# HELP host_listen_port_registered Whether the listener complies with the registry (1) or violates it (0). Absent for clients: undeclared UDP sockets on ephemeral ports.
# TYPE host_listen_port_registered gauge
host_listen_port_registered{address="0.0.0.0",device="eth0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"} 1
host_listen_port_registered{address="127.0.0.1",family="ipv4",port="30001",proto="udp",range="user",scope="loopback"} 0
host_listen_port_registered{address="127.0.0.1",family="ipv4",port="31337",proto="tcp",range="user",scope="loopback"} 0
host_listen_port_registered{address="::",family="ipv6",port="6379",proto="tcp",range="user",scope="any"} 0
# HELP host_listen_port_violation Why the listener violates the registry: forbidden, unregistered, reserved (for the team in service_name), bind or process. Always 1.
# TYPE host_listen_port_violation gauge
host_listen_port_violation{address="127.0.0.1",family="ipv4",port="30001",proto="udp",range="user",reason="reserved",scope="loopback",service_name="alpha"} 1
host_listen_port_violation{address="127.0.0.1",family="ipv4",port="31337",proto="tcp",range="user",reason="unregistered",scope="loopback"} 1
host_listen_port_violation{address="::",family="ipv6",port="6379",proto="tcp",range="user",reason="bind",scope="any",service_name="redis"} 1
# HELP host_listen_port_violation_start_timestamp_seconds Unix time since which the listener has violated the registry for this reason.
# TYPE host_listen_port_violation_start_timestamp_seconds gauge
host_listen_port_violation_start_timestamp_seconds{address="127.0.0.1",family="ipv4",port="31337",proto="tcp",range="user",reason="unregistered",scope="loopback"} 1.7953128e+09
# HELP host_listen_registry_last_reload_success_timestamp_seconds Unix time of the last successful load of the registry file.
# TYPE host_listen_registry_last_reload_success_timestamp_seconds gauge
host_listen_registry_last_reload_success_timestamp_seconds 1.79531640025e+09
# HELP host_listen_registry_last_reload_successful Whether the last load of the registry file was successful.
# TYPE host_listen_registry_last_reload_successful gauge
host_listen_registry_last_reload_successful 1
# HELP host_listen_registry_services Services of the registry that are for this host.
# TYPE host_listen_registry_services gauge
host_listen_registry_services 2
# HELP host_listen_reserved_ports Ports that the registry reserves for the team.
# TYPE host_listen_reserved_ports gauge
host_listen_reserved_ports{team="alpha"} 1000
# HELP host_listen_reserved_ports_used Ports reserved for the team on which something listens.
# TYPE host_listen_reserved_ports_used gauge
host_listen_reserved_ports_used{team="alpha"} 1
# HELP host_listen_service_changes_total How often the registry's required service has gone up or down since the exporter started. Absent before the first time.
# TYPE host_listen_service_changes_total counter
host_listen_service_changes_total{port="22",proto="tcp",service_name="ssh"} 4
# HELP host_listen_service_down_start_timestamp_seconds Unix time since which the registry's required service has not listened as declared, with where it last did. Absent while it is up, and for 5 minutes after the host's boot.
# TYPE host_listen_service_down_start_timestamp_seconds gauge
host_listen_service_down_start_timestamp_seconds{address="127.0.0.1",port="6379",process="(many)",proto="tcp",service_name="redis"} 1.7953128e+09
# HELP host_listen_service_last_change_timestamp_seconds Unix time at which the registry's required service last went up or down. Absent if that is not remembered.
# TYPE host_listen_service_last_change_timestamp_seconds gauge
host_listen_service_last_change_timestamp_seconds{port="22",proto="tcp",service_name="ssh"} 1.7953146e+09
host_listen_service_last_change_timestamp_seconds{port="6379",proto="tcp",service_name="redis"} 1.7953128e+09
# HELP host_listen_service_up Whether the registry's required service listens as declared (1) or not (0).
# TYPE host_listen_service_up gauge
host_listen_service_up{port="22",proto="tcp",service_name="ssh"} 1
host_listen_service_up{port="6379",proto="tcp",service_name="redis"} 0
`

func TestVerdictsBecomeMetrics(t *testing.T) {
	c := newCollector(judgedExample)
	for range 2 { // the second scrape uses the memory of the first
		if err := testutil.CollectAndCompare(c, strings.NewReader(judgedText),
			"host_listen_collector_success",
			"host_listen_port_registered", "host_listen_port_violation", "host_listen_port_violation_start_timestamp_seconds",
			"host_listen_service_up", "host_listen_service_changes_total",
			"host_listen_service_down_start_timestamp_seconds", "host_listen_service_last_change_timestamp_seconds", "host_listen_registry_services",
			"host_listen_reserved_ports", "host_listen_reserved_ports_used",
			"host_listen_registry_last_reload_successful", "host_listen_registry_last_reload_success_timestamp_seconds",
		); err != nil {
			t.Error(err)
		}
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestServicesAreDescribed(t *testing.T) {
	snapshot := judgedExample()
	snapshot.Listeners = []inventory.Listener{judged(snapshot.Listeners[3], inventory.ReasonForbidden, "")}
	snapshot.Compliance.Declared = []inventory.ServiceInfo{
		{Name: "ssh"}, {Name: "smtp", Purpose: "outgoing\n  mail", Owner: "team mail"}, {Name: "vip", OneHost: true}, {Name: "long", Purpose: strings.Repeat("é", 300)},
	}
	app := required("app", "tcp", 8080, false)
	app.Ports, app.OnePort = "8080,8081", true
	snapshot.Compliance.Services = []inventory.ServiceState{app}
	want := `
# HELP host_listen_port_violation Why the listener violates the registry: forbidden, unregistered, reserved (for the team in service_name), bind or process. Always 1.
# TYPE host_listen_port_violation gauge
host_listen_port_violation{address="127.0.0.1",family="ipv4",port="31337",proto="tcp",range="user",reason="forbidden",scope="loopback"} 1
# HELP host_listen_service_info What the registry says of the service. required is one-host if it must listen on only one of its hosts. Always 1.
# TYPE host_listen_service_info gauge
host_listen_service_info{owner="team mail",purpose="outgoing mail",service_name="smtp"} 1
host_listen_service_info{purpose="` + strings.Repeat("é", 199) + `…",service_name="long"} 1
host_listen_service_info{required="one-host",service_name="vip"} 1
host_listen_service_info{service_name="ssh"} 1
# HELP host_listen_service_up Whether the registry's required service listens as declared (1) or not (0).
# TYPE host_listen_service_up gauge
host_listen_service_up{port="8080,8081",proto="tcp",service_name="app"} 0
`
	if err := testutil.CollectAndCompare(newCollector(func() *inventory.Snapshot { return snapshot }), strings.NewReader(want),
		"host_listen_port_violation", "host_listen_service_info", "host_listen_service_up"); err != nil {
		t.Error(err)
	}
}

func TestAChangedVerdictOrRegistryChangesTheSeries(t *testing.T) {
	snapshot := judgedExample()
	c := newCollector(func() *inventory.Snapshot { return snapshot })
	if _, err := testutil.CollectAndLint(c); err != nil {
		t.Fatal(err)
	}
	snapshot = judgedExample()
	snapshot.Listeners = []inventory.Listener{judged(snapshot.Listeners[1], inventory.ReasonProcess, "cache"), judged(snapshot.Listeners[2], "", "alpha")}
	snapshot.Compliance.Services = []inventory.ServiceState{required("cache", "tcp", 6379, false), required("alpha", "udp", 30001, true)}
	snapshot.Compliance.Reserved, snapshot.Compliance.Reloaded = nil, false
	want := `
# HELP host_listen_port_violation Why the listener violates the registry: forbidden, unregistered, reserved (for the team in service_name), bind or process. Always 1.
# TYPE host_listen_port_violation gauge
host_listen_port_violation{address="::",family="ipv6",port="6379",proto="tcp",range="user",reason="process",scope="any",service_name="cache"} 1
# HELP host_listen_registry_last_reload_successful Whether the last load of the registry file was successful.
# TYPE host_listen_registry_last_reload_successful gauge
host_listen_registry_last_reload_successful 0
# HELP host_listen_service_up Whether the registry's required service listens as declared (1) or not (0).
# TYPE host_listen_service_up gauge
host_listen_service_up{port="6379",proto="tcp",service_name="cache"} 0
host_listen_service_up{port="30001",proto="udp",service_name="alpha"} 1
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want),
		"host_listen_port_violation", "host_listen_service_up", "host_listen_reserved_ports", "host_listen_registry_last_reload_successful",
	); err != nil {
		t.Error(err)
	}
}
