package examples

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// ruleTest is a file for `promtool test rules`, which evaluates queries with Prometheus' own engine.
type ruleTest struct {
	EvaluationInterval string        `yaml:"evaluation_interval"`
	Tests              []ruleTestSet `yaml:"tests"`
}

type ruleTestSet struct {
	Name        string       `yaml:"name"`
	Interval    string       `yaml:"interval"`
	InputSeries []testSeries `yaml:"input_series"`
	Expressions []testQuery  `yaml:"promql_expr_test"`
}

type testSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type testQuery struct {
	Expr     string       `yaml:"expr"`
	EvalTime string       `yaml:"eval_time"`
	Samples  []testSample `yaml:"exp_samples"`
}

type testSample struct {
	Labels string  `yaml:"labels"`
	Value  float64 `yaml:"value"`
}

// evaluate runs the queries and compares their answers.
func evaluate(t *testing.T, sets ...ruleTestSet) {
	t.Helper()
	text, err := yaml.Marshal(ruleTest{EvaluationInterval: "1m", Tests: sets})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "queries.test.yml")
	write(t, file, string(text))
	tools.Promtool(t, "test", "rules", file)
}

// interpolate replaces the dashboard's variables: every job, every host, the last six hours in steps of four minutes.
func interpolate(t *testing.T, expr string) string {
	t.Helper()
	expr = strings.NewReplacer(
		`"$job"`, `".+"`, `"$instance"`, `".+"`, `[$__rate_interval]`, `[5m]`, `$__range_s`, `21600`,
		`$__interval_ms`, `240000`, `$__interval`, `4m`, `$1`, "\x00",
	).Replace(expr)
	if left := regexp.MustCompile(`\$\w+`).FindString(expr); left != "" {
		t.Errorf("%s: the test has no value for %s", expr, left)
	}
	return strings.ReplaceAll(expr, "\x00", `$1`)
}

// TestEveryQueryIsValidAndHasAnAnswer runs each query over the series of a real exporter: a wrong metric, a wrong label or a join
// that never matches has no answer. test/incidents asks a running Prometheus the same, while things go wrong.
func TestEveryQueryIsValidAndHasAnAnswer(t *testing.T) {
	tools.Look(t, "promtool")
	const target = `job="listen_exporter",instance="a:10190"`
	// Values of a busy host, by metric; all others are those of the exporter. An hour has 61 samples.
	lively := map[string]string{
		"host_listen_port_accept_queue_length":          "3x60",
		"host_listen_port_receive_queue_bytes":          "768x60",
		"host_listen_port_drops_total":                  "0+10x60",
		"host_listen_port_first_seen_timestamp_seconds": "1800x60",
	}
	set := ruleTestSet{
		Name:     "an hour of a host",
		Interval: "1m",
		InputSeries: []testSeries{
			{Series: "up{" + target + "}", Values: "1x60"},
			{Series: `host_listen_ports_omitted{job="listen_exporter",instance="b:10190"}`, Values: "2x60"},
			{Series: `host_listen_registry_last_reload_successful{job="listen_exporter",instance="b:10190"}`, Values: "0x60"},
			{Series: `host_listen_registry_last_reload_success_timestamp_seconds{job="listen_exporter",instance="b:10190"}`, Values: "0x60"},
			{Series: "scrape_samples_scraped{" + target + "}", Values: "500x60"},
			{Series: `ALERTS{alertname="PortVanished",alertstate="firing",severity="warning",proto="tcp",port="443",` + target + "}", Values: "1x60"},
			{
				Series: "host_listen_port{" + target + `,proto="tcp",family="ipv4",address="0.0.0.0",port="22",scope="any",range="privileged"}`,
				Values: "1x60",
			},
			{
				Series: "host_listen_port{" + target + `,proto="tcp",family="ipv4",address="0.0.0.0",port="443",scope="any",range="privileged"}`,
				Values: "1x30 stale",
			},
		},
	}
	for _, s := range everySeries(t) {
		if strings.Contains(s.labels, `port="22"`) || strings.Contains(s.labels, `port="443"`) {
			continue // of this machine; it would clash with those above
		}
		values := s.value + "x60"
		if other, found := lively[s.name]; found {
			values = other
		}
		labels := strings.Trim(target+","+s.labels, ",")
		set.InputSeries = append(set.InputSeries, testSeries{Series: s.name + "{" + labels + "}", Values: values})
	}
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			set.Expressions = append(set.Expressions, testQuery{
				Expr:     "count(" + interpolate(t, q.Expr) + ") > bool 0",
				EvalTime: "1h",
				Samples:  []testSample{{Labels: "{}", Value: 1}},
			})
		}
	}
	evaluate(t, set)
}

// TestEveryLabelInAQueryExists: grouping by a label that no series has is no error, and has an answer.
func TestEveryLabelInAQueryExists(t *testing.T) {
	// Labels that not every host has, labels of alerts, and one of label_replace.
	known := map[string]bool{
		"job": true, "instance": true, "netns": true, "device": true, "unit": true, "service_name": true, "reason": true, "team": true,
		"container_id": true, "pod_uid": true, "alertname": true, "alertstate": true, "severity": true, "problem": true,
	}
	for _, s := range everySeries(t) {
		for _, found := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(s.labels, -1) {
			known[found[1]] = true
		}
	}
	lists := regexp.MustCompile(`\b(?:by|on|without|ignoring|group_left|group_right) \(([^)]*)\)`)
	matchers := regexp.MustCompile(`[{,]([a-z_]+)(?:=|!=|=~|!~)"`)
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			var labels []string
			for _, found := range lists.FindAllStringSubmatch(q.Expr, -1) {
				labels = append(labels, strings.Split(found[1], ", ")...)
			}
			for _, found := range matchers.FindAllStringSubmatch(q.Expr, -1) {
				labels = append(labels, found[1])
			}
			for _, found := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(q.LegendFormat, -1) {
				labels = append(labels, found[1])
			}
			for _, label := range labels {
				if label != "" && !known[label] {
					t.Errorf("%q: no series has the label %q of %s", p.Title, label, q.Expr)
				}
			}
		}
	}
}

// TestVanishedListsOnlyRealLosses: one host lost a port, and others only seem to have lost one.
func TestVanishedListsOnlyRealLosses(t *testing.T) {
	port := func(host, address, portRange, values string) testSeries {
		return testSeries{
			Series: fmt.Sprintf(`host_listen_port{job="listen_exporter",instance=%q,proto="tcp",address=%q,port="443",range=%q}`, host, address, portRange),
			Values: values,
		}
	}
	success := func(host, values string) testSeries {
		return testSeries{
			Series: fmt.Sprintf(`host_listen_collector_success{job="listen_exporter",instance=%q,collector="tcp"}`, host),
			Values: values,
		}
	}
	evaluate(t, ruleTestSet{
		Name:     "vanished",
		Interval: "1m",
		InputSeries: []testSeries{
			port("lost", "0.0.0.0", "privileged", "1x29 stale"), success("lost", "1x70"),
			port("kept", "0.0.0.0", "privileged", "1x70"), success("kept", "1x70"),
			port("lost long ago", "0.0.0.0", "privileged", "1x5 stale"), success("lost long ago", "1x70"),
			port("failed", "0.0.0.0", "privileged", "1x29 stale"), success("failed", "1x29 0x40"),
			port("down", "0.0.0.0", "privileged", "1x29 stale"), success("down", "1x29 stale"),
			port("moved", "0.0.0.0", "privileged", "1x29 stale"), port("moved", "::", "privileged", "_x30 1x39"), success("moved", "1x70"),
			port("sysctl", "0.0.0.0", "privileged", "1x29 stale"), port("sysctl", "0.0.0.0", "ephemeral", "_x30 1x39"), success("sysctl", "1x70"),
			port("cut off", "0.0.0.0", "privileged", "1x29 stale"), success("cut off", "1x70"),
			{Series: `host_listen_ports_omitted{job="listen_exporter",instance="cut off"}`, Values: "0x29 1x40"},
			{Series: `host_listen_ports_omitted{job="listen_exporter",instance="lost"}`, Values: "0x70"},
			port("noise", "0.0.0.0", "ephemeral", "1x29 stale"), success("noise", "1x70"),
		},
		Expressions: []testQuery{{
			Expr:     interpolate(t, queryOf(t, "Vanished in the last hour")),
			EvalTime: "70m",
			// There are 61 scrapes from minute 10 on, and the port is in those up to minute 29.
			Samples: []testSample{{Labels: `{instance="lost",proto="tcp",port="443"}`, Value: 20.0 / 61}},
		}},
	})
}

// TestAQueueIsFullWhenTheKernelDropsNewConnections has listeners with several backlogs, and one read through procfs.
func TestAQueueIsFullWhenTheKernelDropsNewConnections(t *testing.T) {
	series := func(metric, port, address, values string) testSeries {
		return testSeries{
			Series: fmt.Sprintf(`%s{job="listen_exporter",instance="a",proto="tcp",address=%q,port=%q}`, metric, address, port),
			Values: values,
		}
	}
	length, limit := "host_listen_port_accept_queue_length", "host_listen_port_accept_queue_limit"
	evaluate(t, ruleTestSet{
		Name:     "the share in use",
		Interval: "1m",
		InputSeries: []testSeries{
			series(length, "full", "::", "128"), series(limit, "full", "::", "127"),
			series(length, "full", "127.0.0.1", "1"), series(limit, "full", "127.0.0.1", "4096"),
			series(length, "half", "::", "64"), series(limit, "half", "::", "127"),
			series(length, "empty", "::", "0"), series(limit, "empty", "::", "128"),
			series(length, "listen(0), idle", "::", "0"), series(limit, "listen(0), idle", "::", "0"),
			series(length, "listen(0), full", "::", "1"), series(limit, "listen(0), full", "::", "0"),
			series(length, "procfs", "::", "4"),
		},
		Expressions: []testQuery{{
			Expr:     interpolate(t, queryOf(t, "TCP accept queue, share in use")),
			EvalTime: "0m",
			Samples: []testSample{
				{Labels: `{instance="a",port="full"}`, Value: 1},
				{Labels: `{instance="a",port="half"}`, Value: 0.5},
				{Labels: `{instance="a",port="listen(0), full"}`, Value: 1},
			},
		}},
	})
}

// TestDropsAreDrawnInThePanelOfTheirProtocol asks both panels about a host that drops packets of both protocols.
func TestDropsAreDrawnInThePanelOfTheirProtocol(t *testing.T) {
	set := ruleTestSet{Name: "drops", Interval: "1m"}
	for _, proto := range []string{"tcp", "udp"} {
		set.InputSeries = append(set.InputSeries, testSeries{
			Series: fmt.Sprintf(`host_listen_port_drops_total{job="listen_exporter",instance="a",proto=%q,port="of %s"}`, proto, proto),
			Values: "0+60x10",
		})
		set.Expressions = append(set.Expressions, testQuery{
			Expr:     interpolate(t, queryOf(t, strings.ToUpper(proto)+" drops")),
			EvalTime: "10m",
			Samples:  []testSample{{Labels: fmt.Sprintf(`{instance="a",port="of %s"}`, proto), Value: 1}},
		})
	}
	evaluate(t, set)
}

// TestNewAndVanishedListenersAreCounted: one host changes within a step of four minutes, and others only seem to.
func TestNewAndVanishedListenersAreCounted(t *testing.T) {
	var series []testSeries
	add := func(host, metric, labels, values string) {
		series = append(series, testSeries{fmt.Sprintf(`%s{job="listen_exporter",instance=%q,%s}`, metric, host, labels), values})
	}
	port := func(host, port, values string) {
		add(host, "host_listen_port", fmt.Sprintf(`proto="tcp",address="0.0.0.0",port=%q,range="user"`, port), values)
	}
	firstSeen := func(host, port, values string) {
		add(host, "host_listen_port_first_seen_timestamp_seconds", fmt.Sprintf(`proto="tcp",address="0.0.0.0",port=%q,range="user"`, port), values)
	}
	for _, host := range []string{"changed", "failed", "down", "cut off", "young"} {
		up, success := "1x20", "1x20"
		switch host {
		case "failed":
			success = "1x9 0x10"
		case "down":
			up, success = "1x9 0x10", "1x9 stale"
		}
		add(host, "up", `env="prod"`, up)
		add(host, "host_listen_collector_success", `collector="tcp"`, success)
		port(host, "22", map[bool]string{true: "1x9 stale", false: "1x20"}[host == "down"])
	}
	// By minute 12 it has lost two and gained one, which appeared at minute 10.
	port("changed", "80", "1x9 stale")
	port("changed", "443", "1x9 stale")
	port("changed", "8080", "_x10 1x9")
	firstSeen("changed", "8080", "_x10 600x9")
	port("failed", "80", "1x9 stale")
	port("cut off", "80", "1x9 stale")
	add("cut off", "host_listen_ports_omitted", "", "0x9 1x10")
	// A restarted exporter did not see its listeners appear.
	port("young", "8081", "_x10 1x9")
	var expressions []testQuery
	for n, want := range []float64{1, 2} {
		expressions = append(expressions, testQuery{
			Expr:     interpolate(t, panelOf(t, "New and vanished over time").Targets[n].Expr),
			EvalTime: "12m",
			Samples:  []testSample{{Labels: "{}", Value: want}},
		})
	}
	evaluate(t, ruleTestSet{Name: "new and vanished", Interval: "1m", InputSeries: series, Expressions: expressions})
}

// queryOf returns the one query of a panel.
func queryOf(t *testing.T, title string) string {
	t.Helper()
	p := panelOf(t, title)
	if len(p.Targets) != 1 {
		t.Fatalf("the panel %q has %d queries", title, len(p.Targets))
	}
	return p.Targets[0].Expr
}

func panelOf(t *testing.T, title string) panel {
	t.Helper()
	for _, p := range readDashboard(t).Panels {
		if p.Title == title {
			return p
		}
	}
	t.Fatalf("no panel %q", title)
	return panel{}
}
