//go:build linux

package alerts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

const (
	exporterAddress   = "127.0.0.1:10190"
	prometheusAddress = "127.0.0.1:9090"
)

const (
	// speed is how much faster than in the shipped rules time runs here. A machine that stands still for some seconds is to
	// fire nothing: the shortest time after which a down exporter is an alert, 5 minutes, is still 15 seconds.
	speed = 20
	// interval is the time between two scrapes, and their timeout.
	interval = 2 * time.Second
	// patience is how long a busy machine may take for what takes an idle one less than a minute.
	patience = 3 * time.Minute
)

// TestPortVanishedFiresInPrometheusWhenAListenerCloses runs the real exporter and a real Prometheus with the shipped rules.
// Listeners are held open, and no alert fires; one of them is closed, and PortVanished fires for it, and nothing else does.
func TestPortVanishedFiresInPrometheusWhenAListenerCloses(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a real Prometheus. The unit tests of the rules hold the same")
	}
	prometheus := lookPath(t, "prometheus")
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	exporter := buildExporter(t)
	netnstest.Run(t, func(t *testing.T) {
		vanishing := listen(t, "tcp", "0.0.0.0:8080")
		staying := listen(t, "tcp", "0.0.0.0:8443")
		expected := listen(t, "tcp", "[::]:22")
		loopback := listen(t, "tcp", "127.0.0.1:25")
		dropping, err := net.ListenPacket("udp", "0.0.0.0:1514") // has a drop counter
		if err != nil {
			t.Fatal(err)
		}
		start(t, exporter, "--collector.netns=self", "--web.listen-address="+exporterAddress)
		await(t, "the exporter is ready", func() bool { return get(t, "http://"+exporterAddress+"/-/ready", nil) == nil })
		startPrometheus(t, prometheus)

		// A healthy host, for longer than any alert's for, and for long enough that the alert on the loss then lasts: as
		// many scrapes as these may follow before the port was no longer open most of the time.
		await(t, "24 scrapes have shown the port", func() bool {
			checkSilent(t)
			return query(t, `count_over_time(host_listen_port{port="8080"}[1h])`) >= 24
		})
		if r := ruleNamed(t, "PortVanished"); r.State != "inactive" {
			t.Fatalf("PortVanished is %s while the port is open", r.State)
		}

		if err := vanishing.Close(); err != nil {
			t.Fatal(err)
		}
		await(t, "PortVanished fires", func() bool { return ruleNamed(t, "PortVanished").State == "firing" })
		// Prometheus itself has written down what a busy test would miss between two questions.
		if rounds := query(t, `count_over_time(ALERTS{alertname="PortVanished",alertstate="pending"}[1h])`); rounds == 0 {
			t.Error("PortVanished fires without having been pending")
		}
		// It goes on, and in all the time it was the only one.
		await(t, "PortVanished has fired in three rounds", func() bool {
			return query(t, `count_over_time(ALERTS{alertname="PortVanished",alertstate="firing"}[1h])`) >= 3
		})
		want := []map[string]string{{
			"alertname": "PortVanished", "alertstate": "firing", "severity": "warning", "instance": exporterAddress,
			"job": "listen_exporter", "env": "test", "proto": "tcp", "port": "8080",
		}}
		if diff := cmp.Diff(want, seriesOf(t, `max_over_time(ALERTS{alertstate="firing"}[1h])`)); diff != "" {
			t.Errorf("alerts that fired at any time (-want +got):\n%s", diff)
		}

		// The garbage collector closes a listener that nobody refers to.
		for _, held := range []any{staying, expected, loopback, dropping} {
			runtime.KeepAlive(held)
		}
	})
}

// TestAcceptQueueFullFiresInPrometheusWhileAProgramDoesNotAccept has a listener beside it whose queue is full to its limit,
// where the kernel still lets one connection in. That one is silent. The alert ends once the program accepts.
func TestAcceptQueueFullFiresInPrometheusWhileAProgramDoesNotAccept(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a real Prometheus. The unit tests of the rules hold the same")
	}
	prometheus := lookPath(t, "prometheus")
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	exporter := buildExporter(t)
	netnstest.Run(t, func(t *testing.T) {
		const backlog = 1
		stuck, slow := listen(t, "tcp", "127.0.0.1:8080"), listen(t, "tcp", "127.0.0.1:8081")
		setBacklog(t, stuck, backlog)
		setBacklog(t, slow, backlog)
		start(t, exporter, "--collector.netns=self", "--web.listen-address="+exporterAddress)
		await(t, "the exporter is ready", func() bool { return get(t, "http://"+exporterAddress+"/-/ready", nil) == nil })
		startPrometheus(t, prometheus)

		clients := []net.Conn{dial(t, slow)}
		for range backlog + 1 {
			clients = append(clients, dial(t, stuck))
		}
		if late, err := net.DialTimeout("tcp", stuck.Addr().String(), 100*time.Millisecond); err == nil {
			late.Close()
			t.Error("the kernel let one connection more in")
		}
		await(t, "AcceptQueueFull fires", func() bool { return ruleNamed(t, "AcceptQueueFull").State == "firing" })
		want := []map[string]string{{
			"alertname": "AcceptQueueFull", "alertstate": "firing", "severity": "critical", "instance": exporterAddress,
			"job": "listen_exporter", "env": "test", "proto": "tcp", "port": "8080",
		}}
		if diff := cmp.Diff(want, seriesOf(t, `max_over_time(ALERTS{alertstate="firing"}[5m])`)); diff != "" {
			t.Errorf("alerts that fired at any time (-want +got):\n%s", diff)
		}

		for range backlog + 1 {
			accepted, err := stuck.Accept()
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, accepted)
		}
		await(t, "AcceptQueueFull ends", func() bool { return ruleNamed(t, "AcceptQueueFull").State == "inactive" })
		runtime.KeepAlive(clients)
		runtime.KeepAlive(slow)
	})
}

// setBacklog changes the backlog of a listener: listen(2) may be called again.
func setBacklog(t *testing.T, listener net.Listener, backlog int) {
	t.Helper()
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), backlog) }); err != nil {
		t.Fatal(err)
	}
	if listenErr != nil {
		t.Fatal(listenErr)
	}
}

// dial connects to a listener, which need not accept.
func dial(t *testing.T, listener net.Listener) net.Conn {
	t.Helper()
	client, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// buildExporter builds the program as it is in this checkout.
func buildExporter(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "listen_exporter")
	cmd := exec.Command(lookPath(t, "go"), "build", "-o", binary, ".")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	return binary
}

// startPrometheus runs Prometheus with the shipped rules, sped up, until the end of the test.
func startPrometheus(t *testing.T, prometheus string) {
	t.Helper()
	start(t, prometheus, "--config.file="+configure(t), "--storage.tsdb.path="+t.TempDir(),
		"--web.listen-address="+prometheusAddress, "--log.level=warn")
	await(t, "Prometheus is ready", func() bool { return get(t, "http://"+prometheusAddress+"/-/ready", nil) == nil })
}

// configure writes a configuration of Prometheus with the shipped rules, sped up, and returns its path.
func configure(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.yml")
	if err := os.WriteFile(rules, []byte(spedUp(read(t, mainRules))), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: 1s}
rule_files: [%[2]q]
scrape_configs:
  - job_name: listen_exporter
    static_configs: [{targets: [%[3]q], labels: {env: test}}]
`, interval, rules, exporterAddress)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// duration finds a window, the step of a subquery or a for of a rule file, such as [1h], [1h:1m] or for: 2m.
var duration = regexp.MustCompile(`(\[|:|\bfor: )(\d+)([hm])\b`)

// spedUp returns rules in which time runs faster: an hour is 3 minutes, and a minute is 3 seconds.
func spedUp(rules string) string {
	return duration.ReplaceAllStringFunc(rules, func(found string) string {
		parts := duration.FindStringSubmatch(found)
		number, _ := strconv.Atoi(parts[2]) // digits, by the pattern
		seconds := map[string]int{"h": 3600, "m": 60}[parts[3]]
		return fmt.Sprintf("%s%ds", parts[1], number*seconds/speed)
	})
}

func TestRulesAreSpedUpByAFactorOfTwenty(t *testing.T) {
	for _, tc := range []struct{ name, rules, want string }{
		{"hours of a window", "rate(x[1h])", "rate(x[180s])"},
		{"minutes of a window", "rate(x[5m]) / rate(x[30m])", "rate(x[15s]) / rate(x[90s])"},
		{"a subquery", "max_over_time(x[1h:1m])", "max_over_time(x[180s:3s])"},
		{"how long to wait", "        for: 2m\n", "        for: 6s\n"},
		{"nothing else", "after 5m # wait for 2m\nport=~\"[1-9]\"", "after 5m # wait for 2m\nport=~\"[1-9]\""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, spedUp(tc.rules)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// checkMetricsOfTheRules reports metrics of ours that a rule names and the running exporter does not serve.
func checkMetricsOfTheRules(t *testing.T) {
	t.Helper()
	var served string
	if err := get(t, "http://"+exporterAddress+"/metrics", &served); err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, file := range ruleFiles {
		for _, r := range rulesOf(t, file) {
			for _, name := range regexp.MustCompile(`\b(host_listen|promhttp)_\w+`).FindAllString(r.Expr+r.Annotations["description"], -1) {
				named[name] = true
			}
		}
	}
	if len(named) == 0 {
		t.Error("the rules name no metric")
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !regexp.MustCompile(`(?m)^# TYPE ` + name + ` `).MatchString(served) {
			t.Errorf("the rules name %s, which the exporter does not serve", name)
		}
	}
}

// alertRule is an alerting rule as Prometheus reports it at /api/v1/rules.
type alertRule struct {
	Name, State, Health, LastError string
	Alerts                         []alert
}

// alert is an alert that waits or fires.
type alert struct {
	State               string
	Labels, Annotations map[string]string
}

// alertRules asks Prometheus for its alerting rules, and fails where one of them could not be evaluated.
func alertRules(t *testing.T) []alertRule {
	t.Helper()
	var data struct {
		Groups []struct{ Rules []alertRule }
	}
	api(t, "rules?type=alert", &data)
	var rules []alertRule
	for _, group := range data.Groups {
		rules = append(rules, group.Rules...)
	}
	for _, r := range rules {
		if r.Health == "err" {
			t.Fatalf("Prometheus cannot evaluate %s: %s", r.Name, r.LastError)
		}
	}
	return rules
}

func ruleNamed(t *testing.T, name string) alertRule {
	t.Helper()
	for _, r := range alertRules(t) {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("Prometheus knows no rule %s", name)
	return alertRule{}
}

// firing returns all alerts that fire.
func firing(t *testing.T) []alert {
	t.Helper()
	var alerts []alert
	for _, r := range alertRules(t) {
		for _, a := range r.Alerts {
			if a.State == "firing" {
				alerts = append(alerts, a)
			}
		}
	}
	return alerts
}

func checkSilent(t *testing.T) {
	t.Helper()
	if alerts := firing(t); len(alerts) > 0 {
		t.Fatalf("alerts fire for a healthy host: %v", alerts)
	}
}

// sample is one element of an instant vector: its time and, as text, its value.
type sample struct {
	Metric map[string]string
	Value  [2]any
}

// evaluate evaluates an expression now.
func evaluate(t *testing.T, expression string) []sample {
	t.Helper()
	var data struct{ Result []sample }
	api(t, "query?query="+url.QueryEscape(expression), &data)
	return data.Result
}

// query evaluates an expression of one sample, and returns its value, or 0 where there is none.
func query(t *testing.T, expression string) float64 {
	t.Helper()
	samples := evaluate(t, expression)
	if len(samples) == 0 {
		return 0
	}
	var value float64
	if _, err := fmt.Sscan(fmt.Sprint(samples[0].Value[1]), &value); err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// seriesOf evaluates an expression, and returns the labels of its samples.
func seriesOf(t *testing.T, expression string) []map[string]string {
	t.Helper()
	var labels []map[string]string
	for _, s := range evaluate(t, expression) {
		labels = append(labels, s.Metric)
	}
	return labels
}

// api asks Prometheus, and decodes the data of its answer.
func api(t *testing.T, path string, data any) {
	t.Helper()
	var text string
	if err := get(t, "http://"+prometheusAddress+"/api/v1/"+path, &text); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &struct{ Data any }{data}); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, text)
	}
}

// get fetches a page that must answer with status 200, and stores its text unless it is nil.
func get(t *testing.T, address string, text *string) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 30 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read %s: %w", address, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", address, response.Status, body)
	}
	if text != nil {
		*text = string(body)
	}
	return nil
}

// await asks again and again, and fails the test where the answer is no for too long.
func await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// start runs a program until the end of the test, and shows its output if the test failed.
func start(t *testing.T, program string, arguments ...string) {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(program, arguments...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		var err error
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err = <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			err = <-ended
			t.Errorf("%s did not end within 30 seconds of SIGTERM", filepath.Base(program))
		}
		if err != nil || t.Failed() {
			t.Errorf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, &output)
		}
	})
}
