//go:build linux

package command

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// night is when the answers in testdata were given.
var night = time.Date(2026, 11, 22, 3, 0, 0, 0, time.FixedZone("CET", 3600))

func ago(d time.Duration) time.Time { return night.Add(-d).UTC() }

// kept is what a state file has at night.
func kept() State {
	nginx := []inventory.RememberedHolder{{Process: "nginx\x1b[0m", Unit: "nginx.service"}}
	address := netip.MustParseAddr
	return State{File: "/var/lib/listen_exporter/state", Written: ago(3 * time.Second), Memory: &inventory.Remembered{
		Ports: []inventory.RememberedPort{
			{
				Proto: inventory.TCP, Port: 22, Since: ago(300 * time.Hour),
				Listeners: []inventory.RememberedListener{{
					Address: address("0.0.0.0"), FirstSeen: ago(300 * time.Hour), Reason: inventory.ReasonProcess, Service: "ssh",
					ViolationStart: ago(47 * time.Minute), FullStart: ago(5 * time.Minute), DroppingStart: ago(90 * time.Second),
				}},
			},
			{
				Proto: inventory.TCP, Port: 80, Since: ago(50 * time.Hour), Gone: ago(10 * time.Minute), Holders: nginx,
				Listeners: []inventory.RememberedListener{{Address: address("0.0.0.0")}, {Address: address("::")}},
			},
			{
				Proto: inventory.UDP, Port: 80, Since: ago(50 * time.Hour),
				Holders:   []inventory.RememberedHolder{{Process: "quic", Pod: "1b4e28ba-2fa1-11d2-883f-0016d3cca427"}},
				Listeners: []inventory.RememberedListener{{Address: address("::")}},
			},
		},
		Services: []inventory.RememberedService{
			{
				Name: "mail", Proto: inventory.TCP, Ports: "25", DownSince: ago(70 * time.Minute), LastChange: ago(70 * time.Minute), Changes: 7,
				Addresses: []netip.Addr{address("10.0.0.1")}, Holders: []inventory.RememberedHolder{{Process: "master", Unit: `post\x2dfix@-.service`}},
			},
			{Name: "ssh", Proto: inventory.TCP, Ports: "22", DownSince: ago(47 * time.Minute)},
			{Name: "dns", Proto: inventory.UDP, Ports: "53", Up: true, LastChange: ago(time.Hour), Changes: 2},
		},
		Flapping: []inventory.RememberedFlapping{{Proto: inventory.TCP, Port: 25, Openings: 6, Process: "master", Unit: "postfix.service"}},
	}}
}

// watched is what listens at night.
func watched() *inventory.Snapshot {
	ssh := inventory.Key{Proto: inventory.TCP, Addr: netip.MustParseAddrPort("0.0.0.0:22"), Scope: inventory.ScopeAny}
	dns := inventory.Key{Proto: inventory.UDP, Addr: netip.MustParseAddrPort("10.0.0.1:53"), Scope: inventory.ScopePrivate}
	sshd, nc := inventory.Holder{Process: "sshd", Unit: "ssh.service"}, inventory.Holder{Process: "nc", Unit: "session-3.scope", UID: 4_000_000_000}
	s := &inventory.Snapshot{
		Time: night, Reads: []inventory.Read{{Collector: inventory.TCP}, {Collector: inventory.UDP}},
		Listeners: []inventory.Listener{
			{
				Key: ssh, Detailed: true, AcceptQueueLength: 129, AcceptQueueLimit: 128, Exact: true, Holders: []inventory.Holder{nc, sshd},
				Verdict: inventory.Verdict{Reason: inventory.ReasonProcess, Service: "ssh", Declared: "process sshd"}, Judged: true,
			},
			{
				Key: dns, Detailed: true, Holders: []inventory.Holder{{Process: "named", ContainerID: "0123456789abcdef", UIDUnknown: true}},
				Verdict: inventory.Verdict{Service: "dns"}, Judged: true,
			},
		},
		Processes: map[inventory.Key][]inventory.Process{ssh: {{Holder: sshd, PID: 812}, {Holder: nc, PID: 4711}}},
	}
	s.Compliance, s.Leases = new(inventory.Compliance), nightLeases()
	for _, of := range []struct {
		name, proto string
		port        uint16
	}{{"ssh", inventory.TCP, 22}, {"mail", inventory.TCP, 25}, {"dns", inventory.UDP, 53}} {
		s.Compliance.Declared = append(s.Compliance.Declared, inventory.ServiceInfo{Name: of.name})
		s.Compliance.Services = append(s.Compliance.Services, inventory.ServiceState{Up: of.name == "dns", Service: &inventory.Service{
			Name: of.name, Proto: of.proto, Port: of.port, Ports: fmt.Sprint(of.port),
		}})
	}
	for pid := range 6 {
		p := inventory.Process{Holder: sshd, PID: 9000 + pid}
		p.Executable = "sshd"
		s.Processes[ssh] = append(s.Processes[ssh], p)
	}
	return s
}

// People read these answers at night: look at each of their changes.
func TestTheAnswersAboutPortsAreWhatIsInTestdata(t *testing.T) {
	const file = "testdata/ports.txt"
	var out bytes.Buffer
	for _, ask := range []string{"22", "ssh dns", "80", "tcp/80", "mail", "udp/50-60", "443", "443 without a state", "job", "30001 without a state"} {
		fmt.Fprintf(&out, "$ list %s\n", ask)
		state := kept()
		if strings.Contains(ask, "without") {
			state.Memory = nil
		}
		ports, _, _ := strings.Cut(ask, " without")
		a, err := answerTo(strings.Fields(ports), watched(), state, "web-1")
		if err != nil {
			t.Fatal(err)
		}
		a.registry = "ports.yml (--registry.file)"
		a.write(&out, screen{}, false)
		out.WriteByte('\n')
	}
	if strings.ContainsAny(out.String(), "\x1b") {
		t.Errorf("characters that do something to a terminal:\n%q", &out)
	}
	isGolden(t, file, out.String())
}

func TestTheExitCodeSaysWhetherSomethingListensOnEachPort(t *testing.T) {
	registry := "--registry.file=" + program.WriteFile(t, "ports.yml", commandRegistry)
	for _, test := range []struct {
		args string
		code int
		want string // on stdout or stderr
	}{
		{"8080", ExitOK, "\ntcp    127.0.0.1  8080  loopback  alpha    reserved  -       0        -  -       -\n"},
		{"tcp/8080 udp/53", ExitOK, "0.0.0.0      53"},
		{"8000-8100,9", ExitOK, "127.0.0.1  8080"},
		{"dns", ExitOK, "0.0.0.0    53"},
		{"udp/8080", ExitFound, "nothing listens on udp/8080\n"},
		{"53 8081", ExitFound, "nothing listens on 8081\n"},
		{"mail", ExitFound, "tcp    -          25  -      mail     missing"},
		{"cache", ExitFound, "nothing listens on cache\n"},
		{"redis --registry.host=web-1", ExitTrouble, `"redis" is neither a port nor a service of the registry for the host web-1: want `},
		{"70000", ExitTrouble, `"70000" is neither a port nor `},
		{"22 --format=registry", ExitTrouble, "leave out the ports"},
	} {
		args := append(strings.Fields("list "+test.args), registry, "--path.procfs="+program.NewProcfs(t))
		code, stdout, stderr := program.Run(t, args...)
		if code != test.code || !strings.Contains(stdout+stderr, test.want) {
			t.Errorf("list %s: exit code %d, want %d, and %q in:\n%s%s", test.args, code, test.code, test.want, stdout, stderr)
		}
	}
	code, _, stderr := program.Run(t, "list", "redis", "--path.procfs="+program.NewProcfs(t))
	if code != ExitTrouble || !strings.Contains(stderr, `"redis" is not a port, and without a registry`) {
		t.Errorf("without a registry: exit code %d, %s", code, stderr)
	}
}

func TestListNamesWhoListensAndThenWhoDid(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	netnstest.Run(t, func(t *testing.T) {
		state := filepath.Join(t.TempDir(), "state")
		exporter := program.Start(t, "--collector.netns=self", "--collector.interval=100ms", "--collector.settled-after=0s", "--state.file="+state)
		closeNow := program.Listen(t, "tcp", "127.0.0.1:8080")
		await := func(user string, code int, want string) {
			t.Helper()
			var stdout, stderr string
			got := -1
			exporter.Await(want, func() bool {
				exporter.Scrape() // where a look takes long, the watcher looks seldom
				got, stdout, stderr = runAs(t, user, "list", "8080", "--state.file="+state)
				return got == code && regexp.MustCompile(want).MatchString(stdout+stderr)
			})
		}
		await("root", ExitOK, fmt.Sprintf(`(?m)^tcp +127\.0\.0\.1 +8080 +loopback +- +- +%s\S* +0/\d+ +%d +root +\d+s$`, regexp.QuoteMeta(netnstest.OwnName(t)), os.Getpid()))
		// What is there, and only not shown, is not gone.
		_, stdout, stderr := runAs(t, "root", "list", "8080", "--scope=any", "--state.file="+state)
		if want := "nothing with --scope=any listens on 8080\nregistry: "; !strings.HasPrefix(stdout, want) {
			t.Errorf("want %q at the start of:\n%s%s", want, stdout, stderr)
		}
		await("nobody", ExitOK, `(?s)^PROTO.*8080.* what is remembered is not known: .*permission denied: run it as root, with sudo\n$`)
		closeNow()
		await("root", ExitFound, `(?m)^nothing listens on 8080\ntcp 8080: gone since 20\d\d-.* \(\d+s ago\); was open since .*; last on 127\.0\.0\.1, held by `)
	})
}

func TestListJudgesByTheRegistryOfTheExporter(t *testing.T) {
	procfs, state := program.NewProcfs(t), filepath.Join(t.TempDir(), "state")
	file := program.WriteFile(t, "ports.yml", "services: [{name: site, port: 443, hosts: [other]}]")
	exporter := program.Start(t, "--path.procfs="+procfs, "--state.file="+state, "--registry.file="+file, "--registry.host=other")
	exporter.Scrape()
	exporter.Await("the state file", func() bool { _, err := os.Stat(state); return err == nil })
	asks := []string{"list", "site", "--path.procfs=" + procfs, "--state.file=" + state}
	if _, err := os.Stat("/etc/machine-id"); err != nil { // then a state file is that of the name
		asks = append(asks, "--registry.host=other")
	}
	code, stdout, stderr := program.Run(t, asks...)
	if code != ExitOK || !strings.Contains(stdout, "site     ok") || !strings.Contains(stdout, "\nregistry: "+file+" (the exporter's)\n") {
		t.Errorf("exit code %d, want 0, and the verdict of the exporter:\n%s%s", code, stdout, stderr)
	}
	if err := os.WriteFile(state, []byte("listen_exporter state 9 "), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = program.Run(t, "list", "443", "--path.procfs="+procfs, "--state.file="+state)
	if code != ExitOK || !strings.Contains(stdout, "\nregistry: none (want --registry.file)\n") || !strings.Contains(stderr, "what is remembered is not known: "+state) {
		t.Errorf("with a state file that is damaged: exit code %d, want 0:\n%s%s", code, stdout, stderr)
	}
}
