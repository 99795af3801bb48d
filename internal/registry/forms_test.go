//go:build linux

package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// verdictOf returns a verdict in short: "service", "reason service", or "reason".
func verdictOf(v Verdict) string {
	text := strings.TrimSpace(v.Reason + " " + v.Service)
	if v.Undecided {
		text = "undecided"
	}
	if v.HolderUnchecked {
		text += "?"
	}
	return text
}

func TestServicesThatShareAPortAreToldApart(t *testing.T) {
	by := func(names string) []Holder {
		var holders []Holder
		for name := range strings.FieldsSeq(names) {
			holders = append(holders, Holder{Process: name, Unit: name + ".service"})
		}
		return holders
	}
	r := parse(t, "services:",
		"  - {name: nginx, port: 80, process: nginx, required: false}",
		"  - {name: apache, port: 80, unit: [apache2.service, httpd.service], required: false}",
		"  - {name: osd, port: 6800-7300, process: ceph-osd}",
		"  - {name: mds, port: 6800-7300, process: 'ceph-m?s'}",
		"  - {name: mgr, port: 6800-7300, unit: 'ceph-mgr*.service'}",
		"  - {name: avahi, port: 5353, proto: udp, process: avahi-daemon}",
		"  - {name: browser, port: 5353, proto: udp, process: [chrome, firefox], required: false}",
		"  - {name: stub, port: 53, bind: loopback, process: resolved}",
		"  - {name: dns, port: 53, bind: 10.0.0.1, process: resolved}",
	)
	for _, test := range []struct {
		at      string
		sockets []string // the holders of each, by name; "" if they are not known
		want    string
	}{
		{"tcp 0.0.0.0:80", []string{"nginx"}, "nginx"},
		{"tcp 0.0.0.0:80", []string{"apache2"}, "apache"},
		{"tcp 0.0.0.0:80", []string{"nc"}, "process nginx"},
		{"tcp 0.0.0.0:80", []string{""}, "nginx?"},
		{"tcp 0.0.0.0:6800", []string{"ceph-osd"}, "osd"},
		{"tcp 0.0.0.0:7000", []string{"ceph-mds"}, "mds"},
		{"tcp 0.0.0.0:7300", []string{"ceph-mgr"}, "mgr"},
		{"tcp 0.0.0.0:6900", []string{"nc"}, "unregistered"},
		{"tcp 0.0.0.0:6900", []string{""}, "unregistered?"},
		{"udp 0.0.0.0:5353", []string{"avahi-daemon", "chrome", "firefox"}, "avahi"},
		{"udp 0.0.0.0:5353", []string{"chrome"}, "browser"},
		{"udp 0.0.0.0:5353", []string{"chrome", ""}, "browser?"},
		{"udp 0.0.0.0:5353", []string{"avahi-daemon", "nc"}, "process avahi"},
		{"tcp 127.0.0.53:53", []string{"resolved"}, "stub"},
		{"tcp 10.0.0.1:53", []string{"resolved"}, "dns"},
		{"tcp 10.0.0.2:53", []string{"resolved"}, "bind stub"},
	} {
		proto, at, _ := strings.Cut(test.at, " ")
		l := on(proto, at)
		for _, names := range test.sockets {
			l.Sockets = append(l.Sockets, by(names))
		}
		if got := verdictOf(r.For("").Judge(l)); got != test.want {
			t.Errorf("%s held by %q: got %q, want %q", test.at, test.sockets, got, test.want)
		}
	}
	held := heldBy(on("udp", "0.0.0.0:5353"), Holder{Process: "nc"})
	if got, want := r.For("").Judge(held).Declared, "process avahi-daemon, or process chrome or firefox"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	up := make(map[string]bool)
	for _, state := range r.For("").Up([]Listener{sockets(on("udp", "0.0.0.0:5353"), "chrome")}, false) {
		up[state.Name] = state.Up
	}
	if up["avahi"] {
		t.Error("avahi is up, though only the browser listens")
	}
}

// The unit that created a socket is known to anyone. The process is not.
func TestWhatIsKnownByItsHolderNeedsAKnownHolder(t *testing.T) {
	statd := Holder{Process: "rpc.statd", Unit: "rpc-statd.service"}
	nc := Holder{Process: "nc", Unit: "evil.service"}
	byUnit := func(l Listener, units ...string) Listener { l.Sockets, l.Creators = [][]Holder{nil}, units; return l }
	tcp, udp := on("tcp", "0.0.0.0:40000"), on("udp", "0.0.0.0:40000")
	client, unread := heldBy(udp, nc), tcp
	client.Client, unread.HoldersUnread = true, true
	for _, test := range []struct {
		declared string
		l        Listener
		want     string
	}{
		{"port: any, process: rpc.statd", heldBy(tcp, statd), "s"},
		{"port: any, process: rpc.statd", heldBy(tcp, nc), "unregistered"},
		{"port: any, process: rpc.statd", tcp, "unregistered?"},
		{"port: any, process: rpc.statd", byUnit(tcp, "rpc-statd.service"), "unregistered?"},
		{"port: any, unit: rpc-statd.service", byUnit(tcp, "rpc-statd.service"), "s?"},
		{"port: any, unit: rpc-statd.service", byUnit(tcp, "evil.service"), "unregistered"},
		{"port: any, unit: rpc-statd.service", heldBy(tcp, Holder{Process: "rpc.statd"}), "unregistered"},
		{"port: any, process: rpc.statd, unit: rpc-statd.service", heldBy(tcp, Holder{Process: "rpc.statd", Unit: "x.service"}), "unregistered"},
		{"port: any, process: rpc.statd, unit: rpc-statd.service", byUnit(tcp, "rpc-statd.service"), "s?"},
		{"port: any, process: rpc.statd", heldBy(udp, statd), "unregistered"}, // tcp is the default
		{"port: any, proto: [tcp, udp], process: rpc.statd", heldBy(udp, statd), "s"},
		{"port: any, process: rpc.statd, bind: loopback", heldBy(tcp, statd), "bind s"},
		{"port: any, process: rpc.statd, bind: loopback", heldBy(tcp, nc), "unregistered"},
		{"port: any, process: rpc.statd", unread, "undecided"},
		{"port: 1-65535, process: rpc.statd", tcp, "unregistered?"},
		{"port: 1-65535, process: rpc.statd", heldBy(tcp, statd), "s"},
		{"port: 1-65535, process: rpc.statd", heldBy(tcp, nc), "unregistered"},
		{"port: 1-65535, process: rpc.statd", sockets(tcp, "rpc.statd", "nc"), "process s"},
		{"port: 1-65535, process: rpc.statd, bind: loopback", heldBy(tcp, nc), "unregistered"},
		{"port: 1-65535, proto: udp, process: rpc.statd", client, "unregistered"},
		{"port: 1-65535", tcp, "s"},
		{"port: [39999, 40000], process: rpc.statd", tcp, "s?"}, // ports that the service has to itself
	} {
		table := parse(t, "services:", "  - {name: s, "+test.declared+"}").For("")
		if got := verdictOf(table.Judge(test.l)); got != test.want {
			t.Errorf("%s, %+v: got %q, want %q", test.declared, test.l, got, test.want)
		}
	}
	table := parse(t, "services:", "  - {name: ssh, port: 22, process: sshd}", "  - {name: forwards, port: any, process: sshd, bind: loopback}",
		"reserved:", "  - {team: alpha, ports: 40000}").For("")
	if got := verdictOf(table.Judge(heldBy(on("tcp", "127.0.0.1:22"), Holder{Process: "sshd"}))); got != "ssh" {
		t.Errorf("a port of its own, and any: got %q, want ssh", got)
	}
	if got := table.Judge(tcp); got.Reason != ReasonReserved || got.Declared != "" {
		t.Errorf("got %+v", got)
	}
	if got, want := table.Judge(on("tcp", "127.0.0.1:40000")).Declared, "forwards does if it is the holder, which is not known"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if table.Expects("tcp", 40000) || !table.Expects("tcp", 22) {
		t.Error("a port is expected only if that does not depend on the holder")
	}
}

func TestForbiddenComesFirst(t *testing.T) {
	r := parse(t,
		"services:",
		"  - {name: telnet, port: 23}",
		"  - {name: dns, port: any, proto: udp, process: named}",
		"forbidden:",
		"  - {port: 23, reason: telnet is not used here, hosts: ['*', '!lab-*']}",
		"  - {port: [5353, 40000-40010], proto: udp, reason: no mDNS}",
		"  - {port: 6379, reason: redis has no password, bind: loopback}",
		"  - {port: 111, reason: no rpcbind, bind: '%eth1'}",
	)
	client := on("udp", "0.0.0.0:40001")
	client.Client = true
	own := on("tcp", "0.0.0.0:23")
	own.Own = true
	eth1 := on("tcp", "0.0.0.0:111")
	eth1.Device, eth1.Detailed = "eth1", true
	for _, test := range []struct {
		host string
		l    Listener
		want string
	}{
		{"web-1", on("tcp", "0.0.0.0:23"), "forbidden"},
		{"web-1", on("udp", "127.0.0.1:23"), "forbidden"},
		{"web-1", own, "forbidden"},
		{"lab-1", on("tcp", "0.0.0.0:23"), "telnet"},
		{"web-1", client, "forbidden"},
		{"web-1", heldBy(client, Holder{Process: "named"}), "forbidden"},
		{"web-1", on("tcp", "0.0.0.0:5353"), "unregistered"},
		{"web-1", on("tcp", "0.0.0.0:6379"), "forbidden"},
		{"web-1", on("tcp", "127.0.0.1:6379"), "unregistered"},
		{"web-1", eth1, "unregistered"},
	} {
		if got := verdictOf(r.For(test.host).Judge(test.l)); got != test.want {
			t.Errorf("%s, %v: got %q, want %q", test.host, test.l.Addr, got, test.want)
		}
	}
	if got := r.For("").Judge(own); got.Declared != "telnet is not used here" {
		t.Errorf("got %+v, want the reason", got)
	}
	// Whether it is bound to eth1 is not known.
	if got := r.For("").Judge(on("tcp", "0.0.0.0:111")); got.Reason != ReasonUnregistered || !got.DeviceUnchecked {
		t.Errorf("got %+v, want the benefit of the doubt", got)
	}
	if !r.For("").Expects("udp", 40001) {
		t.Error("a forbidden port must be reported at once, even if it looks like a client")
	}
}

func TestOnePortOrOneHostMustListen(t *testing.T) {
	table := parse(t, "services:",
		"  - {name: app, port: [8080, 8081], required: one-port, owner: team app}",
		"  - {name: dns, port: [53, 5300-5310], proto: [tcp, udp], required: one-port}",
		"  - {name: vip, port: 443, bind: 10.0.0.100, required: one-host, hosts: ['lb-*']}",
	).For("lb-1")
	state := func(listeners ...Listener) string {
		var all []string
		for _, s := range table.Up(listeners, false) {
			all = append(all, fmt.Sprintf("%s %s %s %s %t", s.Name, s.Proto, s.Ports, s.Required(), s.Up))
		}
		return strings.Join(all, "\n")
	}
	for _, test := range []struct {
		listeners        []Listener
		app, dnsUDP, vip bool
	}{
		{nil, false, false, false},
		{[]Listener{on("tcp", "0.0.0.0:8081")}, true, false, false},
		{[]Listener{on("tcp", "0.0.0.0:8080"), on("udp", "0.0.0.0:5305"), on("tcp", "10.0.0.100:443")}, true, true, true},
		{[]Listener{on("tcp", "10.0.0.1:443"), on("udp", "0.0.0.0:8080")}, false, false, false},
	} {
		want := fmt.Sprintf("app tcp 8080,8081 one-port %t\ndns tcp 53,5300-5310 one-port false\ndns udp 53,5300-5310 one-port %t\nvip tcp 443 one-host %t",
			test.app, test.dnsUDP, test.vip)
		if diff := cmp.Diff(want, state(test.listeners...)); diff != "" {
			t.Errorf("%v (-want +got)\n%s", test.listeners, diff)
		}
	}
	want := []ServiceInfo{{Name: "app", Owner: "team app"}, {Name: "dns"}, {Name: "vip", OneHost: true}}
	if diff := cmp.Diff(want, table.Services()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// While its holder is not known, a range that is told apart by it is neither up nor down, unless the socket is another unit's.
func TestARangeIsUndecidedWhileItsHolderIsNotKnown(t *testing.T) {
	table := parse(t, "services:", "  - {name: app, port: 8080-8081, process: java, unit: app.service, required: one-port}").For("")
	unknown, other := on("tcp", "0.0.0.0:8080"), on("tcp", "0.0.0.0:8081")
	other.Sockets, other.Creators = [][]Holder{nil}, []string{"evil.service"}
	held := heldBy(on("tcp", "0.0.0.0:8081"), Holder{Process: "java", Unit: "app.service"})
	for _, test := range []struct {
		listeners     []Listener
		up, undecided bool
	}{
		{[]Listener{unknown}, false, true},
		{[]Listener{other}, false, false},
		{[]Listener{unknown, held}, true, false},
		{[]Listener{held, unknown}, true, false},
	} {
		if got := table.Up(test.listeners, false)[0]; got.Up != test.up || got.Undecided != test.undecided {
			t.Errorf("%+v: got %+v", test.listeners, got)
		}
	}
}

func TestTheUnitThatCreatedASocketTellsServicesApart(t *testing.T) {
	table := parse(t, "services:", "  - {name: nginx, port: 80, unit: nginx.service}", "  - {name: apache, port: 80, unit: apache2.service}").For("")
	for _, test := range []struct {
		creator, service  string
		nginxUp, apacheUp bool
	}{
		{"apache2.service", "apache", false, true},
		{"nginx.service", "nginx", true, false},
		{"other.service", "nginx", true, true}, // only exact holders violate
	} {
		l := on("tcp", "0.0.0.0:80")
		l.Sockets, l.Creators = [][]Holder{nil}, []string{test.creator}
		got, up := table.Judge(l), table.Up([]Listener{l}, false)
		if got.Service != test.service || got.Reason != "" || up[0].Up != test.nginxUp || up[1].Up != test.apacheUp {
			t.Errorf("%s: got %+v, up: %t, %t", test.creator, got, up[0].Up, up[1].Up)
		}
	}
}

func TestARangeMayHaveHoles(t *testing.T) {
	r := parse(t, "services:",
		"  - {name: ftp, port: [8000-8010, '!8005', '!8007-8008', 9000]}",
		"  - {name: other, port: 8005}",
		"reserved:",
		"  - {team: alpha, ports: [30000-30010, '!30005']}",
	)
	for at, want := range map[string]string{
		"0.0.0.0:8000": "ftp", "0.0.0.0:8004": "ftp", "0.0.0.0:8005": "other", "0.0.0.0:8006": "ftp", "0.0.0.0:8007": "unregistered", "0.0.0.0:8010": "ftp",
		"0.0.0.0:9000": "ftp", "0.0.0.0:30004": "reserved alpha", "0.0.0.0:30005": "unregistered",
	} {
		if got := verdictOf(r.For("").Judge(on("tcp", at))); got != want {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
	}
}

func TestANameMayBeUsedAgainOnOtherHosts(t *testing.T) {
	r := parse(t,
		"services:",
		"  - {name: ssh, port: 22, bind: any, hosts: ['bastion-*']}",
		"  - {name: ssh, port: 22, bind: private, hosts: ['!bastion-*']}",
		"  - {name: web, port: 80, hosts: ['web-[!0-9]*', '!web-test-*']}",
		"  - {name: web, port: 80, bind: loopback, hosts: [web-test-1, 'web-0*']}",
	)
	for host, want := range map[string][2]string{
		"bastion-1": {"ssh", "unregistered"}, "db-1": {"bind ssh", "unregistered"}, "web-a": {"bind ssh", "web"}, "WEB-a": {"bind ssh", "web"},
		"web-1": {"bind ssh", "unregistered"}, "web-test-1": {"bind ssh", "bind web"}, "web-test-2": {"bind ssh", "unregistered"}, "web-00": {"bind ssh", "bind web"},
	} {
		table := r.For(host)
		got := [2]string{verdictOf(table.Judge(on("tcp", "0.0.0.0:22"))), verdictOf(table.Judge(on("tcp", "0.0.0.0:80")))}
		if got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}

func TestReservedRangesMayBeForSomeHosts(t *testing.T) {
	r := parse(t,
		"reserved:",
		"  - {team: ci, ports: 40000-40099, hosts: ['ci-*'], users: [gitlab-runner]}",
		"  - {team: web, ports: 40000-40009, hosts: ['web-*']}",
	)
	for host, want := range map[string]string{"ci-1": "reserved ci", "web-1": "reserved web", "db-1": "unregistered"} {
		if got := verdictOf(r.For(host).Judge(on("tcp", "0.0.0.0:40001"))); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
	if diff := cmp.Diff([]TeamUse{{"web", 10, 1}}, r.For("web-1").Reserved([]Listener{on("tcp", "0.0.0.0:40001"), on("tcp", "0.0.0.0:40050")})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// A manifest says nothing of hosts.
	if got, ok := r.RangeOf(40001); ok {
		t.Errorf("got %v", got)
	}
}

func TestServicesForOtherHostsAreNamed(t *testing.T) {
	r := parse(t, "services:", "  - {name: a, port: 1, hosts: [web-1]}", "  - {name: b, port: 2, hosts: ['web-1.example.*']}", "  - {name: c, port: 3, hosts: [db]}",
		"  - {name: d, port: 4}", "  - {name: e, port: 5, hosts: ['*.example.org']}")
	for host, want := range map[string]string{"web-1": "b, c, e | b", "web-1.example.org": "a, c | a", "db": "a, b, e | ", "x.example.com": "a, b, c, e | "} {
		table := r.For(host)
		if got := table.Elsewhere() + " | " + table.Misnamed(); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
	r = parse(t, "services:", "  - {name: a, port: 1, hosts: ['*', '!web-1']}", "  - {name: b, port: 2, hosts: ['web-*', '!web-2*']}",
		"forbidden:", "  - {port: 23, reason: no, hosts: [web-1, '!*.lab']}", "reserved:", "  - {team: x, ports: 9, hosts: [web-1]}")
	for host, want := range map[string]string{
		"web-1": "", "web-1.example.org": "a, forbidden port 23, what is reserved for x", "web-1.lab": "a, what is reserved for x", "web-2.example.org": "",
	} {
		if got := r.For(host).Misnamed(); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}
