//go:build linux

package program_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// factsRegistry declares some of the facts.
const factsRegistry = `---
services:
  - {name: web, port: 443}
  - {name: redis, port: 6379, bind: loopback}
  - {name: cache, port: 6380, bind: 10.0.0.1}
  - {name: optional, port: 6381, bind: loopback, required: false}
  - {name: half, port: 6382, bind: loopback}
  - {name: ssh, port: 22, process: sshd}
  - {name: mail, port: 25, process: master}
  - {name: wireguard, port: 51820, proto: udp}
  - {name: local, port: 9001, bind: loopback}
  - {name: absent, port: 9999, proto: [tcp, udp]}
  - {name: metrics, port: 10191}
  - {name: metrics-local, port: 10192, bind: loopback}
  - {name: moves, port: any, process: statd}
  - {name: green, port: [8080, 8081], required: one-port}
  - {name: blue, port: [8082, 8083], required: one-port}
forbidden:
  - {port: 2323, reason: no telnet here, bind: 10.0.0.1}
  - {port: 45003, reason: nor anything else}
reserved:
  - {team: alpha, ports: 30000-30999}
  - {team: ci, ports: 31000, users: ["*"]}
`

// fact is a listener, or a service that does not listen, and what every part of the program says of it.
type fact struct {
	who     string // in the form that the readers of this test give to each output, see place
	state   string // as list shows it: empty if it is not judged
	alert   string // the alerts on it and the service or team that they name, or empty
	missing bool   // it is a service, for which no listener is to blame
	down    bool   // the service of this name is not up
	leased  bool   // its port is leased before it listens
	reader  string // that of which this is so, if not all: exact, guessed, netlink or procfs
	name    string // of the process that holds it, if not the test's
	options []netnstest.Option
}

// facts are everything that can listen.
func facts() []fact {
	reuse := []netnstest.Option{netnstest.ReusePort()}
	lo := []netnstest.Option{netnstest.ToDevice("lo")}
	return []fact{
		{who: "tcp [::]:443", state: "ok"},
		{who: "tcp 0.0.0.0:6379", state: "bind", alert: "ListenerExposed redis", down: true},
		{who: "tcp 127.0.0.1:6380", state: "bind", alert: "PortGoneMissing cache", down: true}, // nobody is exposed
		{who: "tcp 0.0.0.0:6381", state: "bind", alert: "ListenerExposed optional"},
		{who: "tcp 127.0.0.1:6382", state: "ok"},
		{who: "tcp 10.0.0.1:6382", state: "bind", alert: "ListenerExposed half"},
		{who: "tcp 0.0.0.0:22", state: "ok", name: "sshd"},
		{who: "tcp 0.0.0.0:25", state: "process", alert: "ListenerHolderChanged mail", down: true, name: "evil", reader: "exact"},
		{who: "tcp 0.0.0.0:25", state: "ok", reader: "guessed"},
		{who: "tcp 0.0.0.0:8000", state: "unregistered", alert: "UnregisteredListener", options: reuse},
		{who: "tcp 127.0.0.1:8001", state: "unregistered"}, // a program talks to itself
		{who: "tcp 0.0.0.0:45000", state: "unregistered", alert: "UnregisteredListener"},
		{who: "tcp 0.0.0.0:31000", state: "leased", leased: true},
		{who: "tcp 0.0.0.0:30080", state: "reserved", alert: "UnregisteredListener alpha"},
		{who: "udp 0.0.0.0:514", state: "unregistered", alert: "UnregisteredListener"},
		{who: "udp 0.0.0.0:30081", state: "reserved", alert: "UnregisteredListener alpha"},
		{who: "udp 0.0.0.0:45001", state: "ephemeral"},
		{who: "udp [::]:45002", state: "ephemeral"},
		{who: "udp 0.0.0.0:51820", state: "ok"},
		{who: "udp 0.0.0.0:40125", state: "unregistered", alert: "UnregisteredListener"}, // never given to a client
		{who: "tcp 0.0.0.0%lo:9001", state: "ok", reader: "netlink", options: lo},
		{who: "tcp 0.0.0.0:9001", state: "bind", alert: "ListenerExposed local", down: true, reader: "procfs"},
		{who: "tcp 0.0.0.0%lo:9002", state: "unregistered", reader: "netlink", options: lo},
		{who: "tcp 0.0.0.0:9002", state: "unregistered", alert: "UnregisteredListener", reader: "procfs"},
		{who: "tcp 127.0.0.1:10190", state: "ok"}, // the exporter's own
		{who: "tcp [::]:10191", state: "ok"},
		{who: "tcp [::]:10192", state: "bind", alert: "ListenerExposed metrics-local", down: true},
		{who: "tcp 9999", state: "missing", alert: "PortGoneMissing absent", down: true, missing: true},
		{who: "udp 9999", state: "missing", alert: "PortGoneMissing absent", down: true, missing: true},
		{who: "tcp 0.0.0.0:47000", state: "ok", name: "statd", reader: "exact"},
		{who: "tcp 0.0.0.0:47000", state: "unregistered", alert: "UnregisteredListener", reader: "guessed"},
		{who: "tcp 0.0.0.0:8081", state: "ok"},
		{who: "tcp 8082,8083", state: "missing", alert: "PortGoneMissing blue", down: true, missing: true},
		{who: "tcp 127.0.0.1:2323", state: "forbidden", alert: "ForbiddenListener"},
		{who: "tcp 10.0.0.1:2323", state: "unregistered", alert: "UnregisteredListener"}, // where it is tolerated
		{who: "udp 0.0.0.0:45003", state: "forbidden", alert: "ForbiddenListener"},       // no client
		{who: "other tcp 0.0.0.0:22", state: ""},
		{who: "other tcp 0.0.0.0:8000", state: ""},
		{who: "other udp 0.0.0.0:45001", state: "ephemeral"},
	}
}

// place returns how this test calls a listener.
func place(netns, proto, address, device, port string) string {
	if device != "" {
		address += "%" + device
	}
	if netns != "" && netns != "-" && netns != "main" {
		proto = "other " + proto
	}
	return proto + " " + net.JoinHostPort(address, port)
}

func TestPageMetricsListAuditAndAlertsSayTheSameOfEachListener(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	tools.Look(t, "promtool")
	netnstest.RunAsHost(t, func(t *testing.T) {
		for file, value := range map[string]string{"ip_local_port_range": "32768 60999", "ip_local_reserved_ports": "40125"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+file, []byte(value), 0); err != nil {
				t.Fatal(err)
			}
		}
		openFacts(t)
		file := filepath.Join(host.OpenDir(t), "ports.yml")
		if err := os.WriteFile(file, []byte(factsRegistry), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"root", "nobody"} {
			for _, source := range []string{"netlink", "procfs"} {
				t.Run(user+" by "+source, func(t *testing.T) { testFacts(t, file, user, source) })
			}
		}
	})
}

// openFacts has programs listen as the facts say, in the test's namespace and in another one.
func openFacts(t *testing.T) {
	t.Helper()
	open := func(f fact) {
		proto, address, _ := strings.Cut(strings.TrimPrefix(f.who, "other "), " ")
		if f.missing || f.leased || f.reader == "guessed" || f.reader == "procfs" || strings.Contains(address, ":1019") {
			return
		}
		fd, err := netnstest.Listen(proto, strings.Replace(address, "%lo", "", 1), f.options...)
		if err != nil {
			t.Error(f.who, err)
			return
		}
		name := f.name
		if name == "" {
			name = "program"
		}
		netnstest.HandOver(t, netnstest.Program{Name: name, Sockets: []int{fd}})
	}
	var others []fact
	for _, f := range facts() {
		if strings.HasPrefix(f.who, "other ") {
			others = append(others, f)
		} else {
			open(f)
		}
	}
	if err := netnstest.Elsewhere("", func() error {
		for _, f := range others {
			open(f)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func testFacts(t *testing.T, file, user, source string) {
	dir := host.OpenDir(t)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "lease.sock")
	run := func(args ...string) *program.Exporter {
		args = append(args, "--collector.netns=all", "--collector.source="+source, "--registry.file="+file, "--registry.host=web-1",
			"--lease.listen-address=unix:"+socket, "--web.listen-address=127.0.0.1:10190", "--web.listen-address=:10191", "--web.listen-address=:10192")
		if user == "root" {
			return program.Launch(t, exec.Command(program.Path(t), args...))
		}
		return program.Launch(t, netnstest.Nobody(t, program.Path(t), args...))
	}
	output := func(code int, args ...string) string {
		e := run(append(args, "--log.level=error")...)
		if got := e.Wait(); got != code {
			t.Errorf("%q: exit code %d, want %d: %s", args, got, code, e.Stderr.String())
		}
		return e.Stdout.String()
	}
	want := facts()
	reader := map[string]bool{"": true, source: true, "exact": user == "root", "guessed": user != "root"}
	want = slices.DeleteFunc(want, func(f fact) bool { return !reader[f.reader] })

	leasing := []string{"--lease.enable", "--lease.file=" + filepath.Join(dir, "leases.db")}
	e := run(append(leasing, "--collector.udp.ephemeral-min-age=0s")...).Listen()
	e.URL = "http://127.0.0.1:10190"
	e.AwaitReady()
	for _, f := range want {
		if f.leased {
			proto, address, _ := strings.Cut(f.who, " ")
			askForLease(t, leaseClient(socket), http.MethodPost, "", fmt.Sprintf(`{"proto": %q, "ttl": "1h"}`, proto), nil)
			program.Listen(t, proto, address)
		}
	}
	compare := func(what string, got map[string]string, value func(f fact) (string, bool)) {
		t.Helper()
		wanted := make(map[string]string)
		for _, f := range want {
			if text, shown := value(f); shown {
				wanted[f.who] = text
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	state := func(f fact) (string, bool) { return f.state, true }
	listener := func(f fact) (string, bool) { return f.state, !f.missing }
	violation := func(f fact) (string, bool) {
		return f.state, !strings.HasPrefix(f.who, "other ") && f.state != "ok" && f.state != "leased" && f.state != "ephemeral"
	}
	judged := func(f fact) (string, bool) {
		if f.leased {
			return "ok", true
		}
		return strings.Replace(f.state, "ephemeral", "", 1), !f.missing // no metric tells a client from what is not judged
	}
	page := e.Scrape()
	compare("the page", factsOfPage(e.Get("/").Body), state)
	compare("the JSON of the page", factsOfJSON(t, e.Get("/api/v1/listeners").Body), listener)
	compare("the metrics", factsOfMetrics(t, page), judged)
	compare("list", factsOfTable(output(0, "list")), state)
	compare("list --format=json", factsOfJSON(t, output(0, "list", "--format=json")), listener)
	compare("audit", factsOfAudit(output(1, "audit")), violation)
	checkDown(t, want, page)
	checkAlerts(t, want, page)
	e.Stop()

	// A client that is young is not there yet.
	e = run(leasing...).Listen()
	e.URL = "http://127.0.0.1:10190"
	e.AwaitReady()
	young := func(f fact) (string, bool) { return f.state, f.state != "ephemeral" }
	compare("the page with young clients", factsOfPage(e.Get("/").Body), young)
	e.Stop()
}

var (
	rowOfListener = regexp.MustCompile(`(?s)<tr[^>]*><td class="st[^"]*">(?:<b>)?(?:<i[^>]*>.</i> )?([^<]*).*?<th scope="row" class="po">(\d+)<span>/(\w+)</span></th><td class="ad">([^<]*?)(?: <small>([^<]*)</small>)?</td>.*?<td class="ns">([^<]*)</td></tr>`)
	rowOfService  = regexp.MustCompile(`<td class="st bad"><b><i aria-hidden="true">✗</i> (missing)</b>.*?<th scope="row" class="po">([\d,]+)<span>/(\w+)</span></th>`)
	deviceInNote  = regexp.MustCompile(`on ([^, ]+)`)
	auditFinding  = regexp.MustCompile(`(?m)^(tcp|udp) (.*:)?([\d,]+): ([a-z]+): `)
)

func factsOfPage(text string) map[string]string {
	found := make(map[string]string)
	_, table, _ := strings.Cut(text, `<table id="listeners"`)
	for _, cells := range rowOfListener.FindAllStringSubmatch(table, -1) {
		state, device := strings.TrimSpace(cells[1]), ""
		switch state {
		case "as declared":
			state = "ok"
		case "not judged":
			state = ""
		}
		if on := deviceInNote.FindStringSubmatch(cells[5]); on != nil {
			device = on[1]
		}
		for address := range strings.SplitSeq(cells[4], ", ") { // of one service
			found[place(cells[6], cells[3], address, device, cells[2])] = state
		}
	}
	for _, cells := range rowOfService.FindAllStringSubmatch(text, -1) {
		found[cells[3]+" "+cells[2]] = cells[1]
	}
	return found
}

func factsOfMetrics(t *testing.T, page string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	samples := program.Samples(t, page)
	for _, series := range slices.Sorted(maps.Keys(samples)) { // host_listen_port{ is the last of them
		name, _, _ := strings.Cut(series, "{")
		l := func(label string) string { return program.Label(series, label) }
		at := place(l("netns"), l("proto"), l("address"), l("device"), l("port"))
		switch name {
		case "host_listen_port_registered":
			found[at] = map[string]string{"1": "ok", "0": "violation"}[samples[series]]
		case "host_listen_port_violation":
			if found[at] != "violation" {
				found[at] += ", but " + l("reason")
				break
			}
			found[at] = l("reason")
		case "host_listen_port":
			if _, known := found[at]; !known {
				found[at] = ""
			}
		}
	}
	return found
}

func factsOfTable(text string) map[string]string {
	found := make(map[string]string)
	for _, line := range program.Lines(text)[1:] {
		c := strings.Fields(line)
		at := place(c[8], c[0], c[1], "", c[2])
		if c[5] == "missing" {
			at = c[0] + " " + c[2]
		}
		found[at] = strings.TrimPrefix(c[5], "-")
	}
	return found
}

func factsOfJSON(t *testing.T, text string) map[string]string {
	t.Helper()
	var list struct {
		Listeners []struct {
			Proto, Address, Device, Netns string
			Port                          int
			State                         *string
			Registered                    *bool
			Violation                     *struct{ Reason string }
		}
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, l := range list.Listeners {
		state, reason := "", ""
		if l.State != nil {
			state, reason = *l.State, *l.State
		}
		if state == "ok" || state == "leased" || state == "ephemeral" {
			reason = ""
		}
		got := ""
		if l.Violation != nil {
			got = l.Violation.Reason
		}
		if judged := state != "" && state != "ephemeral"; got != reason || (l.Registered != nil) != judged || judged && *l.Registered != (reason == "") {
			state += ", and another thing in the other fields"
		}
		found[place(l.Netns, l.Proto, l.Address, l.Device, fmt.Sprint(l.Port))] = state
	}
	return found
}

func factsOfAudit(text string) map[string]string {
	found := make(map[string]string)
	for _, parts := range auditFinding.FindAllStringSubmatch(text, -1) {
		found[parts[1]+" "+parts[2]+parts[3]] = parts[4]
	}
	return found
}

// checkDown checks host_listen_service_up: a service that listens only as it should not is not up.
func checkDown(t *testing.T, want []fact, page string) {
	t.Helper()
	var down, wanted []string
	for series, value := range program.Samples(t, page) {
		if strings.HasPrefix(series, "host_listen_service_up{") && value == "0" {
			down = append(down, program.Label(series, "proto")+" "+program.Label(series, "port"))
		}
	}
	for _, f := range want {
		if f.down {
			proto, address, _ := strings.Cut(f.who, " ")
			wanted = append(wanted, proto+" "+address[strings.LastIndexByte(address, ':')+1:])
		}
	}
	slices.Sort(down)
	slices.Sort(wanted)
	if diff := cmp.Diff(wanted, down); diff != "" {
		t.Errorf("services that are not up (-want +reported):\n%s", diff)
	}
}

// checkAlerts has Prometheus see a metrics page for half an hour, and checks which alerts fire then.
func checkAlerts(t *testing.T, want []fact, page string) {
	t.Helper()
	const target = `job="listen_exporter",instance="web1:10190"`
	rules, err := filepath.Abs(filepath.Join(host.Root, "alerts/listen_exporter.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var test strings.Builder
	fmt.Fprintf(&test, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n  - {series: 'up{%s}', values: 1x30}\n", rules, target)
	for series, value := range program.Samples(t, page) {
		if !strings.HasPrefix(series, "host_listen_") {
			continue
		}
		name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		step := 0
		if name == "host_listen_time_seconds" {
			step = 60
		}
		fmt.Fprintf(&test, "  - series: |-\n      %s{%s,%s}\n    values: '%s+%dx30'\n", name, target, labels, value, step)
	}
	test.WriteString("  promql_expr_test:\n  - expr: 'count by (alertname, proto, port, service_name) (ALERTS{alertstate=\"firing\", port!=\"\"})'\n    eval_time: 30m\n    exp_samples:\n")
	for _, f := range want {
		if f.alert == "" {
			continue
		}
		proto, address, _ := strings.Cut(f.who, " ")
		alert, service, named := strings.Cut(f.alert, " ")
		if named {
			service = fmt.Sprintf(",service_name=%q", service)
		}
		fmt.Fprintf(&test, "    - {labels: '{alertname=%q,proto=%q,port=%q%s}', value: 1}\n",
			alert, proto, address[strings.LastIndexByte(address, ':')+1:], service)
	}
	file := filepath.Join(t.TempDir(), "facts.test.yml")
	if err := os.WriteFile(file, []byte(test.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	tools.Promtool(t, "test", "rules", file)
}
