//go:build linux

package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

func TestATableKnowsWhatMayBeLeased(t *testing.T) {
	table := parse(
		t,
		"services:",
		"  - {name: web, port: 40001}",
		"  - {name: pool, port: 40010-40019, process: poold}",
		"  - {name: dns, port: 40020, proto: udp, hosts: [web-*]}",
		"  - {name: mail, port: 40030, hosts: ['mail-*']}",
		"  - {name: rpc, port: any, process: rpc.statd}",
		"forbidden:",
		"  - {port: 40040, reason: nobody needs it, bind: loopback}",
		"  - {port: 40050, reason: nobody needs it, hosts: ['mail-*']}",
		"reserved:",
		"  - {team: ci, ports: [40000-40099, 30000], users: [gitlab-runner, 1001], any_user: true}",
		"  - {team: ci, ports: 40100-40199}",
		"  - {team: tests, ports: 41000-41009, users: ['*'], hosts: [web-1]}",
		"  - {team: mail, ports: 42000-42009, users: ['*'], hosts: ['mail-*']}",
	).For("web-1")
	runners := []string{"gitlab-runner", "1001"}
	want := []Leasable{
		{ports.Range{First: 30000, Last: 30000}, "ci", runners, true},
		{ports.Range{First: 40000, Last: 40099}, "ci", runners, true},
		{ports.Range{First: 41000, Last: 41009}, "tests", []string{"*"}, false},
	}
	if diff := cmp.Diff(want, table.Leasable()); diff != "" {
		t.Errorf("leasable (-want +got):\n%s", diff)
	}
	for port, want := range map[uint16]string{
		40000: "",
		40001: `service "web" declares it`,
		40015: `service "pool" declares it`, // whoever holds it
		40020: `service "dns" declares it`,
		40030: "",
		40040: "it is forbidden: nobody needs it",
		40050: "",
	} {
		if got := table.Refusal(port); got != want {
			t.Errorf("%d: %q, want %q", port, got, want)
		}
	}
	for name, want := range map[string]bool{"web": true, "mail": true, "rpc": true, "listen_exporter": true, "ci": false} {
		if got := table.HasService(name); got != want {
			t.Errorf("a service %s: %t, want %t", name, got, want)
		}
	}
}
