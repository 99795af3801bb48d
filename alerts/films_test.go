//go:build linux

package alerts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	web    = `instance="web1:10190",job="listen_exporter",env="prod"`
	shownW = `instance="web1:10190",env="prod"`
	down   = "host_listen_service_down_start_timestamp_seconds"
	gone   = "host_listen_port_gone_timestamp_seconds"
	bad    = "host_listen_port_violation_start_timestamp_seconds"
	full   = "host_listen_port_accept_queue_full_start_timestamp_seconds"
	drops  = "host_listen_port_dropping_start_timestamp_seconds"
	flaps  = "host_listen_port_flapping"
	over   = "host_listen_lease_overstayed_start_timestamp_seconds"
	leased = `team="ci",service_name="shop-test",proto="tcp"`
	nginx  = `service_name="nginx",proto="tcp",port="443"`
	held   = `,process="nginx",unit="nginx.service",address="0.0.0.0"`
)

// with is a stage of one host with a registry.
func with(facts func(*machine)) func() []*machine {
	return func() []*machine {
		m := newHost(web).registry(5)
		facts(m)
		return []*machine{m}
	}
}

// without is a stage of one host without a registry.
func without(facts func(*machine)) func() []*machine {
	return func() []*machine {
		m := newHost(web)
		facts(m)
		return []*machine{m}
	}
}

func one(name, labels string, from, until float64) []alert {
	if labels != "" {
		labels = "," + labels
	}
	return []alert{{name, shownW + labels, from, until}}
}

// flapping are the alerts about a service that flaps on so many ports.
func flapping(ports int) (all []alert) {
	for port := range ports {
		all = append(all, one("PortFlapping", fmt.Sprintf(`service_name="range",proto="tcp",port="%d"`, 20000+port), 10, 20)...)
	}
	return all
}

var films = []film{
	{name: "a service is down", length: 60, want: one("PortGoneMissing", nginx, 12, 40), stage: with(func(m *machine) {
		m.start(down, nginx+held, 10, 40)
	})},
	{name: "a service restarts", length: 30, stage: with(func(m *machine) {
		m.start(down, nginx+held, 10, 11.5, 15, 16.5)
	})},
	{name: "a port is gone", length: 60, want: one("PortVanished", `proto="tcp",port="443"`, 12, 40), stage: without(func(m *machine) {
		m.start(gone, `proto="tcp",port="443"`+held, 10, 40)
	})},
	{name: "a port is exposed, and its service down", length: 60, want: one("ListenerExposed", nginx, 12, 40), stage: with(func(m *machine) {
		m.start(down, nginx+held, 10, 40)
		m.start(bad, listener("tcp", "0.0.0.0", "443", `service_name="nginx",reason="bind"`), 10, 40)
		m.start(bad, listener("tcp", "::", "443", `service_name="nginx",reason="bind"`), 10, 40)
	})},
	{name: "a port on another loopback address", length: 40, want: one("PortGoneMissing", nginx, 12, 30), stage: with(func(m *machine) {
		m.start(down, nginx+held, 10, 30)
		m.start(bad, listener("tcp", "127.0.0.2", "443", `service_name="nginx",reason="bind"`), 10, 30)
	})},
	{name: "another program holds a port", length: 60, want: one("ListenerHolderChanged", nginx, 12, 40), stage: with(func(m *machine) {
		m.start(down, nginx+held, 10, 40)
		m.start(bad, listener("tcp", "0.0.0.0", "443", `service_name="nginx",reason="process"`), 10, 40)
		m.start(bad, listener("tcp", "::", "443", `service_name="other",reason="bind"`), 10, 40)
	})},
	{
		name: "one of several ports is violated", length: 40, want: one("ListenerExposed", `service_name="app",proto="tcp",port="8081"`, 12, 30),
		stage: with(func(m *machine) {
			m.start(down, `service_name="app",proto="tcp",port="8080,8081"`, 10, 30)
			m.start(bad, listener("tcp", "0.0.0.0", "8081", `service_name="app",reason="bind"`), 10, 30)
		}),
	},
	{
		name: "all of several ports are down", length: 40, want: one("PortGoneMissing", `service_name="app",proto="tcp",port="8080,8081"`, 12, 30),
		stage: with(func(m *machine) {
			m.start(down, `service_name="app",proto="tcp",port="8080,8081"`, 10, 30)
			m.start(down, `service_name="b",proto="tcp",port="9"`, 10, 11)
		}),
	},
	{name: "a forbidden port is open, and flaps", length: 60, want: append(one("ForbiddenListener", `proto="tcp",port="23"`, 12, 40),
		one("PortFlapping", `proto="tcp",port="23"`, 20, 40)...), stage: with(func(m *machine) {
		m.violations("forbidden", 10)
		m.start(bad, listener("tcp", "127.0.0.1", "23", `reason="forbidden"`), 10, 40)
		m.start(down, `service_name="telnet",proto="tcp",port="23"`, 10, 40)
		m.add("", flaps, `proto="tcp",port="23"`, constant(4), between(20, 40))
	})},
	{name: "undeclared ports are open", length: 60, want: append(one("UnregisteredListener", `proto="tcp",port="8080"`, 15, 40),
		one("UnregisteredListener", `service_name="alpha",proto="udp",port="30080"`, 15, 40)...), stage: with(func(m *machine) {
		m.start(bad, listener("tcp", "0.0.0.0", "8080", `reason="unregistered"`), 10, 40)
		m.start(bad, listener("tcp", "::", "8080", `reason="unregistered"`), 11, 40)
		m.start(bad, listener("udp", "0.0.0.0", "30080", `service_name="alpha",reason="reserved"`), 10, 40)
		m.start(bad, listener("tcp", "127.0.0.1", "8081", `reason="unregistered"`), 10, 40)
		m.start(bad, listener("tcp", "0.0.0.0", "8082", `reason="unregistered"`), 10, 14)
		m.start(bad, listener("tcp", "0.0.0.0", "8083", `netns="x",reason="unregistered"`), 10, 40)
	})},
	{name: "UDP clients in another namespace, and after a sysctl", length: 60, stage: with(func(m *machine) {
		m.add("udp", "host_listen_port", listener("udp", "0.0.0.0", "40000", "")[:len(listener("udp", "0.0.0.0", "40000", ""))-len(`range="user"`)]+`range="ephemeral"`, constant(1), between(0, 10))
		m.start(bad, listener("udp", "0.0.0.0", "40000", `reason="unregistered"`), 10, 40)
	})},
	{name: "many undeclared ports", length: 40, want: one("ManyUndeclaredListeners", "", 12, 30), stage: with(func(m *machine) {
		for port := range 30 {
			m.start(bad, listener("tcp", "0.0.0.0", fmt.Sprint(20000+port), `reason="unregistered"`), 10, 30)
		}
	})},
	{name: "many forbidden ports", length: 40, want: one("ManyUndeclaredListeners", "", 12, 30), stage: with(func(m *machine) {
		for port := range 30 {
			m.start(bad, listener("tcp", "127.0.0.1", fmt.Sprint(20000+port), `reason="forbidden"`), 10, 30)
		}
	})},
	{name: "many ports are gone", length: 40, want: one("ManyPortsVanished", "", 12, 30), stage: without(func(m *machine) {
		for port := range 30 {
			m.start(gone, fmt.Sprintf(`proto="tcp",port="%d"`, 20000+port), 10, 30)
		}
	})},
	{
		name: "many ports flap", length: 40, want: append(one("ManyUndeclaredListeners", "", 10, 30), one("PortFlapping", nginx, 10, 30)...),
		stage: with(func(m *machine) {
			for port := range 30 {
				m.add("", flaps, fmt.Sprintf(`proto="tcp",port="%d"`, 20000+port), constant(5), between(10, 30))
			}
			m.add("", flaps, nginx, constant(5), between(10, 30))
		}),
	},
	{
		name: "a service flaps, then stays down", length: 60, want: append(one("PortFlapping", nginx, 10, 30), one("PortGoneMissing", nginx, 30, 50)...),
		stage: with(func(m *machine) {
			m.add("", flaps, nginx+held, constant(7), between(10, 30))
			m.start(down, nginx+held, 8, 9, 10, 11, 12, 15, 16, 50)
		}),
	},
	{name: "a bind shell flaps", length: 40, want: one("PortFlapping", `proto="tcp",port="4444"`, 10, 30), stage: with(func(m *machine) {
		m.add("", flaps, `proto="tcp",port="4444"`, constant(4), between(10, 30))
		m.start(bad, listener("tcp", "0.0.0.0", "4444", `reason="unregistered"`), 3, 7, 7.5, 30)
		m.violations("unregistered", 3, 7.5, 20.9)
	})},
	{name: "a lost port flaps", length: 40, want: one("PortFlapping", `proto="tcp",port="81"`, 10, 30), stage: without(func(m *machine) {
		m.add("", flaps, `proto="tcp",port="81"`, constant(4), between(10, 30))
		m.start(gone, `proto="tcp",port="81"`, 10, 14, 15, 19, 20, 30)
		m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", "81", ""), constant(1), between(10, 30))
	})},
	{
		name: "an accept queue is full, and drops packets", length: 60, want: one("AcceptQueueFull", `proto="tcp",port="443"`, 12, 40),
		stage: with(func(m *machine) {
			m.start(full, listener("tcp", "0.0.0.0", "443", ""), 10, 40)
			m.start(full, listener("tcp", "::", "443", ""), 10, 40)
			m.start(drops, listener("tcp", "0.0.0.0", "443", ""), 10, 40)
			m.start(full, listener("tcp", "0.0.0.0", "80", ""), 10, 11)
			m.start(full, listener("tcp", "0.0.0.0", "90", `netns="x"`), 10, 40)
		}),
	},
	{name: "a listener drops packets", length: 60, want: one("ListenerDropping", `proto="udp",port="514"`, 17, 40), stage: without(func(m *machine) {
		m.start(drops, listener("udp", "0.0.0.0", "514", ""), 10, 40)
		m.start(drops, listener("udp", "0.0.0.0", "515", ""), 10, 16)
		m.start(drops, listener("udp", "0.0.0.0", "516", `netns="x"`), 10, 40)
	})},
	{name: "unexpected privileged ports", length: 60, want: append(one("UnexpectedPrivilegedListener", `proto="tcp",port="25"`, 15, 40),
		one("UnexpectedPrivilegedListener", `proto="udp",port="443"`, 15, 40)...), stage: without(func(m *machine) {
		for _, port := range []string{"22", "25", "1024", "8080"} {
			m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", port, ""), constant(1), between(10, 40))
		}
		m.add("tcp", "host_listen_port", listener("tcp", "::", "25", ""), constant(1), between(10, 40))
		m.add("tcp", "host_listen_port", listener("tcp", "127.0.0.1", "26", ""), constant(1), between(10, 40))
		m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", "27", `netns="x"`), constant(1), between(10, 40))
		m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", "28", ""), constant(1), between(10, 13))
		m.add("udp", "host_listen_port", listener("udp", "0.0.0.0", "68", ""), constant(1), between(10, 40))
		m.add("udp", "host_listen_port", listener("udp", "0.0.0.0", "443", ""), constant(1), between(10, 40))
	})},
	{name: "privileged ports of a host with a registry", length: 30, stage: with(func(m *machine) {
		m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", "25", ""), constant(1), between(5, 30))
	})},
	{name: "many unexpected ports", length: 40, want: one("ManyUndeclaredListeners", "", 10, 30), stage: without(func(m *machine) {
		for port := range 30 {
			m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", fmt.Sprint(100+port), ""), constant(1), between(10, 30))
		}
	})},
	{name: "a host is renamed: the registry has no service for it", length: 40, want: one("PortRegistryWithoutServices", "", 15, 60), stage: func() []*machine {
		m := newHost(web).registry(0)
		m.facts[len(m.facts)-3].value = func(minute float64) float64 { return max(0, 10-minute) }
		m.start(bad, listener("tcp", "0.0.0.0", "22", `reason="unregistered"`), 10, 40)
		for port := range 30 {
			m.start(bad, listener("udp", "0.0.0.0", fmt.Sprint(20000+port), `reason="unregistered"`), 10, 40)
		}
		return []*machine{m}
	}},
	{name: "a service flaps on many ports", length: 30, want: flapping(25), stage: with(func(m *machine) {
		for port := range 25 {
			m.add("", flaps, fmt.Sprintf(`service_name="range",proto="tcp",port="%d"`, 20000+port), constant(5), between(10, 20))
		}
	})},
	{name: "a forbidden port is open between two looks", length: 40, want: one("BriefViolation", "", 13.9, 26), stage: with(func(m *machine) {
		m.violations("forbidden", 11.9)
	})},
	{name: "an undeclared port is open for a minute, and there are no events", length: 40, stage: with(func(m *machine) {
		m.add("", "host_listen_violations_total", `reason="unregistered"`, count(11.9), always)
		m.start(bad, listener("tcp", "0.0.0.0", "8080", `reason="unregistered"`), 11.9, 12.9)
	})},
	{
		name: "forbidden for a minute, and undeclared for 3", length: 60, want: append(one("BriefViolation", "", 15, 25), one("BriefViolation", "", 37, 45)...),
		stage: with(func(m *machine) {
			m.violations("forbidden", 10.9)
			m.start(bad, listener("tcp", "0.0.0.0", "23", `reason="forbidden"`), 10.9, 12.2)
			m.violations("unregistered", 30.9)
			m.start(bad, listener("tcp", "0.0.0.0", "8080", `reason="unregistered"`), 30.9, 34.5)
			m.start(bad, listener("tcp", "127.0.0.1", "8080", `reason="unregistered"`), 29, 60)
		}), only: []string{"each minute", "every 15 seconds", "relabelled"},
	},
	{name: "a forbidden port is open for 4 minutes", length: 40, want: one("ForbiddenListener", `proto="tcp",port="23"`, 12, 14), stage: with(func(m *machine) {
		m.violations("forbidden", 10)
		m.start(bad, listener("tcp", "127.0.0.1", "23", `reason="forbidden"`), 10, 14)
	}), only: []string{"each minute", "every 15 seconds", "relabelled"}},
	{name: "an undeclared port is open for 10 minutes", length: 40, want: one("UnregisteredListener", `proto="tcp",port="8080"`, 15, 20), stage: with(func(m *machine) {
		m.violations("unregistered", 10)
		m.start(bad, listener("tcp", "0.0.0.0", "8080", `reason="unregistered"`), 10, 20)
	})},
	{name: "a violation that lasts is one alert, and hides no other for long", length: 90, want: append(append(
		one("ForbiddenListener", `proto="tcp",port="23"`, 12, 18), one("UnregisteredListener", `proto="tcp",port="8080"`, 15, 80)...),
		one("BriefViolation", "", 53.9, 66)...), stage: with(func(m *machine) {
		m.violations("forbidden", 10)
		m.start(bad, listener("tcp", "127.0.0.1", "23", `reason="forbidden"`), 10, 18)
		m.violations("unregistered", 10, 51.9)
		m.start(bad, listener("tcp", "0.0.0.0", "8080", `reason="unregistered"`), 10, 80)
	})},
	{name: "a lease overstays on two ports", length: 80, want: one("LeaseOverstayed", leased, 15, 40), stage: with(func(m *machine) {
		m.leases(constant(90))
		m.violations("reserved", 10)
		for _, port := range []string{"40000", "40001"} {
			m.start(over, leased+`,port="`+port+`"`, 10, 40)
			m.start(bad, listener("tcp", "0.0.0.0", port, `service_name="ci",reason="reserved"`), 10, 40)
		}
	})},
	{name: "a lease overstays on many ports", length: 40, want: one("LeaseOverstayed", leased, 15, 30), stage: with(func(m *machine) {
		for port := range 25 {
			m.start(over, fmt.Sprintf(`%s,port="%d"`, leased, 40000+port), 10, 30)
			m.start(bad, listener("tcp", "0.0.0.0", fmt.Sprint(40000+port), `service_name="ci",reason="reserved"`), 10, 30)
		}
	}), only: []string{"each minute", "every 15 seconds", "relabelled"}},
	{name: "a lease overstays for 3 minutes", length: 60, stage: with(func(m *machine) {
		m.violations("reserved", 10.9)
		m.start(over, leased+`,port="40000"`, 10.9, 14.5)
		m.start(bad, listener("tcp", "0.0.0.0", "40000", `service_name="ci",reason="reserved"`), 10.9, 14.5)
	}), only: []string{"each minute", "every 15 seconds", "relabelled"}},
	{
		name: "a leased port is opened again and again, and somebody else's socket is there too", length: 60,
		want: one("UnregisteredListener", `service_name="ci",proto="tcp",port="40000"`, 15, 40), stage: with(func(m *machine) {
			m.add("", "host_listen_lease_info", leased+`,port="40000",uid="1001"`, constant(1), between(0, 20))
			m.add("", flaps, `service_name="shop-test",proto="tcp",port="40000"`, constant(5), between(10, 30))
			m.start(bad, listener("tcp", "0.0.0.0", "40000", `service_name="ci",reason="reserved"`), 10, 40)
		}),
	},
	{name: "no port is left to lease, and later only for 4 minutes", length: 80, want: one("LeaseRangeExhausted", `team="ci"`, 15, 40), stage: with(func(m *machine) {
		m.leases(path(0, 5, 10, 5, 10, 0, 40, 0, 40, 5, 50, 5, 50, 0, 54, 0, 54, 5))
	})},
	{
		name: "the store of leases goes away, and comes back with no port left", length: 80,
		want: append(one("LeaseStoreUnavailable", "", 12, 40), one("LeaseRangeExhausted", `team="ci"`, 45, 60)...),
		stage: with(func(m *machine) {
			m.leases(path(0, 5, 10, 5, 10, 0, 60, 0, 60, 5))
			m.facts[len(m.facts)-1].value = path(0, 1, 10, 1, 10, 0, 40, 0, 40, 1, 70, 1, 70, 0, 71, 0, 71, 1)
		}),
	},
	{
		name: "leases are not given back", length: 160,
		want:  append(one("LeaseRangeFillingUp", `team="ci"`, 111, 130), one("LeaseRangeExhausted", `team="ci"`, 135, 145)...),
		stage: with(func(m *machine) { m.leases(path(0, 100, 30, 100, 130, 0, 145, 0, 145, 100)) }),
	},
	{name: "jobs take many ports at once, and give them back", length: 160, stage: with(func(m *machine) {
		m.leases(path(0, 100, 20, 100, 20, 40, 60, 40, 60, 100, 70, 100, 70, 20, 150, 20, 150, 100))
	})},
	{name: "a range that is mostly free becomes less so", length: 120, stage: with(func(m *machine) {
		m.leases(path(0, 100, 10, 100, 90, 60))
	})},
	{name: "a range that was full empties, and is used again", length: 150, stage: with(func(m *machine) {
		m.leases(path(0, 100, 5, 100, 5, 5, 60, 5, 90, 45, 140, 35))
	})},
	{name: "leases are not given back, and the exporter goes down", length: 110, want: one("ListenExporterDown", "", 94, 200), stage: with(func(m *machine) {
		m.leases(path(0, 100, 10, 100, 110, 0))
		m.down = func(minute float64) bool { return minute >= 90 }
	}), only: []string{"each minute", "every 15 seconds", "relabelled"}},
	{
		name: "an undeclared port is open between two looks, and the registry has no service for the host", length: 40,
		want: one("PortRegistryWithoutServices", "", 15, 60), stage: func() []*machine {
			m := newHost(web).registry(0)
			m.facts[len(m.facts)-3].value = func(minute float64) float64 { return max(0, 10-minute) }
			m.violations("unregistered", 21.9)
			return []*machine{m}
		},
	},
	{
		name: "a forbidden port opens on loopback, and the exporter does not answer for two minutes", length: 40,
		want: one("ForbiddenListener", `proto="tcp",port="23"`, 13.5, 30), stage: with(func(m *machine) {
			m.violations("forbidden", 10.2)
			m.start(bad, listener("tcp", "127.0.0.1", "23", `reason="forbidden"`), 10.2, 30)
			m.down = between(11.5, 13.5)
		}), only: []string{"each minute"},
	},
	{name: "a violation begins, and the exporter is down", length: 40, want: one("ListenExporterDown", "", 15, 60), stage: with(func(m *machine) {
		m.violations("forbidden", 9.9)
		m.start(bad, listener("tcp", "0.0.0.0", "23", `reason="forbidden"`), 9.9, 60)
		m.down = func(minute float64) bool { return minute >= 11 }
	}), only: []string{"each minute", "every 15 seconds"}},
	{name: "many undeclared ports for 3 minutes", length: 40, want: one("ManyUndeclaredListeners", "", 12, 13.5), stage: with(func(m *machine) {
		var all []float64
		for port := range 30 {
			m.start(bad, listener("tcp", "0.0.0.0", fmt.Sprint(20000+port), `reason="unregistered"`), 10, 13.5)
			all = append(all, 10)
		}
		m.violations("unregistered", all...)
	}), only: []string{"each minute", "every 15 seconds", "relabelled"}},
	{
		name: "the kernel's events are lost, and then fail", length: 60, want: append(one("ListenEventsLost", "", 13.9, 26), one("ListenEventsFailed", "", 45, 60)...),
		stage: without(func(m *machine) {
			m.add("", "host_listen_events_lost_total", "", count(11.9), always)
			m.add("", "host_listen_collector_success", `collector="event"`, func(minute float64) float64 { return max(0, min(1, 30-minute)) }, always)
		}),
	},
	{name: "what fails for 4 minutes, then the exporter is down", length: 40, want: []alert{
		{"ListenExporterDown", shownW, 18, 60}, {"ListenExporterDown", `instance="full:10190"`, 18, 60},
	}, stage: func() []*machine {
		m := newHost(web)
		failing := func(minute float64) float64 { return max(0, 10-minute) }
		m.facts[3].value, m.facts[4].value = failing, func(minute float64) float64 { return max(0, minute-9) }
		m.registry(5)
		m.facts[5].value, m.facts[6].value = failing, failing
		m.add("", "host_listen_collector_success", `collector="holder"`, failing, always)
		m.add("", "host_listen_collector_success", `collector="event"`, constant(0), always)
		m.add("", "host_listen_collector_success", `collector="traffic"`, constant(0), always)
		m.add("", "host_listen_events_lost_total", "", count(12.9), always)
		m.add("", "host_listen_lease_store_up", "", func(minute float64) float64 { return 1 - count(12.9)(minute) }, always)
		m.down = func(minute float64) bool { return minute >= 14 }
		full := newHost(`instance="full:10190",job="listen_exporter"`)
		full.add("", "host_listen_lease_ports_available", `team="ci"`, failing, always)
		full.down = m.down
		return []*machine{m, full}
	}, only: []string{"each minute", "every 15 seconds", "relabelled"}},
	{name: "what fails", length: 40, want: append(append(append(one("ListenStateNotWritten", "", 15, 60), one("ListenPortsOmitted", "", 15, 60)...),
		one("PortRegistryReloadFailed", "", 15, 60)...), one("ListenNamespacesNeverRead", "", 25, 60)...), stage: func() []*machine {
		m := newHost(web)
		failing := func(minute float64) float64 { return max(0, 10-minute) }
		// At every second look only.
		m.facts[3].value, m.facts[4].value = failing, func(minute float64) float64 { return max(0, minute-9) * float64(int(2*minute)%4/2) }
		m.registry(5)
		m.facts[6].value = failing
		m.add("", "host_listen_collector_success", `collector="registry"`, failing, always)
		m.add("", "host_listen_namespaces_never_read", "", func(minute float64) float64 { return max(0, minute-9) }, always)
		return []*machine{m}
	}, only: []string{"every 15 seconds", "each minute"}},
	{name: "collectors that fail", length: 40, want: []alert{
		{"ListenCollectorFailed", `instance="now-and-then"`, 15, 60},
		{"ListenCollectorFailed", `instance="registry"`, 15, 60},
		{"ListenCollectorFailed", `instance="none"`, 5, 60},
		{"ListenCollectorFailed", `instance="errors"`, 16, 60},
	}, stage: func() []*machine {
		now := newHost(`instance="now-and-then",job="listen_exporter"`)
		now.add("", "host_listen_collector_success", `collector="holder"`, func(minute float64) float64 {
			return max(0, 10-minute) + float64(int(minute)%2)
		}, always)
		judged := newHost(`instance="registry",job="listen_exporter"`).registry(5)
		judged.add("", "host_listen_collector_success", `collector="registry"`, func(minute float64) float64 { return max(0, 10-minute) }, always)
		none := newHost(`instance="none",job="listen_exporter"`)
		none.facts, none.blind = none.facts[1:2], true
		errs := newHost(`instance="errors",job="listen_exporter"`)
		errs.add("", "promhttp_metric_handler_errors_total", `cause="gathering"`, func(minute float64) float64 { return max(0, minute-10) }, always)
		other := newHost(`instance="other",job="node"`)
		other.facts, other.blind = nil, true
		other.add("", "promhttp_metric_handler_errors_total", `cause="gathering"`, func(minute float64) float64 { return minute }, always)
		client := newHost(`instance="client",job="listen_exporter"`)
		client.add("", "promhttp_metric_handler_errors_total", `cause="encoding"`, func(minute float64) float64 { return minute }, always)
		once := newHost(`instance="once",job="listen_exporter"`)
		once.add("", "host_listen_collector_success", `collector="holder"`, func(minute float64) float64 {
			return float64(min(1, max(0, int(minute)-11)+max(0, 11-int(minute))))
		}, always)
		once.facts[4].value = func(minute float64) float64 { return float64(max(0, 1-max(0, int(minute)-11)-max(0, 11-int(minute)))) }
		return []*machine{now, judged, none, errs, other, client, once}
	}, only: []string{"each minute"}},
	{
		name: "an exporter that is started again and again, and other programs", length: 40, want: one("ListenExporterFlapping", "", 13, 60),
		stage: func() []*machine {
			m := newHost(web)
			m.add("", "process_start_time_seconds", "", func(minute float64) float64 { return max(10, float64(int(minute))) }, always)
			other := newHost(`instance="other",job="node"`)
			other.facts, other.blind = nil, true
			other.add("", "process_start_time_seconds", "", func(minute float64) float64 { return minute }, always)
			other.down = func(minute float64) bool { return minute > 20 }
			upgraded := newHost(`instance="upgraded",job="listen_exporter"`)
			upgraded.add("", "process_start_time_seconds", "", func(minute float64) float64 { return 10 * float64(int(minute/15)) }, always)
			return []*machine{m, other, upgraded}
		}, only: []string{"each minute"},
	},
	{
		name: "scrapes that fail for a while, then all", length: 40, want: append(one("ListenExporterFlapping", "", 16, 21), one("ListenExporterDown", "", 23, 60)...),
		stage: func() []*machine {
			m := newHost(web)
			m.down = func(minute float64) bool { return minute >= 20 || minute >= 10 && int(minute)%2 == 1 }
			return []*machine{m}
		}, only: []string{"each minute"},
	},
	{name: "an edit takes a service from one of two hosts", length: 60, stage: func() []*machine {
		var all []*machine
		for n, spans := range [][]float64{{}, {40, 55}} {
			m := newHost(fmt.Sprintf(`instance="lb%d:10190",job="listen_exporter",cluster="c"`, n)).registry(3)
			m.add("", "host_listen_service_info", `service_name="vip",required="one-host"`, constant(1), between(0, []float64{10, 60}[n]))
			m.start(down, `service_name="vip",proto="tcp",port="443"`, spans...)
			all = append(all, m)
		}
		return all
	}, want: []alert{{"ServiceOnNoHost", `cluster="c",service_name="vip",proto="tcp",port="443"`, 42, 55}}},
	{name: "a power cut of 90 minutes", length: 130, want: append(one("ListenExporterDown", "", 14, 100), append(
		one("PortGoneMissing", nginx, 101, 120), one("UnregisteredListener", `proto="tcp",port="8080"`, 102, 120)...)...), stage: with(func(m *machine) {
		m.down = between(10, 100)
		m.start(down, nginx+held, 101, 120)
		m.facts = append(m.facts[:len(m.facts)-1], fact{m.facts[len(m.facts)-1].series, since(90), between(101, 120), ""})
		m.add("tcp", bad, listener("tcp", "0.0.0.0", "8080", `reason="unregistered"`), since(96), between(100, 120))
	}), only: []string{"each minute", "relabelled"}},
	{name: "Prometheus is down for 70 minutes, and misses how things began", length: 130, stage: func() []*machine {
		a := newHost(`instance="web1",job="ports"`).registry(5)
		a.start(down, nginx, 50, 110)
		a.start(bad, listener("tcp", "0.0.0.0", "8080", `reason="unregistered"`), 6, 110)
		b := newHost(`instance="db1",job="ports"`)
		b.start(gone, `proto="tcp",port="5432"`, 8, 110)
		b.down = between(60, 130)
		for _, m := range []*machine{a, b} {
			m.hole = between(5, 79)
		}
		return []*machine{a, b}
	}, want: []alert{
		{"PortGoneMissing", `instance="web1",` + nginx, 79, 110},
		{"UnregisteredListener", `instance="web1",proto="tcp",port="8080"`, 79, 110},
		{"ListenExporterDown", `instance="db1"`, 81, 200},
	}, only: []string{"each minute"}},
	{name: "failover that works, and one that does not", length: 90, stage: func() []*machine {
		var all []*machine
		for n, spans := range [][]float64{{20, 90}, {0, 20, 50, 80}, {0, 90}, {}} {
			cluster := []string{"a", "a", "b", "b"}[n]
			m := newHost(fmt.Sprintf(`instance="lb%d:10190",job="listen_exporter",cluster=%q`, n, cluster)).registry(3)
			m.add("", "host_listen_service_info", `service_name="vip",required="one-host"`, constant(1), always)
			m.start(down, `service_name="vip",proto="tcp",port="443"`, spans...)
			all = append(all, m)
		}
		return all
	}, want: []alert{{"ServiceOnNoHost", `cluster="a",service_name="vip",proto="tcp",port="443"`, 52, 80}}},
	{name: "an exporter that is down may have the address, and what explains it is one alert", length: 60, stage: func() []*machine {
		a := newHost(`instance="lb1:10190",job="listen_exporter",cluster="c"`).registry(3)
		b := newHost(`instance="lb2:10190",job="listen_exporter",cluster="c"`).registry(3)
		for _, m := range []*machine{a, b} {
			m.add("", "host_listen_service_info", `service_name="vip",required="one-host"`, constant(1), always)
		}
		a.down = between(10, 60)
		b.start(down, `service_name="vip",proto="tcp",port="443"`, 0.5, 60)
		b.add("", "host_listen_service_info", `service_name="mail",required="one-host"`, constant(1), always)
		b.start(down, `service_name="mail",proto="tcp",port="25"`, 10, 50)
		b.start(bad, listener("tcp", "0.0.0.0", "25", `service_name="mail",reason="bind"`), 10, 50)
		b.start(down, `service_name="web",proto="tcp",port="80"`, 10, 50)
		b.add("", "host_listen_service_info", `service_name="web",required="one-host"`, constant(1), always)
		b.start(bad, listener("tcp", "0.0.0.0", "80", `service_name="web",reason="process"`), 10, 50)
		return []*machine{a, b}
	}, want: []alert{
		{"ListenExporterDown", `instance="lb1:10190",cluster="c"`, 14, 100},
		{"ListenerExposed", `instance="lb2:10190",cluster="c",service_name="mail",proto="tcp",port="25"`, 12, 50},
		{"ListenerHolderChanged", `instance="lb2:10190",cluster="c",service_name="web",proto="tcp",port="80"`, 12, 50},
	}},
	{name: "a fleet of two versions", length: 120, rare: true, only: []string{"each minute", "every second scrape fails, each minute"}, stage: func() []*machine {
		old := newHost(`instance="old:10190",job="listen_exporter"`)
		old.old, old.facts = true, nil
		fresh := newHost(`instance="new:10190",job="listen_exporter"`)
		fresh.facts = fresh.facts[:2]
		fresh.add("", "host_listen_state_loaded", "", constant(0), always)
		loaded := newHost(`instance="loaded:10190",job="listen_exporter"`)
		judged := newHost(`instance="judged:10190",job="listen_exporter"`).registry(2)
		judged.facts[2] = fact{judged.facts[2].series, constant(0), always, ""}
		for _, m := range []*machine{old, fresh, loaded, judged} {
			m.add("", "host_listen_source_info", `source="netlink"`, constant(1), always)
			m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", "5432", ""), constant(1), between(0, 70))
			m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", "5433", ""), constant(1), between(0, 70, 71, 120))
			m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", "5434", ""), constant(1), between(50, 70))
			m.add("tcp", "host_listen_port", listener("tcp", "0.0.0.0", "5435", `netns="x"`), constant(1), between(0, 70))
		}
		return []*machine{old, fresh, loaded, judged}
	}, want: []alert{
		{"PortVanished", `instance="old:10190",proto="tcp",port="5432"`, 73, 99},
		{"PortVanished", `instance="new:10190",proto="tcp",port="5432"`, 73, 99},
	}},
}

func TestEachIncidentHasItsAlerts(t *testing.T) {
	rules, err := filepath.Abs(mainRules)
	if err != nil {
		t.Fatal(err)
	}
	some := siblings
	if testing.Short() {
		some = siblings[:1]
	}
	for _, engine := range engines {
		if engine.name != "promtool" && os.Getenv("LISTEN_EXPORTER_ENGINES") == "" {
			continue // make test-rules
		}
		t.Run(engine.name, func(t *testing.T) {
			tools.Look(t, engine.name)
			if err := engine.play(t, rules, films, some); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnusedListenersOnEachEngine has no film: it takes a month.
func TestUnusedListenersOnEachEngine(t *testing.T) {
	const rules, tests = "../examples/prometheus/unused_listener.rules.yml", "../examples/prometheus/unused_listener.test.yml"
	for _, engine := range engines[1:] { // promtool runs all unit tests
		if os.Getenv("LISTEN_EXPORTER_ENGINES") == "" {
			continue // make test-rules
		}
		t.Run(engine.name, func(t *testing.T) {
			tools.Look(t, engine.name)
			text := strings.ReplaceAll(tools.Read(t, tests), engines[0].queries, engine.queries)
			if err := engine.run(t, map[string]string{filepath.Base(rules): tools.Read(t, rules), filepath.Base(tests): text}); err != nil {
				t.Error(err)
			}
		})
	}
}
