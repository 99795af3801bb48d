package command

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
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
tcp 22: missing: ssh (administration) does not listen as declared
tcp 25: missing: mail (the "queue") does not listen as declared
udp [fe80::1]:546: unregistered: no service declares the port
tcp 127.0.0.1:8080: reserved: the port is reserved for alpha
2 listeners as declared, 3 violations, 2 missing services
`},
		{"only violations", `services: [{name: all, port: [22, 443], purpose: x}, {name: app, port: 8080, bind: loopback}]`, 1, `udp 0.0.0.0:53: unregistered: no service declares the port
udp [fe80::1]:546: unregistered: no service declares the port
3 listeners as declared, 2 violations, 0 missing services
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
			if code != test.code {
				t.Errorf("exit code %d, want %d: %s", code, test.code, stderr)
			}
			if diff := cmp.Diff(test.want, stdout); diff != "" {
				t.Errorf("audit (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAuditOfAPartOfTheHostIsNoPass(t *testing.T) {
	procfs := program.NewProcfs(t)
	program.WriteTable(t, procfs, "udp", "not a table\n  1: bad\n")
	file := program.WriteFile(t, "ports.yml", `services: [{name: tcp, port: [22, 443, 8080]}, {name: dns, port: 53, proto: udp}]`)
	code, stdout, stderr := program.Run(t, "audit", "--path.procfs="+procfs, "--registry.file="+file)
	if want := "3 listeners as declared, 0 violations, 0 missing services\n"; code != 2 || stdout != want {
		t.Errorf("exit code %d, want 2, and %q, want %q", code, stdout, want)
	}
	if want := "listen_exporter: error: udp could not be read: its listeners are missing here\n"; !strings.HasSuffix(stderr, want) {
		t.Errorf("%q does not end with %q", stderr, want)
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
		"--no-collector.udp --collector.tcp":            "--no-collector.udp",
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
	for most, want := range map[string]string{
		"5": "1 listener not judged: there are more than --collector.max-ports",
		"2": "4 listeners not judged: there are more than --collector.max-ports",
	} {
		code, _, stderr := program.Run(t, "audit", "--collector.max-ports="+most, "--path.procfs="+program.NewProcfs(t), "--registry.file="+file)
		if code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, want 2, and %q on stderr: %s", code, want, stderr)
		}
	}
}

func TestAuditWarnsIfTheRegistryIsForOtherHosts(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", `services: [{name: ssh, port: 22, hosts: ["db-*"]}]`)
	code, _, stderr := program.Run(t, "audit", "--path.procfs="+program.NewProcfs(t), "--registry.host=web-1", "--registry.file="+file)
	var warnings []string
	for _, line := range program.Lines(stderr) {
		if strings.HasPrefix(line, "listen_exporter: warning: no service of the registry is for this host") && strings.Contains(line, "host=web-1") {
			warnings = append(warnings, line)
		}
	}
	if code != ExitFound || len(warnings) != 1 {
		t.Errorf("exit code %d, want 1, and one warning that names the host:\n%s", code, stderr)
	}
}

func TestAuditSaysWhatItAssumes(t *testing.T) {
	procfs := program.NewProcfs(t)
	file := program.WriteFile(t, "ports.yml", `services: [{name: web, port: 443, bind: 0.0.0.0}]`)
	if err := os.MkdirAll(filepath.Join(procfs, "sys/net/ipv6"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ bindV6Only, want string }{
		{"0", "tcp 443: assumed: web listens only on ::, which is assumed to accept IPv4 because net.ipv6.bindv6only is 0\n"},
		{"1", "tcp 443: missing: web does not listen as declared (assumed: something listens on ::, which is assumed not to accept IPv4 because net.ipv6.bindv6only is 1)\n"},
	} {
		if err := os.WriteFile(filepath.Join(procfs, "sys/net/ipv6/bindv6only"), []byte(test.bindV6Only+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		code, stdout, _ := program.Run(t, "audit", "--path.procfs="+procfs, "--registry.file="+file)
		if code != 1 || !strings.Contains(stdout, test.want) {
			t.Errorf("bindv6only %s: exit code %d, want 1, and %q in:\n%s", test.bindV6Only, code, test.want, stdout)
		}
	}
}

func TestAViolationNamesTheHolders(t *testing.T) {
	l := inventory.Listener{
		Key:     inventory.Key{Proto: inventory.TCP, Addr: netip.MustParseAddrPort("[::]:22"), Device: "eth0"},
		Holders: []inventory.Holder{{Process: "nc\n", Unit: "x.service"}, {Process: "sshd"}},
	}
	for _, test := range []struct{ reason, declared, want string }{
		{inventory.ReasonUnregistered, "", `no service declares the port`},
		{inventory.ReasonReserved, "", `the port is reserved for ssh`},
		{inventory.ReasonBind, "", `ssh (a\tb) listens on a wider or another address than declared`},
		{inventory.ReasonBind, "10.0.0.0/8, loopback", `ssh (a\tb) listens on a wider or another address than declared (10.0.0.0/8, loopback)`},
		{inventory.ReasonProcess, "process ss\x1bhd, unit ssh.service", `ssh (a\tb) is held by another process or unit than declared (process ss\x1bhd, unit ssh.service)`},
	} {
		l.Verdict = inventory.Verdict{Reason: test.reason, Service: "ssh", Purpose: "a\tb", Declared: test.declared}
		if got, want := violation(&l), test.want+`, held by nc\n(x.service),sshd`; got != want {
			t.Errorf("%s: %q, want %q", test.reason, got, want)
		}
	}
	if got, want := addressAndPort(&l), "[::%eth0]:22"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEveryReasonOfTheRegistryHasASentence(t *testing.T) {
	source, err := os.ReadFile("../registry/judge.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`Reason\w+ += "(\w+)"`).FindAllSubmatch(source, -1)
	if len(reasons) < 4 {
		t.Errorf("found %d reasons in judge.go, want all", len(reasons))
	}
	for _, reason := range reasons {
		if sentence := wording.Violation(string(reason[1]), "alpha", ""); sentence == string(reason[1]) {
			t.Errorf("wording.Violation has no sentence for %s", reason[1])
		}
	}
}
