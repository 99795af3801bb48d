//go:build linux

package registry

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestARequiredServiceHasARowForEachPortAndProtocol(t *testing.T) {
	r := parse(t,
		"services:",
		"  - {name: ssh, purpose: log in, port: 22}",
		"  - {name: dns, port: 53, proto: [udp, tcp]}",
		"  - {name: web, port: [443, 80]}",
		"  - {name: passive, port: 8000-8010}",
		"  - {name: mixed, port: [21, 8100-8110]}",
		"  - {name: cluster, port: [7001, 7000, 7005-7006], required: true}",
		"  - {name: debug, port: 6060, required: false}",
		"  - {name: db, port: 5432, hosts: [db-*]}",
	)
	want := []string{
		"ssh tcp 22",
		"dns tcp 53",
		"dns udp 53",
		"web tcp 80",
		"web tcp 443",
		"cluster tcp 7000",
		"cluster tcp 7001",
		"cluster tcp 7005",
		"cluster tcp 7006",
	}
	if diff := cmp.Diff(want, required(r, "web-1")); diff != "" {
		t.Errorf("web-1 (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(append(want, "db tcp 5432"), required(r, "DB-1")); diff != "" {
		t.Errorf("DB-1 (-want +got)\n%s", diff)
	}
	if got, want := r.ServiceCount(), 8; got != want {
		t.Errorf("got %d services, want %d", got, want)
	}
	table := r.For("web-1")
	if !table.Expects("udp", 53) || !table.Expects("tcp", 8005) || table.Expects("udp", 22) || table.Expects("sctp", 22) || table.Expects("tcp", 5432) {
		t.Error("Expects differs from the file")
	}
}

// required returns the ports that must listen on a host.
func required(r *Registry, host string) (rows []string) {
	for _, state := range r.For(host).Up(nil, false) {
		rows = append(rows, state.Name+" "+state.Proto+" "+state.Ports)
	}
	return rows
}

func TestAServiceIsUpWhenOneListenerIsAsDeclared(t *testing.T) {
	dual := on("tcp", "[::]:22")
	detailed := func(only bool) Listener {
		l := dual
		l.Detailed, l.IPv6Only = true, only
		return l
	}
	nc := heldBy(on("tcp", "0.0.0.0:22"), Holder{Process: "nc"})
	own := nc
	own.Own = true
	for _, test := range []struct {
		name, declared string
		bindV6Only     bool
		listeners      []Listener
		up, assumed    bool
	}{
		{"nothing listens", "", false, nil, false, false},
		{"on another port", "", false, []Listener{on("tcp", "0.0.0.0:23")}, false, false},
		{"narrower than declared", "", false, []Listener{on("tcp", "127.0.0.1:22")}, true, false},
		{"wider than declared", "bind: 10.0.0.1", false, []Listener{on("tcp", "0.0.0.0:22")}, false, false},
		{"elsewhere than declared", "bind: 10.0.0.1", false, []Listener{on("tcp", "10.0.0.2:22")}, false, false},
		{"held by another", "process: sshd", false, []Listener{nc}, false, false},
		{"held by another, and as declared", "process: sshd", false, []Listener{nc, heldBy(on("tcp", "[::]:22"), Holder{Process: "sshd"})}, true, false},
		{"the exporter's own", "process: sshd", false, []Listener{own}, false, false},

		{"any, only IPv6", "", false, []Listener{detailed(true)}, true, false},
		{"IPv4, IPv4 too", "bind: 0.0.0.0", true, []Listener{detailed(false)}, true, false},
		{"IPv4, only IPv6", "bind: 0.0.0.0", false, []Listener{detailed(true)}, false, false},
		{"IPv4, most likely too", "bind: 0.0.0.0", false, []Listener{dual}, true, true},
		{"IPv4, most likely not", "bind: 0.0.0.0", true, []Listener{dual}, false, true},
		{"IPv4, most likely not, but another does", "bind: 0.0.0.0", true, []Listener{dual, on("tcp", "0.0.0.0:22")}, true, false},
		{"IPv4, most likely too, and another does", "bind: 0.0.0.0", false, []Listener{on("tcp", "0.0.0.0:22"), dual}, true, false},
		{"one address, IPv4 too", "bind: 10.0.0.1", false, []Listener{detailed(false)}, false, false},
		{"IPv4, IPv4 too, held by another", "bind: 0.0.0.0, process: sshd", false, []Listener{heldBy(detailed(false), Holder{Process: "nc"})}, false, false},
	} {
		table := parse(t, "services:", "  - {name: ssh, port: 22, "+test.declared+"}").For("")
		want := []ServiceState{{Service: &Service{Name: "ssh", Proto: "tcp", Port: 22, Ports: "22"}, Up: test.up, Assumed: test.assumed}}
		if diff := cmp.Diff(want, table.Up(test.listeners, test.bindV6Only)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
	}
}

func TestEachRowIsUpOnItsOwn(t *testing.T) {
	table := parse(t, "services:",
		"  - {name: dns, port: 53, proto: [tcp, udp], bind: 127.0.0.53}",
		"  - {name: stub, port: 53, proto: udp, bind: 127.0.0.54}",
		"  - {name: cluster, port: 7000-7002, required: true}",
	).For("")
	var up []string
	for _, state := range table.Up([]Listener{on("udp", "127.0.0.53:53"), on("tcp", "[::]:7001"), on("tcp", "[::]:7001"), on("udp", "[::]:7002"), on("sctp", "[::]:7000")}, false) {
		up = append(up, fmt.Sprintf("%s %s %d %t", state.Name, state.Proto, state.Port, state.Up))
	}
	want := []string{
		"dns tcp 53 false", "dns udp 53 true", "stub udp 53 false", "cluster tcp 7000 false", "cluster tcp 7001 true", "cluster tcp 7002 false",
	}
	if diff := cmp.Diff(want, up); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestPortsAreReservedForTeamsAndNamespaces(t *testing.T) {
	r := parse(t,
		"reserved:",
		"  - team: beta",
		"    ports: 31000-31009",
		"    namespaces: [team-beta, shared]",
		"  - team: alpha",
		"    ports: [30005, 30010-30019, 22]",
		"    namespaces: sha*",
		"  - team: beta",
		"    ports: 31005-31014",
		"    users: [gitlab-runner]",
	)
	var got []string
	for _, of := range r.Ranges() {
		text := fmt.Sprintf("%s %s %s:%d", of.Team, of.Range, of.File, of.Line)
		for _, namespace := range []string{"team-beta", "shared", "Shared", "share", "other"} {
			if of.AllowsNamespace(namespace) {
				text += " " + namespace
			}
		}
		got = append(got, text)
	}
	want := []string{
		"alpha 22 ports.yml:6 shared share",
		"alpha 30005 ports.yml:6 shared share",
		"alpha 30010-30019 ports.yml:6 shared share",
		"beta 31000-31009 ports.yml:3 team-beta shared",
		"beta 31005-31014 ports.yml:9",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("all (-want +got)\n%s", diff)
	}
	if got, ok := r.RangeOf(30019); !ok || got.Team != "alpha" || got.First != 30010 {
		t.Errorf("range of port 30019: got %v, %t", got, ok)
	}
	if got, ok := r.RangeOf(30020); ok {
		t.Errorf("range of port 30020: got %v", got)
	}
	uses := r.For("").Reserved([]Listener{
		on("tcp", "0.0.0.0:30010"), on("tcp", "[::]:30010"), on("udp", "0.0.0.0:30010"), on("udp", "0.0.0.0:22"), on("tcp", "0.0.0.0:31007"), on("tcp", "0.0.0.0:80"),
	})
	if diff := cmp.Diff([]TeamUse{{"beta", 15, 1}, {"alpha", 12, 2}}, uses); diff != "" {
		t.Errorf("use (-want +got)\n%s", diff)
	}
	if got := parse(t, "services:", "  - {name: a, port: 1}").For("").Reserved(nil); got != nil {
		t.Errorf("without reserved: got %v", got)
	}
}

func TestManyServicesMayHaveAPortEachWithinARange(t *testing.T) {
	lines := []string{"services:", `  - {name: first, port: 1-3, bind: 127.0.0.1}`}
	for port := 1; port <= 5000; port++ {
		lines = append(lines, fmt.Sprintf("  - {name: s%d, port: %[1]d, bind: 10.0.0.1}", port))
	}
	lines = append(lines, `  - {name: rest, port: 1-65535, proto: [tcp, udp], bind: "::"}`)
	table := parse(t, lines...).For("")
	for at, want := range map[string]string{
		"10.0.0.1:2": "s2", "10.0.0.1:5000": "s5000", "127.0.0.1:2": "first", "[fd00::1]:2": "rest", "[fd00::1]:5000": "rest", "[fd00::1]:65535": "rest",
		// Those that no service permits are violations of the first that declares the port.
		"10.0.0.2:3": "first", "10.0.0.2:4": "s4", "10.0.0.2:5001": "rest",
	} {
		if got := table.Judge(on("tcp", at)).Service; got != want {
			t.Errorf("%s: got %q, want %s", at, got, want)
		}
	}
}
