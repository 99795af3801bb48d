package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

const (
	// listenersPerHost is how many listeners a host has, of which incidents may close one or add one.
	listenersPerHost = 60
	// scrapes are one a minute for two hours.
	scrapes = 120
)

// fleet is a number of hosts at a time. Every second one has a registry.
type fleet struct {
	hosts     int
	incidents float64
	end       time.Time
}

// shape is the value of a series at each scrape, or NaN where there is none.
type shape func(scrape int) float64

func always(v float64) shape { return func(int) float64 { return v } }

// until is a series that ended some minutes ago.
func until(v float64, minutesAgo int) shape { return change(v, math.NaN(), minutesAgo) }

// since is a series that began some minutes ago.
func since(v float64, minutesAgo int) shape { return change(math.NaN(), v, minutesAgo) }

func change(before, after float64, minutesAgo int) shape {
	return func(scrape int) float64 {
		if scrape < scrapes-minutesAgo {
			return before
		}
		return after
	}
}

// rising is a counter that began to rise some minutes ago.
func rising(perMinute float64, minutesAgo int) shape {
	return func(scrape int) float64 { return perMinute * float64(max(0, scrape-(scrapes-minutesAgo))) }
}

// busy is an accept queue that has a connection in it at some scrapes.
func busy(seed int) shape {
	return func(scrape int) float64 { return float64((scrape*31 + seed) % 17 / 15) }
}

// listener is one listener of a host.
type listener struct {
	proto, family, address, scope, ports string
	port                                 int
	required                             bool // by the registry
}

// listeners are those of each host: 36 TCP and 9 UDP on IPv4, 12 TCP and 3 UDP on IPv6; a third on loopback, as on hosts at
// large, and a quarter required by the registry. Which service has which port above 1024 differs between ten kinds of hosts.
func listeners(kind int) []listener {
	var all []listener
	add := func(count int, proto, family string, first int, ports ...int) {
		for n := range count {
			l := listener{proto: proto, family: family, address: "0.0.0.0", scope: "any", ports: "user", port: first + kind*200 + n}
			if n < len(ports) {
				l.port, l.ports = ports[n], "privileged"
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

// The incidents, one a host. Some are told by what a registry says, some where there is none, some everywhere.
const (
	quiet = iota
	vanished
	rogue
	full
	dropping
	down
	failing
	holderChanged
	exposed
	missing
	unregistered
	badRegistry
	incidents
)

// incident is what is wrong at a host.
func (f fleet) incident(host int) int {
	// The hosts with incidents are spread evenly.
	before, now := int(float64(host)*f.incidents), int(float64(host+1)*f.incidents)
	if before == now {
		return quiet
	}
	kinds := []int{vanished, rogue, full, dropping, down, failing}
	if f.judged(host) {
		kinds = []int{holderChanged, exposed, missing, unregistered, badRegistry, full, dropping, down}
	}
	return kinds[(before/2)%len(kinds)]
}

func (f fleet) judged(host int) bool { return host/20%2 == 0 }

// describe tells each series of what the rules read, with its labels in pairs and without its name.
func (f fleet) describe(host int, add func(name string, pairs []string, s shape)) {
	incident := f.incident(host)
	alive := func(s shape) shape {
		if incident != down {
			return s
		}
		return func(scrape int) float64 { return change(s(scrape), math.NaN(), 10)(scrape) }
	}
	target := []string{"job", "listen_exporter", "instance", fmt.Sprintf("host-%05d:10190", host), "env", "prod"}
	tell := func(name string, s shape, pairs ...string) { add(name, slices.Concat(target, pairs), alive(s)) }

	up := always(1)
	if incident == down {
		up = change(1, 0, 10)
	}
	add("up", target, up)
	add("listen_exporter:up", target, up)
	// Another exporter of the same host, which the rules must pass over.
	other := slices.Concat([]string{"job", "node", "instance", fmt.Sprintf("host-%05d:9100", host), "env", "prod"}, []string{"cause", "gathering"})
	add("up", other[:6], always(1))
	add("promhttp_metric_handler_errors_total", other, always(0))

	tell("promhttp_metric_handler_errors_total", always(0), "cause", "gathering")
	tell("promhttp_metric_handler_errors_total", always(0), "cause", "encoding")
	tell("host_listen_ports_omitted", always(0))
	collectors := []string{"tcp", "udp", "holder"}
	if f.judged(host) {
		collectors = append(collectors, "registry")
		reload := always(1)
		if incident == badRegistry {
			reload = change(1, 0, 20)
		}
		tell("host_listen_registry_last_reload_successful", reload)
		tell("host_listen_registry_last_reload_success_timestamp_seconds", always(float64(f.end.Unix()-86400)))
	}
	for _, collector := range collectors {
		success := always(1)
		if incident == failing && collector == "udp" {
			success = change(1, 0, 15)
		}
		tell("host_listen_collector_success", success, "collector", collector)
	}
	f.describeListeners(host, incident, tell)
}

func (f fleet) describeListeners(host, incident int, tell func(string, shape, ...string)) {
	all := listeners(host % 10)
	for n, l := range all {
		there := always(1)
		if l.proto == "udp" && incident == failing {
			there = until(1, 15)
		}
		affected := n == 20 && l.proto == "tcp"
		if affected && (incident == vanished || incident == missing) {
			there = until(1, 10)
		}
		queue, drops := busy(host+n), always(0)
		switch {
		case affected && incident == full:
			queue, drops = change(0, 129, 10), rising(600, 10)
		case n == len(all)-5 && incident == dropping:
			drops = rising(600, 15)
		}
		f.describeListener(host, l, there, queue, drops, tell)
		if !f.judged(host) {
			continue
		}
		registered := always(1)
		var reason string
		switch {
		case affected && incident == holderChanged:
			reason = "process"
		case affected && incident == exposed:
			reason = "bind"
		}
		if reason != "" {
			registered = change(1, 0, 10)
			tell("host_listen_port_violation", since(1, 10), append(l.pairs(), "service_name", l.service(), "reason", reason)...)
		}
		tell("host_listen_port_registered", registered, l.pairs()...)
		if l.required {
			serving := always(1)
			if affected && (reason != "" || incident == missing) {
				serving = change(1, 0, 10)
			}
			tell("host_listen_service_up", serving, "service_name", l.service(), "proto", l.proto, "port", strconv.Itoa(l.port))
		}
	}
	if incident == rogue || incident == unregistered {
		l := listener{proto: "tcp", family: "ipv4", address: "0.0.0.0", scope: "any", ports: "privileged", port: 111}
		f.describeListener(host, l, since(1, 10), always(0), always(0), tell)
		tell("host_listen_port_first_seen_timestamp_seconds", since(float64(f.end.Unix()-600), 10), l.pairs()...)
		if f.judged(host) {
			tell("host_listen_port_registered", since(0, 10), l.pairs()...)
			tell("host_listen_port_violation", since(1, 10), append(l.pairs(), "reason", "unregistered")...)
		}
	}
}

func (f fleet) describeListener(host int, l listener, there, queue, drops shape, tell func(string, shape, ...string)) {
	while := func(s shape) shape {
		return func(scrape int) float64 { return s(scrape) * there(scrape) }
	}
	tell("host_listen_port", there, l.pairs()...)
	tell("host_listen_port_drops_total", while(drops), l.pairs()...)
	if l.proto == "tcp" {
		tell("host_listen_port_accept_queue_length", while(queue), l.pairs()...)
		tell("host_listen_port_accept_queue_limit", while(always(128)), l.pairs()...)
	}
	tell("host_listen_port_holder_info", there, append(l.pairs(),
		"process", l.service(), "unit", l.service()+".service", "uid", strconv.Itoa(host%10+1000))...)
}

func (l listener) service() string { return l.proto + "-" + strconv.Itoa(l.port) }

func (l listener) pairs() []string {
	return []string{
		"proto", l.proto, "family", l.family, "address", l.address, "port", strconv.Itoa(l.port), "scope", l.scope, "range", l.ports,
	}
}
