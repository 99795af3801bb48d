//go:build linux

package page

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// sampleTime is when a page of a test is made.
var sampleTime = time.Date(2026, time.March, 4, 5, 6, 7, 0, time.UTC)

var sampleOptions = Options{
	Host: "db-7.example.com", Version: "1.2.3", File: "ports.yml",
	Links: []Link{{"/api/v1/listeners", "JSON"}, {"/metrics", "Metrics"}},
}

// nasty is a name that a process may give itself, but for its length.
const nasty = `<script>document.title="run"</script>`

// listening returns a listener as netlink reads it.
func listening(proto, addr string, scope inventory.Scope, holders ...inventory.Holder) inventory.Listener {
	l := inventory.Listener{Detailed: true, Exact: true, Sockets: 1, Holders: holders}
	l.Key = inventory.Key{Proto: proto, Addr: netip.MustParseAddrPort(addr), Scope: scope}
	if proto == inventory.TCP {
		l.AcceptQueueLimit = 4096
	} else {
		l.ReceiveBufferLimitBytes = 212992
	}
	return l
}

// judged adds a verdict.
func judged(l inventory.Listener, reason, service, purpose string) inventory.Listener {
	l.Judged, l.Verdict = true, inventory.Verdict{Reason: reason, Service: service, Purpose: purpose}
	return l
}

func reads(failed ...string) []inventory.Read {
	list := []inventory.Read{{Collector: inventory.TCP}, {Collector: inventory.UDP}, {Collector: inventory.CollectorHolder}}
	for i := range list {
		for _, name := range failed {
			if list[i].Collector == name {
				list[i].Err = errors.New("read " + name + ": permission denied")
			}
		}
	}
	return list
}

// required returns the state of a service that must listen.
func required(name, purpose, proto string, port uint16, up bool) inventory.ServiceState {
	var s inventory.ServiceState
	s.Service = &inventory.Service{Name: name, Purpose: purpose, Proto: proto, Port: port, Ports: strconv.Itoa(int(port))}
	s.Up = up
	return s
}

// sample returns what a database host may look like on a bad night.
func sample() *inventory.Snapshot {
	sshd := inventory.Holder{Process: "sshd", Unit: "ssh.service"}
	nginx := inventory.Holder{Process: "nginx", Unit: "nginx.service", UID: 33}
	ssh := judged(listening(inventory.TCP, "0.0.0.0:22", inventory.ScopeAny, sshd), "", "ssh", "remote administration")
	ssh6 := judged(listening(inventory.TCP, "[::]:22", inventory.ScopeAny, sshd), "", "ssh", "remote administration")
	ssh6.IPv6Only = true
	web := judged(listening(inventory.TCP, "[::]:443", inventory.ScopeAny, nginx), "", "web", "the shop")
	web.Sockets, web.AcceptQueueLength, web.AcceptQueueLimit = 4, 512, 511
	web.Starts = &inventory.Starts{Full: sampleTime.Add(-3 * time.Minute)}
	resolver := judged(listening(inventory.UDP, "127.0.0.53:53", inventory.ScopeLoopback, inventory.Holder{Process: "systemd-resolve", Unit: "systemd-resolved.service", UIDUnknown: true}), "", "resolver", "")
	resolver.Device, resolver.ReceiveQueueBytes, resolver.Drops = "lo", 150000, 17
	resolver.Starts = &inventory.Starts{Dropping: sampleTime.Add(-2 * time.Hour)}
	redis := judged(listening(inventory.TCP, "0.0.0.0:6379", inventory.ScopeAny, inventory.Holder{Process: "redis-server", Unit: "redis-server.service", UIDUnknown: true}), inventory.ReasonBind, "redis", "the session cache")
	redis.Verdict.Declared, redis.Starts = "loopback", &inventory.Starts{Violation: sampleTime.Add(-26 * time.Hour)}
	redis.AcceptQueueLength, redis.AcceptQueueLimit, redis.FirstSeen = 3, 511, sampleTime.Add(-26*time.Hour)
	rogue := judged(listening(inventory.TCP, "10.0.0.7:4444", inventory.ScopePrivate, inventory.Holder{Process: nasty, Unit: "user@1000.service/run-r3f0b9a.scope", UID: 65534}), inventory.ReasonUnregistered, "", "")
	rogue.FirstSeen = sampleTime.Add(-7 * time.Minute)
	team := judged(listening(inventory.TCP, "[fe80::1%eth0]:30007", inventory.ScopeLinkLocal, inventory.Holder{
		Process: "java", ContainerID: strings.Repeat("0123456789abcdef", 4), PodUID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
	}), inventory.ReasonReserved, "alpha", "")
	pg := judged(listening(inventory.TCP, "127.0.0.1:5433", inventory.ScopeLoopback, inventory.Holder{Process: "ncat", Unit: "session-3.scope"}), inventory.ReasonProcess, "postgres-replica", "streaming replication")
	pg.Verdict.Declared, pg.Exact = "process postgres, unit postgresql.service", false
	own := judged(listening(inventory.TCP, "[::]:10190", inventory.ScopeAny, inventory.Holder{Process: "listen_exporter", Unit: "listen_exporter.service", UIDUnknown: true}), "", "listen_exporter", "")
	s := &inventory.Snapshot{
		Source: "netlink", Reads: reads(),
		Listeners: []inventory.Listener{ssh, ssh6, resolver, web, rogue, pg, redis},
		Processes: make(map[inventory.Key][]inventory.Process),
		Compliance: &inventory.Compliance{
			Reloaded: true, ReloadedAt: sampleTime.Add(-time.Hour),
			Services: []inventory.ServiceState{
				required("ssh", "remote administration", inventory.TCP, 22, true),
				required("postgres", "the orders database", inventory.TCP, 5432, false),
				required("redis", "the session cache", inventory.TCP, 6379, false),
				required("sessions", "who is logged in", inventory.TCP, 6379, false), // it shares the port
			},
		},
		Memory: &inventory.Memory{Services: []inventory.ServiceMemory{{
			Name: "postgres", Proto: inventory.TCP, Ports: "5432", DownSince: sampleTime.Add(-7 * time.Minute),
			Last: inventory.Last{Processes: []string{"postgres"}, Units: []string{"postgresql.service"}},
		}}},
	}
	for port := 8000; port < 8030; port++ {
		l := judged(listening(inventory.TCP, fmt.Sprintf("127.0.0.1:%d", port), inventory.ScopeLoopback, inventory.Holder{Process: "node", Unit: "tiles.service", UID: 33}), "", "tiles", "draws maps")
		s.Listeners = append(s.Listeners, l)
		s.Processes[l.Key] = []inventory.Process{{Holder: l.Holders[0], PID: 900 + port%3}}
	}
	s.Listeners = append(s.Listeners, own, team)
	for n, l := range []inventory.Listener{ssh, ssh6, web, rogue, redis, team, own} {
		pid := 700 + 111*n
		if l.Holders[0] == sshd {
			pid = 812
		}
		s.Processes[l.Key] = []inventory.Process{{Holder: l.Holders[0], PID: pid}}
	}
	return s
}

// many returns a snapshot of n listeners. Each hundredth is a violation.
func many(n int) *inventory.Snapshot {
	s := &inventory.Snapshot{Source: "netlink", Reads: reads(), Compliance: &inventory.Compliance{Reloaded: true, ReloadedAt: sampleTime}}
	for i := range n {
		holder := inventory.Holder{Process: fmt.Sprintf("worker-%d", i), Unit: fmt.Sprintf("worker@%d.service", i)}
		l := listening(inventory.TCP, fmt.Sprintf("10.%d.0.1:%d", i%250, 1024+i), inventory.ScopePrivate, holder)
		l.AcceptQueueLength = uint64(i % 50)
		if i%100 == 0 {
			l = judged(l, inventory.ReasonUnregistered, "", "")
		} else {
			l = judged(l, "", fmt.Sprintf("worker-%d", i%100), "works on what the queue holds")
		}
		s.Listeners = append(s.Listeners, l)
	}
	return s
}

// pageOf returns a handler that serves a page of a snapshot.
func pageOf(t testing.TB, s *inventory.Snapshot, o Options) http.Handler {
	t.Helper()
	p := New(o)
	p.now = func() time.Time { return sampleTime }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.SetHeader(w.Header())
		if err := p.Render(w, s, ParseQuery(r.URL.Query())); err != nil {
			t.Error(err)
		}
	})
}

// trouble returns a snapshot with failed reads and omissions.
func trouble() *inventory.Snapshot {
	s := sample()
	s.Reads = reads(inventory.UDP, inventory.CollectorHolder)
	s.Reads = append(s.Reads, inventory.Read{Collector: inventory.CollectorNetns}, inventory.Read{Collector: inventory.CollectorRegistry})
	s.Listeners = slices.DeleteFunc(s.Listeners, func(l inventory.Listener) bool { return l.Proto == inventory.UDP })
	for i := range s.Listeners {
		s.Listeners[i].Holders, s.Listeners[i].Exact = nil, false
	}
	pod := listening(inventory.TCP, "[::]:5432", inventory.ScopeAny) // which is not the missing postgres of the main namespace
	pod.Netns = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	s.Listeners = append(s.Listeners, pod)
	s.Omitted, s.Namespaces, s.NamespacesOmitted = 1200, 90, 26
	s.Compliance.Reloaded = false
	return s
}

// calm returns a snapshot of a host without problems.
func calm() *inventory.Snapshot {
	s := sample()
	s.Listeners = slices.DeleteFunc(s.Listeners, func(l inventory.Listener) bool { return l.Verdict.Reason != "" })
	for i := range s.Listeners {
		s.Listeners[i].AcceptQueueLength, s.Listeners[i].ReceiveQueueBytes, s.Listeners[i].Starts = 0, 0, nil
	}
	s.Compliance.Services = s.Compliance.Services[:1]
	return s
}

// leasing returns a snapshot of a host that leases ports.
func leasing() *inventory.Snapshot {
	s := calm()
	s.Leases = &inventory.LeaseView{Booted: sampleTime.Add(-time.Hour)}
	s.Leases.Time, s.Leases.Teams = time.Hour, []inventory.LeaseTeam{{Name: "ci", Leased: 6, Available: 993}, {Name: "load-tests", Available: 100}}
	s.Leases.Leases = []inventory.Lease{
		{Team: "ci", Name: "build-4711", Proto: inventory.TCP, Ports: []uint16{20001, 20000, 20002, 20007}, User: "gitlab-runner", Host: sampleOptions.Host, Deadline: time.Hour + 4*time.Minute},
		{Team: "ci", Name: "udp-echo", Proto: inventory.UDP, Ports: []uint16{20003}, User: "eve", Host: "ci-2.example.com"},
		{
			Team: "ci", Name: "preview-of-a-branch-with-a-very-long-name.shop.example.com", Proto: inventory.TCP, Ports: []uint16{20004}, User: "alice", Host: sampleOptions.Host,
			Deadline: time.Hour - 7*time.Minute, Overstayed: time.Hour - time.Minute,
		},
		{Team: "ci", Name: "smoke", Proto: inventory.TCP, Ports: []uint16{20005}, User: "bob", Host: sampleOptions.Host, Deadline: time.Hour - 2*time.Second},
	}
	build := judged(listening(inventory.TCP, "127.0.0.1:20000", inventory.ScopeLoopback, inventory.Holder{Process: "node", UID: 1000}), "", "build-4711", "")
	build.Verdict.Owner, build.Lease = "ci", &s.Leases.Leases[0]
	preview := judged(listening(inventory.TCP, "0.0.0.0:20004", inventory.ScopeAny, inventory.Holder{Process: "node", UID: 1001}), inventory.ReasonReserved, "ci", "")
	preview.Verdict.Declared, preview.Lease = "leased as "+s.Leases.Leases[2].Name+" by alice, whose lease has expired", &s.Leases.Leases[2]
	s.Listeners = append(s.Listeners, build, preview)
	return s
}
