//go:build linux

package alerts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	exporterAddress   = "127.0.0.1:10190"
	prometheusAddress = "127.0.0.1:9090"
)

const (
	// speed is how much faster than in the shipped rules time runs here. A machine that pauses for some seconds must fire
	// nothing: 5 minutes, the shortest time after which ListenExporterDown fires, are still 15 seconds.
	speed = 20
	// interval is the time between two scrapes, and their timeout.
	interval = 2 * time.Second
	// patience is how long a busy machine may take for what takes an idle one less than a minute.
	patience = 3 * time.Minute
)

// host is a host with an exporter and a Prometheus.
type host struct{ exporter, prometheus string }

// prepare finds the programs of a host, and skips the test where that cannot be. Tests run in parallel: they mostly wait.
func prepare(t *testing.T) host {
	t.Helper()
	if testing.Short() {
		t.Skip("waits for a real Prometheus. The unit tests of the rules hold the same")
	}
	t.Parallel()
	return host{program.Path(t), tools.Look(t, "prometheus")}
}

// start starts the exporter and Prometheus with the shipped rules, sped up.
func (h host) start(t *testing.T, flags ...string) (*program.Exporter, *prometheus) {
	t.Helper()
	flags = append(flags, "--collector.netns=self", "--web.listen-address="+exporterAddress)
	exporter := program.Launch(t, exec.Command(h.exporter, flags...)).Listen()
	exporter.AwaitReady()

	dir := t.TempDir()
	rules, config := filepath.Join(dir, "rules.yml"), filepath.Join(dir, "prometheus.yml")
	write(t, rules, spedUp(tools.Read(t, mainRules)))
	write(t, config, fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: 1s}
rule_files: [%[2]q]
scrape_configs:
  - job_name: listen_exporter
    static_configs: [{targets: [%[3]q], labels: {env: test}}]
`, interval, rules, exporterAddress))
	p := &prometheus{program.Launch(t, exec.Command(h.prometheus, "--config.file="+config, "--storage.tsdb.path="+dir,
		"--enable-feature=promql-experimental-functions", "--web.listen-address="+prometheusAddress, "--log.level=warn"))}
	p.URL = "http://" + prometheusAddress
	p.await(t, "Prometheus is ready", func() bool {
		answer, err := p.Request(http.MethodGet, "/-/ready")
		return err == nil && answer.Status == http.StatusOK
	})
	return exporter, p
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

// checkMetricsOfTheRules reports our metrics that a rule names and that are not on the exporter's page.
func checkMetricsOfTheRules(t *testing.T, page string) {
	t.Helper()
	found := 0
	for _, file := range ruleFiles {
		for _, r := range rulesOf(t, file) {
			for _, name := range regexp.MustCompile(`\b(host_listen|promhttp)_\w+`).FindAllString(r.Expr+r.Annotations["description"], -1) {
				found++
				if !regexp.MustCompile(`(?m)^# TYPE ` + name + ` `).MatchString(page) {
					t.Errorf("%s names %s, which the exporter does not serve", file, name)
				}
			}
		}
	}
	if found == 0 {
		t.Error("the rules name no metric")
	}
}

// prometheus is a running Prometheus.
type prometheus struct{ *program.Exporter }

// alert is an alert that is pending or firing.
type alert struct {
	State               string
	Labels, Annotations map[string]string
}

// alertRule is an alerting rule as Prometheus reports it at /api/v1/rules.
type alertRule struct {
	Name, State, Health, LastError string
	Alerts                         []alert
}

// rules returns the alerting rules, each of which Prometheus must be able to evaluate.
func (p *prometheus) rules(t *testing.T) []alertRule {
	t.Helper()
	var data struct {
		Groups []struct{ Rules []alertRule }
	}
	p.api(t, "rules?type=alert", &data)
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

// stateOf returns the state of an alerting rule: inactive, pending or firing.
func (p *prometheus) stateOf(t *testing.T, name string) string {
	t.Helper()
	for _, r := range p.rules(t) {
		if r.Name == name {
			return r.State
		}
	}
	t.Fatalf("Prometheus has no rule %s", name)
	return ""
}

// firing returns all alerts that fire.
func (p *prometheus) firing(t *testing.T) []alert {
	t.Helper()
	var alerts []alert
	for _, r := range p.rules(t) {
		for _, a := range r.Alerts {
			if a.State == "firing" {
				alerts = append(alerts, a)
			}
		}
	}
	return alerts
}

func (p *prometheus) checkSilent(t *testing.T) {
	t.Helper()
	if alerts := p.firing(t); len(alerts) > 0 {
		t.Fatalf("alerts fire for a healthy host: %v", alerts)
	}
}

// sample is one element of an instant vector: its time and, as text, its value.
type sample struct {
	Metric map[string]string
	Value  [2]any
}

func (p *prometheus) evaluate(t *testing.T, expression string) []sample {
	t.Helper()
	var data struct{ Result []sample }
	p.api(t, "query?query="+url.QueryEscape(expression), &data)
	return data.Result
}

// query returns the value of an expression with one sample, or 0 if there is none.
func (p *prometheus) query(t *testing.T, expression string) float64 {
	t.Helper()
	samples := p.evaluate(t, expression)
	if len(samples) == 0 {
		return 0
	}
	value, err := strconv.ParseFloat(fmt.Sprint(samples[0].Value[1]), 64)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// series returns the labels of an expression's samples.
func (p *prometheus) series(t *testing.T, expression string) []map[string]string {
	t.Helper()
	var labels []map[string]string
	for _, s := range p.evaluate(t, expression) {
		labels = append(labels, s.Metric)
	}
	return labels
}

// api asks Prometheus, and decodes the data of its answer.
func (p *prometheus) api(t *testing.T, path string, data any) {
	t.Helper()
	answer := p.Get("/api/v1/" + path)
	if err := json.Unmarshal([]byte(answer.Body), &struct{ Data any }{data}); err != nil || answer.Status != http.StatusOK {
		t.Fatalf("%s: status %d, %v\n%s", path, answer.Status, err, answer.Body)
	}
}

// await waits until reached returns true.
func (p *prometheus) await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
