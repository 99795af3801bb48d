//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// newJudgedBench returns a bench with a registry, and that registry's file.
func newJudgedBench(t *testing.T, content string, edit ...func(*Options)) (b *bench, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "ports.yml")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return newBench(t, append(edit, func(o *Options) { o.RegistryFiles, o.RegistryHost = []string{file}, "web-1" })...), file
}

const webRegistry = `
services:
  - {name: ssh, port: 22}
  - {name: web, port: 443, bind: loopback}
  - {name: vpn, port: 51820, proto: udp}
reserved:
  - {team: alpha, ports: 9000-9009}
`

// verdicts returns what is said of each listener, by its address.
func verdicts(s *Snapshot) map[string]string {
	said := make(map[string]string)
	for _, l := range s.Listeners {
		said[l.Proto+" "+l.Addr.String()] = fmt.Sprintf("%t %s %s", l.Judged, l.Verdict.Reason, l.Verdict.Service)
	}
	return said
}

// ups returns the services that must listen, and whether they do.
func ups(s *Snapshot) map[string]bool {
	up := make(map[string]bool)
	for _, service := range s.Compliance.Services {
		up[service.Name] = service.Up
	}
	return up
}

func TestEveryListenerOfTheMainNamespaceHasAVerdict(t *testing.T) {
	b, _ := newJudgedBench(t, webRegistry)
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1), at("0.0.0.0:443", 2), at("0.0.0.0:9001", 3), at("0.0.0.0:23", 4)))
	s := b.Snapshot()
	want := map[string]string{
		"tcp 0.0.0.0:22":   "true  ssh",
		"tcp 0.0.0.0:443":  "true bind web",
		"tcp 0.0.0.0:9001": "true reserved alpha",
		"tcp 0.0.0.0:23":   "true unregistered ",
	}
	if diff := cmp.Diff(want, verdicts(s)); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]bool{"ssh": true, "web": false, "vpn": false}, ups(s)); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]registry.TeamUse{{Team: "alpha", Size: 10, Used: 1}}, s.Compliance.Reserved); diff != "" {
		t.Errorf("reserved (-want +got):\n%s", diff)
	}
}

func TestADeclaredUDPPortIsReportedAtOnce(t *testing.T) {
	b, _ := newJudgedBench(t, webRegistry)
	b.source.say(socket.UDP, has(at("0.0.0.0:51820", 1), at("0.0.0.0:51821", 2)))
	if diff := cmp.Diff(map[string]string{"udp 0.0.0.0:51820": "true  vpn"}, verdicts(b.Snapshot())); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

func TestAProtocolThatIsNotReadHasNoServices(t *testing.T) {
	read := has(at("0.0.0.0:22", 1), at("0.0.0.0:9001", 2))
	for name, test := range map[string]struct {
		udp      bool
		tcp      answer
		ups      map[string]bool
		reserved []registry.TeamUse // nil if it is not known
	}{
		"failed":       {true, answer{err: errors.New("refused")}, map[string]bool{"vpn": false}, nil},
		"switched off": {false, read, map[string]bool{"ssh": true, "web": false}, []registry.TeamUse{{Team: "alpha", Size: 10, Used: 1}}},
	} {
		b, _ := newJudgedBench(t, webRegistry, func(o *Options) { o.UDP = test.udp })
		b.source.say(socket.TCP, test.tcp)
		s := b.Snapshot()
		if diff := cmp.Diff(test.ups, ups(s)) + cmp.Diff(test.reserved, s.Compliance.Reserved); diff != "" {
			t.Errorf("%s: services and reserved ports (-want +got):\n%s", name, diff)
		}
	}
}

func TestJudgingComesBeforeFilters(t *testing.T) {
	b, _ := newJudgedBench(t, webRegistry, func(o *Options) { _ = o.PortExclude.Set("22") })
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	s := b.Snapshot()
	if len(s.Listeners) != 0 || !ups(s)["ssh"] {
		t.Errorf("%d listeners, services %v", len(s.Listeners), ups(s))
	}
}

func TestDeclaredAndReachablePortsStayWhereThereAreTooMany(t *testing.T) {
	b, _ := newJudgedBench(t, webRegistry, func(o *Options) { o.MaxPorts = 3 })
	b.source.say(socket.TCP, has(
		at("127.0.0.1:1", 1), at("127.0.0.1:2", 2), at("127.0.0.1:3", 3), at("127.0.0.1:443", 4), at("0.0.0.0:65000", 5)))
	s := b.Snapshot()
	want := map[string]string{
		"tcp 127.0.0.1:1":   "true unregistered ",
		"tcp 127.0.0.1:443": "true  web",
		"tcp 0.0.0.0:65000": "true unregistered ",
	}
	if diff := cmp.Diff(want, verdicts(s)); diff != "" || s.Omitted != 2 {
		t.Errorf("%d omitted, verdicts (-want +got):\n%s", s.Omitted, diff)
	}
}

func TestAChangedFileIsJudgedByAndABadOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, file := newJudgedBench(t, webRegistry)
		go b.WatchRegistry(t.Context())
		b.source.say(socket.TCP, answer{rows: []socket.Socket{at("0.0.0.0:8080", 1)}, same: true})
		b.source.say(socket.UDP, answer{same: true})
		first := b.Snapshot()
		for _, step := range []struct {
			content, want string
			reloaded      bool
		}{
			{"services: [{name: shop, port: 8080}]\n", "true  shop", true},
			{"services: [{name: shop, port: 80800}]\n", "true  shop", false},
			{webRegistry, "true unregistered ", true},
		} {
			if err := os.WriteFile(file, []byte(step.content), 0o644); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * registryInterval)
			s := b.Snapshot()
			if got := verdicts(s)["tcp 0.0.0.0:8080"]; got != step.want || s.Compliance.Reloaded != step.reloaded {
				t.Errorf("%q: verdict %q, reloaded %t", step.content, got, s.Compliance.Reloaded)
			}
			if again := b.Snapshot(); &again.Listeners[0] != &s.Listeners[0] {
				t.Errorf("%q: judged again though nothing changed", step.content)
			}
		}
		if got := verdicts(first)["tcp 0.0.0.0:8080"]; got != "true unregistered " {
			t.Errorf("the first snapshot says now: %q", got)
		}
		if got := strings.Count(b.log.String(), "80800: want a number"); got != 1 {
			t.Errorf("the fault is logged %d times: %s", got, b.log.String())
		}
	})
}

func TestTheLogSaysHowManyServicesAreForThisHost(t *testing.T) {
	b, file := newJudgedBench(t, "services: [{name: ssh, port: 22}, {name: web, port: 80, hosts: [web-*]}]\n")
	const warning = `level=warn msg="no service of the registry is for this host`
	if err := os.WriteFile(file, []byte("services: [{name: ssh, port: 22, hosts: [db-*]}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.ReloadRegistry(); err != nil {
		t.Fatal(err)
	}
	b.Snapshot()
	b.Snapshot()
	for _, want := range []string{"host=web-1 services=2 for_other_hosts=0\n", "host=web-1 services=0 for_other_hosts=1\n" + warning} {
		if log := b.log.String(); strings.Count(log, want) != 1 {
			t.Errorf("want %q once: %s", want, log)
		}
	}
}

func TestHoldersBeyondThoseThatAreToldAreJudgedToo(t *testing.T) {
	r, err := registry.Parse("ports.yml", []byte("services: [{name: app, port: 7000, unit: app.service}]"))
	if err != nil {
		t.Fatal(err)
	}
	l := Listener{Key: Key{Proto: TCP, Addr: netip.MustParseAddrPort("0.0.0.0:7000")}, Exact: true}
	for _, name := range []string{"a1", "a2", "a3", "a4"} {
		l.Holders = append(l.Holders, Holder{Process: name, Unit: "app.service"})
	}
	l.held, l.ManyHolders = [][]Holder{l.Holders, {{Process: "rogue", Unit: "evil.service"}}}, true
	if got := r.For("web-1").Judge(l.Input()).Reason; got != ReasonProcess {
		t.Errorf("verdict %q, want %q", got, ReasonProcess)
	}
}

func TestAForbiddenPortIsNoClientAndIsReportedAtOnce(t *testing.T) {
	b, _ := newJudgedBench(t, `
services: [{name: ssh, port: 22}, {name: helper, port: any, proto: udp, unit: helper.service}]
forbidden: [{port: 40001, reason: nobody needs it}]
`)
	b.source.say(socket.UDP, has(at("0.0.0.0:40001", 1), at("0.0.0.0:40002", 2)))
	if diff := cmp.Diff(map[string]string{"udp 0.0.0.0:40001": "true forbidden "}, verdicts(b.Snapshot())); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	b.advance(2 * time.Minute)
	for _, l := range b.Snapshot().Listeners {
		if l.Client != (l.Addr.Port() == 40002) {
			t.Errorf("%s is a client: %t", l.Addr, l.Client)
		}
	}
}

func TestWhatDependsOnHoldersThatCannotBeReadHasNoVerdict(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.yml")
	if err := os.WriteFile(file, []byte("services:\n  - {name: helper, port: any, process: helperd}\n  - {name: pool, port: 9000-9001, process: helperd, required: true}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	source, holders := newScripted(), &scriptedHolders{program: "helperd"}
	source.say(socket.TCP, has(at("0.0.0.0:7000", 1), at("0.0.0.0:9000", 2)))
	source.say(socket.UDP, has())
	o := Options{TCP: true, UDP: true, MaxPorts: 100, Holders: true, RegistryFiles: []string{file}, RegistryHost: "web-1"}
	i, err := newInventory(sources{main: bothFrom(source), holders: holders, clock: readClock}, o, log.NewNopLogger(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		say                    scriptedHolders
		verdict7000, verdict90 string
		ups                    map[string]bool
	}{
		{scriptedHolders{program: "helperd"}, "true  helper", "true  pool", map[string]bool{"pool 9000": true, "pool 9001": false}},
		{scriptedHolders{err: errors.New("permission denied")}, "false  ", "false  ", map[string]bool{"pool 9001": false}},
		{scriptedHolders{program: "nc", changed: true}, "true unregistered ", "true unregistered ", map[string]bool{"pool 9000": false, "pool 9001": false}},
		{scriptedHolders{changed: true}, "true unregistered ", "true unregistered ", map[string]bool{"pool 9001": false}},
	} {
		*holders = step.say
		s := i.Snapshot(t.Context())
		if diff := cmp.Diff(map[string]string{"tcp 0.0.0.0:7000": step.verdict7000, "tcp 0.0.0.0:9000": step.verdict90}, verdicts(s)); diff != "" {
			t.Errorf("%+v: verdicts (-want +got):\n%s", step.say, diff)
		}
		up := make(map[string]bool)
		for _, service := range s.Compliance.Services {
			up[service.Name+" "+service.Ports] = service.Up
		}
		if diff := cmp.Diff(step.ups, up); diff != "" {
			t.Errorf("%+v: services (-want +got):\n%s", step.say, diff)
		}
	}
}

func TestAServiceThatMayBeElsewhereIsNotMissing(t *testing.T) {
	b, _ := newJudgedBench(t, `
services:
  - {name: vip, port: 443, bind: 10.0.0.100, required: one-host}
  - {name: app, port: [8080, 8081], required: one-port}
  - {name: api, port: [9000, 9001], bind: loopback, required: one-port}
`)
	b.source.say(socket.TCP, has(at("10.0.0.1:9001", 1)))
	s := b.Snapshot()
	if diff := cmp.Diff(map[string]bool{"vip": false, "app": false, "api": false}, ups(s)); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	var missing []string
	for _, service := range s.Missing() {
		missing = append(missing, service.Name+" "+service.Ports)
	}
	if diff := cmp.Diff([]string{"app 8080,8081"}, missing); diff != "" { // the verdict on 9001 explains api
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

func TestTheLogNamesServicesForOtherHosts(t *testing.T) {
	b, _ := newJudgedBench(t, "services: [{name: ssh, port: 22}, {name: mail, port: 25, hosts: ['mail-*']}, {name: shop, port: 80, hosts: [web-1.example.org]}]\n")
	for _, want := range []string{
		`level=info msg="services of the registry whose hosts do not match this host" host=web-1 services="mail, shop"`,
		`level=warn msg="the registry names this host in another form: hosts must match the whole name; write it so, or set --registry.host" host=web-1 entries=shop`,
	} {
		if log := b.log.String(); strings.Count(log, want) != 1 {
			t.Errorf("want %q once: %s", want, log)
		}
	}
}
