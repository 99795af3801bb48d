//go:build linux

package command

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// commandRegistry is compared with the host of program.NewProcfs.
const commandRegistry = `---
services:
  - name: ssh
    purpose: administration
    port: 22
    bind: loopback
  - name: dns
    port: 53
    proto: udp
  - name: mail
    purpose: the "queue"
    port: 25
  - name: web
    port: 443
  - name: cache
    port: [11211-11219]
reserved:
  - team: alpha
    ports: 8000-8999
`

func TestListShowsATable(t *testing.T) {
	procfs := program.NewProcfs(t)
	code, stdout, stderr := program.Run(t, "list", "--path.procfs="+procfs, "--registry.file="+program.WriteFile(t, "ports.yml", commandRegistry))
	want := `PROTO  ADDRESS     PORT  SCOPE       SERVICE  STATE         HOLDER  QUEUE  PID  USER
tcp    0.0.0.0       22  any         ssh      bind          -       3        -  -
tcp    -             25  -           mail     missing       -       -        -  -
udp    0.0.0.0       53  any         dns      ok            -       512B     -  -
tcp    ::           443  any         web      ok            -       0        -  -
udp    fe80::1      546  link-local  -        unregistered  -       0B       -  -
tcp    127.0.0.1   8080  loopback    alpha    reserved      -       0        -  -
udp    10.1.1.10  40000  private     -        ephemeral     -       0B       -  -
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != ExitOK {
		t.Errorf("exit code %d, want 0: %s; table (-want +got):\n%s", code, stderr, diff)
	}
}

// The violation says why a service is not up, but only where it is shown.
func TestAServiceIsMissingWhereTheViolationIsFilteredOut(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", "services: [{name: ssh, port: 22, bind: loopback}]")
	for filter, want := range map[string]string{"1": "ssh bind", "22": "ssh missing"} {
		_, table, _ := program.Run(t, "list", "--path.procfs="+program.NewProcfs(t), "--registry.file="+file, "--collector.port-exclude="+filter)
		var got string
		for _, line := range columns(table) {
			if line[2] == "22" {
				got += line[4] + " " + line[5]
			}
		}
		if got != want {
			t.Errorf("without port %s: %q, want %q:\n%s", filter, got, want, table)
		}
	}
}

func TestListOfAnIdleHostIsOnlyTheHeader(t *testing.T) {
	procfs := program.NewProcfs(t)
	for name, table := range map[string]string{"tcp": program.TCPHeader, "tcp6": program.TCP6Header, "udp": program.UDPHeader, "udp6": program.UDP6Header} {
		program.WriteTable(t, procfs, name, table)
	}
	code, stdout, _ := program.Run(t, "list", "--path.procfs="+procfs)
	if want := "PROTO  ADDRESS  PORT  SCOPE  SERVICE  STATE  HOLDER  QUEUE  PID  USER\n"; code != 0 || stdout != want {
		t.Errorf("exit code %d, want 0, and %q, want %q", code, stdout, want)
	}
	code, stdout, stderr := program.Run(t, "list", "--format=registry", "--path.procfs="+procfs)
	if code != 0 || !strings.Contains(stdout, "  - name: listen_exporter\n") {
		t.Errorf("exit code %d, want 0; a registry with only the exporter:\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = program.Run(t, "list", "--format=registry", "--path.procfs="+procfs, "--web.listen-address=unix:/run/socket")
	if code != 2 || !strings.Contains(stderr, "nothing listens") || !strings.Contains(stdout, "services: []") {
		t.Errorf("exit code %d, want 2; a registry without services:\n%s%s", code, stdout, stderr)
	}
}

func TestACommandCoversEveryListener(t *testing.T) {
	const listeners = 20_010
	procfs, table := program.NewProcfs(t), strings.Builder{}
	table.WriteString(program.TCPHeader)
	for n := range listeners {
		fmt.Fprintf(&table, "   0: 0100007F:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 %d 1 0000000000000000 100 0 0 10 0\n", 1+n, 2000+n)
	}
	program.WriteTable(t, procfs, "tcp", table.String())
	_, stdout, stderr := program.Run(t, "list", "--path.procfs="+procfs)
	if got := strings.Count(stdout, "127.0.0.1"); got != listeners {
		t.Errorf("%d listeners, want %d: %s", got, listeners, stderr)
	}
}

func TestADraftGoesOnFromTheRegistry(t *testing.T) {
	const written = "services:\n  - name: remote # by us\n    purpose: administration\n    port: 22\n  - {name: gone, port: 7777}\n"
	file := program.WriteFile(t, "ports.yml", written)
	list := func(file string) string {
		code, stdout, stderr := program.Run(t, "list", "--format=registry", "--path.procfs="+program.NewProcfs(t), "--registry.host=web-1", "--registry.file="+file)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		return stdout
	}
	draft := list(file)
	head, added, _ := strings.Cut(draft, "  # New on web-1: ")
	if want := strings.Replace(written, "  - {name: gone", "  # Gone on web-1: nothing listens on tcp 7777\n  - {name: gone", 1); head != want {
		t.Errorf("got %s\nwant it to begin with %s", draft, want)
	}
	if !strings.Contains(added, "\n    port: 443\n") || strings.Contains(added, "port: 22\n") {
		t.Errorf("got %s\nwant 443 added, which is new, and not 22", draft)
	}
	again := list(program.WriteFile(t, "again.yml", draft))
	if _, services, _ := strings.Cut(added, "\n"); again != head+services {
		t.Errorf("the next draft is\n%s\nwant\n%s", again, head+services)
	}
	code, stdout, _ := program.Run(t, "audit", "--path.procfs="+program.NewProcfs(t), "--registry.host=web-1", "--registry.file="+program.WriteFile(t, "ports.yml", draft))
	if code != 1 || !strings.Contains(stdout, ", 0 violations, 1 missing service\n") {
		t.Errorf("audit by the draft: exit code %d, %s", code, stdout)
	}
}

func TestTheRestIsShownIfAProtocolCannotBeReadAndTheAnswerIsNoPass(t *testing.T) {
	procfs := program.NewProcfs(t)
	program.WriteTable(t, procfs, "udp", "not a table\n  1: bad\n")
	file := program.WriteFile(t, "ports.yml", `services: [{name: tcp, port: [22, 443, 8080]}, {name: dns, port: 53, proto: udp}]`)
	for _, test := range []struct {
		args   string
		want   []string
		absent string
	}{
		{"list", []string{"tcp    0.0.0.0"}, "\nudp"},
		{"list --format=json", []string{`"proto": "tcp"`, `"collector": "udp",`, `"error": "read `}, `"proto": "udp"`},
		{"list --format=registry", []string{"port: 22", "# Incomplete: udp could not be read.\n"}, "proto: udp"},
		{"audit --registry.file=" + file, []string{"3 listeners as declared, 0 violations, 0 missing services\n"}, "udp"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, stdout, stderr := program.Run(t, append(strings.Fields(test.args), "--path.procfs="+procfs)...)
			if code != ExitTrouble || strings.Contains(stdout, test.absent) {
				t.Errorf("exit code %d, want 2, and no %q in:\n%s", code, test.absent, stdout)
			}
			for _, want := range test.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in:\n%s", want, stdout)
				}
			}
			for _, want := range []string{
				"listen_exporter: error: cannot read listening udp sockets: read " + procfs + "/1/net/udp: ",
				"listen_exporter: error: udp could not be read: its listeners are missing here\n",
			} {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q on stderr:\n%s", want, stderr)
				}
			}
		})
	}
}

func TestACommandThatCannotReadSaysWhyAndExitsWith2(t *testing.T) {
	bad := program.WriteFile(t, "bad.yml", "---\nservices:\n  - name: x\n    port: 0\n    bind: nowhere\n")
	for _, test := range []struct {
		name string
		args []string
		want []string // lines
	}{
		{"list, no procfs", []string{"list", "--path.procfs=/does/not/exist"}, []string{"listen_exporter: error: "}},
		{"list, bad registry", []string{"list", "--registry.file=" + bad}, []string{bad + ":4:11: ", bad + ":5:11: "}},
		{"audit, no registry", []string{"audit"}, []string{"listen_exporter: error: audit needs a registry: make one with `listen_exporter list --format=registry > ports.yml`, then `listen_exporter audit --registry.file=ports.yml`"}},
		{"audit, bad registry", []string{"audit", "--registry.file=" + bad}, []string{bad + ":4:11: ", bad + ":5:11: "}},
		{"check, nothing", []string{"check"}, []string{"listen_exporter: error: check needs a registry or manifests: "}},
		{"check, neither", []string{"check", "/does/not/exist", "--manifests=/nor/this"}, []string{"listen_exporter: error: read the registry: ", "listen_exporter: error: read the manifests: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := program.Run(t, append(test.args, "--collector.netns=self")...)
			if code != 2 || stdout != "" {
				t.Errorf("exit code %d, want 2, and on stdout %q", code, stdout)
			}
			if !slices.EqualFunc(program.Lines(stderr), test.want, strings.HasPrefix) {
				t.Errorf("on stderr, whose lines do not start with %q:\n%s", test.want, stderr)
			}
		})
	}
}

func TestTheLogOfACommandIsPlainTextUnlessAFormatIsAskedFor(t *testing.T) {
	procfs := program.NewProcfs(t)
	for _, test := range []struct {
		args         []string
		want, absent string
	}{
		{nil, "listen_exporter: warning: the observed network namespace is not the exporter's own", "observing"},
		{[]string{"--log.level=error"}, "", "observed"},
		{[]string{"--log.level=info"}, `level=info msg="observing a network namespace"`, "listen_exporter:"},
		{[]string{"--log.format=json"}, `"level":"warn","msg":"the observed`, "info"},
	} {
		_, _, stderr := program.Run(t, append(test.args, "list", "--path.procfs="+procfs)...)
		if !strings.Contains(stderr, test.want) || strings.Contains(stderr, test.absent) {
			t.Errorf("%q: on stderr, with %q and without %q:\n%s", test.args, test.want, test.absent, stderr)
		}
	}
}

func TestARegistryDeclaresTheExporterEvenIfItDoesNotRunYet(t *testing.T) {
	procfs := program.NewProcfs(t)
	program.WriteTable(t, procfs, "tcp", program.TCPHeader+
		"   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0000000000000000 100 0 0 10 0\n"+
		"   1: 0100007F:9C40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1002 1 0000000000000000 100 0 0 10 0\n")
	for flag, want := range map[string]string{
		"":            "    port: 10190\n    required: false # the exporter itself, once it runs\n",
		"127.0.0.1:9": "    port: 9\n    bind: loopback\n    required: false # the exporter itself, once it runs\n",
		"localhost:9": "    port: 9\n    required: false # the exporter itself, once it runs\n",
		"[::1]:22":    "",
		"unix:/run/x": "",
		":0":          "",
	} {
		args := []string{"list", "--format=registry", "--path.procfs=" + procfs}
		if flag != "" {
			args = append(args, "--web.listen-address="+flag)
		}
		_, text, _ := program.Run(t, args...)
		_, got, _ := strings.Cut(text, "  - name: listen_exporter\n    purpose: \"\" # say what it is for\n")
		got, _, _ = strings.Cut(got, "  - name: ")
		if got != want {
			t.Errorf("%s: %q, want %q in:\n%s", flag, got, want, text)
		}
		if want := "    port: 40000\n    bind: loopback\n    required: false # the system may have chosen this port: it can change at the next start\n"; !strings.Contains(text, want) {
			t.Errorf("%s: no %q in:\n%s", flag, want, text)
		}
	}
}
