//go:build linux

package command

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestAuditShowsEveryViolationAndEveryMissingService(t *testing.T) {
	procfs := program.NewProcfs(t)
	for _, test := range []struct {
		name, registry string
		code           int
		want           string
	}{
		{"violations and missing services", commandRegistry, 1, `tcp 0.0.0.0:22: bind: ssh (administration) listens on a wider or another address than declared (loopback)
tcp 25: missing: mail (the "queue") does not listen as declared
udp [fe80::1]:546: unregistered: no service declares the port
tcp 127.0.0.1:8080: reserved: the port is reserved for alpha
2 listeners as declared, 3 violations, 1 missing service
`},
		{"only a missing service", `services: [{name: all, port: [22, 443, 8080]}, {name: udp, port: [53, 546], proto: udp}, {name: more, port: 40000, proto: [tcp, udp], bind: private}]`, 1, `tcp 40000: missing: more does not listen as declared
6 listeners as declared, 0 violations, 1 missing service
`},
		{"all as declared, and a client", `services: [{name: all, port: "22-8080", proto: [tcp, udp], required: false}]`, 0, `5 listeners as declared, 0 violations, 0 missing services
`},
		{"of another host", `services: [{name: all, port: "22-8080", proto: [tcp, udp]}, {name: x, port: 9, hosts: ["db-*"]}]`, 0, `5 listeners as declared, 0 violations, 0 missing services
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := program.Run(t, "audit", "--path.procfs="+procfs, "--registry.host=web-1", "--registry.file="+program.WriteFile(t, "ports.yml", test.registry))
			if diff := cmp.Diff(test.want, stdout); diff != "" || code != test.code {
				t.Errorf("exit code %d, want %d: %s; audit (-want +got):\n%s", code, test.code, stderr, diff)
			}
		})
	}
}

// What is left out must not pass an audit, nor be missing in a registry.
func TestWhatCoversEveryListenerTakesNoFilter(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", `services: [{name: tcp, port: [22, 443, 8080]}]`)
	procfs := program.NewProcfs(t)
	for filter, named := range map[string]string{
		"--collector.port-include=22":                   "--collector.port-include",
		"--collector.port-exclude=53":                   "--collector.port-exclude",
		"--collector.scope-exclude=loopback":            "--collector.scope-exclude",
		"--no-collector.tcp":                            "--no-collector.tcp",
		"--no-collector.udp":                            "--no-collector.udp",
		"--collector.tcp":                               "", // leaves nothing out
		"--collector.port-include=1 --no-collector.tcp": "--collector.port-include and --no-collector.tcp",
	} {
		args := append(strings.Fields(filter), "--path.procfs="+procfs)
		for why, command := range map[string][]string{
			"audit covers every listener":            {"audit", "--registry.file=" + file},
			"a registry must declare every listener": {"list", "--format=registry"},
		} {
			code, stdout, stderr := program.Run(t, append(command, args...)...)
			want := "listen_exporter: error: " + why + ": leave out " + named + "\n"
			if refused := code == ExitTrouble && stdout == "" && stderr == want; refused != (named != "") {
				t.Errorf("%s with %s: exit code %d; on stdout %q; on stderr %q", command[0], filter, code, stdout, stderr)
			}
		}
		for _, command := range [][]string{{"list"}, {"check", file}} {
			if code, _, stderr := program.Run(t, append(command, args...)...); code != ExitOK {
				t.Errorf("%s with %s: exit code %d, want 0: %s", command[0], filter, code, stderr)
			}
		}
	}
}

func TestAuditWithTooFewMaxPortsIsNoPass(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", `services: [{name: all, port: "22-50000", proto: [tcp, udp]}]`)
	code, _, stderr := program.Run(t, "audit", "--collector.max-ports=2", "--path.procfs="+program.NewProcfs(t), "--registry.file="+file)
	if want := "4 listeners not judged: there are more than --collector.max-ports"; code != 2 || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, want 2, and %q on stderr: %s", code, want, stderr)
	}
}

func TestAuditWarnsIfTheRegistryIsForOtherHosts(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", `services: [{name: ssh, port: 22, hosts: ["db-*"]}]`)
	code, _, stderr := program.Run(t, "audit", "--path.procfs="+program.NewProcfs(t), "--registry.host=web-1", "--registry.file="+file)
	const warning = "listen_exporter: warning: no service of the registry is for this host"
	if code != ExitFound || strings.Count(stderr, warning) != 1 || !strings.Contains(stderr, "host=web-1") {
		t.Errorf("exit code %d, want 1, and one warning that names the host:\n%s", code, stderr)
	}
}

// The procfs of a fixture is that of another namespace, whose sysctls cannot be read: <procfs>/sys/net shows the reader's own.
func TestAuditSaysWhatItAssumesOfAnotherNamespace(t *testing.T) {
	procfs := program.NewProcfs(t)
	file := program.WriteFile(t, "ports.yml", `services: [{name: web, port: 443, bind: 0.0.0.0}, {name: web6, port: 443, bind: "::"}]`)
	if err := os.MkdirAll(filepath.Join(procfs, "sys/net/ipv6"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, bindV6Only := range []string{"0", "1"} {
		if err := os.WriteFile(filepath.Join(procfs, "sys/net/ipv6/bindv6only"), []byte(bindV6Only+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		code, stdout, _ := program.Run(t, "audit", "--path.procfs="+procfs, "--registry.file="+file)
		if code != 1 || !strings.Contains(stdout, "tcp 443: assumed: web "+assumedUp) {
			t.Errorf("bindv6only %s: exit code %d, want 1, and %q in:\n%s", bindV6Only, code, assumedUp, stdout)
		}
	}
}

const (
	assumedUp   = "listens only on ::, which is assumed to accept IPv4 (net.ipv6.bindv6only is 0 or not known)\n"
	assumedDown = "does not listen as declared (assumed: something listens on ::, which is assumed not to accept IPv4 because net.ipv6.bindv6only is 1)\n"
)

func TestAViolationNamesTheServiceAndTheHolders(t *testing.T) {
	l := inventory.Listener{
		Key:     inventory.Key{Proto: inventory.TCP, Addr: netip.MustParseAddrPort("[::]:22"), Device: "eth0"},
		Holders: []inventory.Holder{{Process: "nc\n", Unit: "x.service"}, {Process: "sshd"}},
		Verdict: inventory.Verdict{Reason: inventory.ReasonProcess, Service: "ssh", Purpose: "a\tb", Declared: "unit ssh.service"},
	}
	want := `ssh (a\tb) is held by another process or unit than declared (unit ssh.service), held by nc\n(x.service),sshd`
	if got := violation(&l); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := addressAndPort(&l), "[::%eth0]:22"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
