package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// fleetScrapes are one a minute for two hours.
const fleetScrapes = 120

// incidentEvery is the share of hosts where something is wrong.
const incidentEvery = 20

// The incidents, one a host. They began ten minutes before the end.
const (
	quiet    = iota
	vanished // a port closes; of a host with a registry, its service is down
	full     // an accept queue
	dropping // a UDP socket
	down     // the exporter
	failing  // the exporter's reading of UDP
	foreign  // another program holds a port; needs a registry
	rogue    // 200 undeclared ports; needs a registry
	incidents
)

// roguePorts is how many ports a host with the incident rogue has besides the usual.
const roguePorts = 200

// fleet is a number of hosts. Every second twenty of them have a registry.
type fleet struct {
	hosts int
	end   time.Time
}

// shape is the value of a series at each scrape, or NaN where there is none.
type shape func(scrape int) float64

func always(v float64) shape { return func(int) float64 { return v } }

// change is a value that is another one since ten minutes ago.
func change(before, after float64) shape {
	return func(scrape int) float64 {
		if scrape < fleetScrapes-10 {
			return before
		}
		return after
	}
}

// rising is a counter that rises since ten minutes ago.
func rising(perMinute float64) shape {
	return func(scrape int) float64 { return perMinute * float64(max(0, scrape-(fleetScrapes-10))) }
}

// busy is an accept queue that has a connection in it at some scrapes.
func busy(seed int) shape {
	return func(scrape int) float64 { return float64((scrape*31 + seed) % 17 / 15) }
}

// while is a shape that ends when another does.
func while(there, s shape) shape {
	return func(scrape int) float64 { return s(scrape) * there(scrape) }
}

// fleetListener is a listener of a host.
type fleetListener struct {
	proto, family, address, scope, ports string
	port                                 int
	required                             bool // by the registry
}

// fleetListeners are the 60 of each host: 36 TCP and 9 UDP on IPv4, 12 TCP and 3 UDP on IPv6; a third on loopback, and a quarter
// required by the registry. Which service has which port above 1024 differs between ten kinds of hosts.
func fleetListeners(kind int) (all []fleetListener) {
	add := func(count int, proto, family string, first int, privileged ...int) {
		for n := range count {
			l := fleetListener{proto: proto, family: family, address: "0.0.0.0", scope: "any", ports: "user", port: first + kind*200 + n}
			if n < len(privileged) {
				l.port, l.ports = privileged[n], "privileged"
			} else if n%3 == 0 {
				l.address, l.scope = "127.0.0.1", "loopback"
			}
			if family == "ipv6" {
				l.address = map[string]string{"any": "::", "loopback": "::1"}[l.scope]
			}
			l.required = n%4 == 0 && family == "ipv4"
			all = append(all, l)
		}
	}
	add(36, "tcp", "ipv4", 8000, 22, 80, 443)
	add(12, "tcp", "ipv6", 8000, 22, 80, 443)
	add(9, "udp", "ipv4", 5000, 68)
	add(3, "udp", "ipv6", 5000, 546)
	return all
}

// describe calls add for each series that the rules read, with its labels in pairs and without its name.
func (f fleet) describe(host int, add func(name string, pairs []string, s shape)) {
	incident := quiet
	if host%incidentEvery == 7 {
		incident = 1 + host/(2*incidentEvery)%(incidents-1)
	}
	judged := host/20%2 == 0
	alive := always(1)
	if incident == down {
		alive = change(1, math.NaN())
	}
	target := []string{"job", "listen_exporter", "instance", fmt.Sprintf("host-%05d:10190", host), "env", "prod"}
	series := func(name string, s shape, pairs ...string) { add(name, slices.Concat(target, pairs), while(alive, s)) }

	up := always(1)
	if incident == down {
		up = change(1, 0)
	}
	add("up", target, up)
	add("listen_exporter:up", target, up)
	// Another exporter of the same host, which the rules must pass over.
	other := []string{"job", "node", "instance", fmt.Sprintf("host-%05d:9100", host), "env", "prod"}
	add("up", other, always(1))
	add("process_start_time_seconds", other, always(float64(f.end.Unix()-86400)))
	add("promhttp_metric_handler_errors_total", append(other, "cause", "gathering"), always(0))

	series("promhttp_metric_handler_errors_total", always(0), "cause", "gathering")
	series("promhttp_metric_handler_errors_total", always(0), "cause", "encoding")
	series("host_listen_ports_omitted", always(0))
	series("host_listen_source_info", always(1), "source", "netlink")
	series("process_start_time_seconds", always(float64(f.end.Unix()-86400)))
	series("host_listen_time_seconds", func(scrape int) float64 { return float64(f.end.Unix() - 60*int64(fleetScrapes-scrape)) })
	series("host_listen_state_last_write_successful", always(1))
	if host%10 == 0 {
		series("host_listen_state_loaded", always(0))
	} else {
		series("host_listen_state_loaded", always(1))
	}
	collectors := []string{"tcp", "udp", "holder"}
	if judged {
		collectors = append(collectors, "registry")
		series("host_listen_registry_services", always(15))
		series("host_listen_registry_last_reload_successful", always(1))
		series("host_listen_registry_last_reload_success_timestamp_seconds", always(float64(f.end.Unix()-86400)))
	}
	for _, collector := range collectors {
		success := always(1)
		if incident == failing && collector == "udp" {
			success = change(1, 0)
		}
		series("host_listen_collector_success", success, "collector", collector)
	}
	for n, l := range fleetListeners(host % 10) {
		l.describe(host, n, incident, judged, f.since(), series)
	}
	for port := range roguePorts {
		if incident == rogue && judged {
			labels := []string{
				"proto", "tcp", "family", "ipv4", "address", "0.0.0.0", "port", strconv.Itoa(20000 + port), "scope", "any", "range", "user",
			}
			series("host_listen_port", change(math.NaN(), 1), labels...)
			series("host_listen_port_violation_start_timestamp_seconds", f.since(), append(labels, "reason", "unregistered")...)
		}
	}
}

// since is a family that has been there for ten minutes, with its start.
func (f fleet) since() shape { return change(math.NaN(), float64(f.end.Unix()-600)) }

// describe calls series for those of listener n of a host.
func (l fleetListener) describe(host, n, incident int, judged bool, since shape, series func(string, shape, ...string)) {
	there, queue, drops := always(1), busy(host+n), always(0)
	affected := n == 20 // a TCP listener that the registry requires
	switch {
	case incident == failing && l.proto == "udp", incident == vanished && affected:
		there = change(1, math.NaN())
	case incident == full && affected:
		queue, drops = change(0, 129), rising(600)
	case incident == dropping && n == 55:
		drops = rising(600)
	}
	service := l.proto + "-" + strconv.Itoa(l.port)
	labels := func(more ...string) []string {
		return append([]string{
			"proto", l.proto, "family", l.family, "address", l.address, "port", strconv.Itoa(l.port), "scope", l.scope, "range", l.ports,
		}, more...)
	}
	series("host_listen_port", there, labels()...)
	series("host_listen_port_drops_total", while(there, drops), labels()...)
	if l.proto == "tcp" {
		series("host_listen_port_accept_queue_length", while(there, queue), labels()...)
		series("host_listen_port_accept_queue_limit", while(there, always(128)), labels()...)
	}
	switch {
	case affected && incident == full:
		series("host_listen_port_accept_queue_full_start_timestamp_seconds", since, labels()...)
	case n == 55 && incident == dropping:
		series("host_listen_port_dropping_start_timestamp_seconds", since, labels()...)
	case affected && incident == vanished && !judged:
		series("host_listen_port_gone_timestamp_seconds", since, "proto", l.proto, "port", strconv.Itoa(l.port), "address", l.address,
			"process", service, "unit", service+".service")
	}
	series("host_listen_port_holder_info", there,
		labels("process", service, "unit", service+".service", "uid", strconv.Itoa(host%10+1000))...)
	if !judged {
		return
	}
	registered, serving := always(1), always(1)
	if affected && (incident == vanished || incident == foreign) {
		serving = change(1, 0)
	}
	if affected && incident == foreign {
		registered = change(1, 0)
		series("host_listen_port_violation", change(math.NaN(), 1), labels("service_name", service, "reason", "process")...)
		series("host_listen_port_violation_start_timestamp_seconds", since, labels("service_name", service, "reason", "process")...)
	}
	series("host_listen_port_registered", while(there, registered), labels()...)
	if l.required {
		named := []string{"service_name", service, "proto", l.proto, "port", strconv.Itoa(l.port)}
		series("host_listen_service_up", serving, named...)
		series("host_listen_service_info", always(1), "service_name", service, "owner", "team", "purpose", "p", "required", "")
		if serving(fleetScrapes-1) == 0 {
			series("host_listen_service_down_start_timestamp_seconds", since, append(named, "process", service, "unit", service+".service")...)
		}
	}
}
