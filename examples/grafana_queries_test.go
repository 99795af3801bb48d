//go:build linux

package examples

import (
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/grafana"
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

// interpolate replaces the dashboard's variables: everything of the last six hours.
func interpolate(t *testing.T, expr string) string {
	t.Helper()
	return grafana.Interpolate(t, expr, grafana.Everything, "21600", "5m")
}

// panels yields the panels of all dashboards.
func panels(t *testing.T) iter.Seq[grafana.Panel] {
	t.Helper()
	return func(yield func(grafana.Panel) bool) {
		for _, d := range grafana.Dashboards(t) {
			for p := range d.All() {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// queries yields each query of all dashboards with its panel.
func queries(t *testing.T) iter.Seq2[grafana.Panel, grafana.Target] {
	t.Helper()
	return func(yield func(grafana.Panel, grafana.Target) bool) {
		for p := range panels(t) {
			for _, q := range p.Targets {
				if !yield(p, q) {
					return
				}
			}
		}
	}
}

// TestEveryQueryIsValidAndHasAnAnswer runs each query over the series of a real exporter: a wrong metric, a wrong label or a join
// that never matches has no answer. test/incidents asks a running Prometheus the same, while things go wrong.
func TestEveryQueryIsValidAndHasAnAnswer(t *testing.T) {
	tools.Look(t, "promtool")
	const host, lost = "a:10190", `proto="tcp",port="5432",process="postgres",unit="postgresql.service"`
	const lease = `team="ci",service_name="shop-test",proto="tcp"`
	// Values of a busy host, by metric; all others are those of the exporter. An hour has 61 samples.
	lively := map[string]string{
		"host_listen_port_accept_queue_length":          "3x60",
		"host_listen_port_receive_queue_bytes":          "768x60",
		"host_listen_port_drops_total":                  "0+10x60",
		"host_listen_port_first_seen_timestamp_seconds": "1800x60",
		"host_listen_log_lines_dropped_total":           "0+1x60",
	}
	set := ruleTestSet{
		Name:     "an hour of a host",
		Interval: "1m",
		InputSeries: []testSeries{
			seen(host, "up", "", "1x60"),
			seen("b:10190", "host_listen_ports_omitted", "", "2x60"),
			seen("b:10190", "host_listen_registry_last_reload_successful", "", "0x60"),
			seen("b:10190", "host_listen_registry_last_reload_success_timestamp_seconds", "", "0x60"),
			seen("b:10190", "host_listen_state_last_write_successful", "", "0x60"),
			seen("b:10190", "host_listen_registry_services", "", "0x60"),
			seen("b:10190", "host_listen_port_gone_timestamp_seconds", lost, "1800x60"),
			seen("b:10190", "host_listen_port_flapping", lost, "4x60"),
			seen(host, "host_listen_service_down_start_timestamp_seconds", lost+`,service_name="db"`, "1800x60"),
			seen(host, "host_listen_service_last_change_timestamp_seconds", `proto="tcp",port="5432",service_name="db"`, "1800x60"),
			seen(host, "host_listen_port_accept_queue_full_start_timestamp_seconds", `proto="tcp",family="ipv4",address="0.0.0.0",port="22"`, "1800x60"),
			seen("b:10190", "host_listen_time_seconds", "", "1000000x60"),
			seen("b:10190", "process_start_time_seconds", "", "0x60"),
			seen("b:10190", "host_listen_port_connections_total", `proto="tcp",family="ipv4",address="0.0.0.0",port="22"`, "0x60"),
			seen("b:10190", "host_listen_port_connections_total", `proto="tcp",family="ipv4",address="0.0.0.0",port="80"`, "0+60x60"),
			seen("b:10190", "host_listen_port_last_connection_timestamp_seconds", `proto="tcp",family="ipv4",address="0.0.0.0",port="80"`, "999999x60"),
			seen("b:10190", "host_listen_violations_total", `reason="bind"`, "0+1x60"),
			seen("b:10190", "host_listen_events_lost_total", "", "0+1x60"),
			seen("b:10190", "host_listen_leases", `team="ci"`, "2x60"),
			seen("b:10190", "host_listen_lease_ports_available", `team="ci"`, "98x60"),
			seen("b:10190", "host_listen_lease_info", lease+`,port="40000",uid="1001"`, "1x60"),
			seen("b:10190", "host_listen_lease_overstayed_start_timestamp_seconds", lease+`,port="40001"`, "1800x60"),
			seen(host, "scrape_samples_scraped", "", "500x60"),
			seen(host, "ALERTS", `alertname="PortVanished",alertstate="firing",severity="warning",proto="tcp",port="443"`, "1x60"),
			seen(host, "host_listen_port", `proto="tcp",family="ipv4",address="0.0.0.0",port="22",scope="any",range="privileged"`, "1x60"),
			seen(host, "host_listen_port", `proto="tcp",family="ipv4",address="0.0.0.0",port="443",scope="any",range="privileged"`, "1x30 stale"),
		},
	}
	for _, s := range everySeries(t) {
		if strings.Contains(s.labels, `port="22"`) || strings.Contains(s.labels, `port="443"`) || strings.Contains(s.labels, `netns="`) {
			continue // of this machine: it would clash with those above, or be one of thousands
		}
		values := s.value + "x60"
		if other, found := lively[s.name]; found {
			values = other
		}
		set.InputSeries = append(set.InputSeries, seen(host, s.name, s.labels, values))
	}
	for _, q := range queries(t) {
		set.Expressions = append(set.Expressions, testQuery{
			Expr:     "count(" + interpolate(t, q.Expr) + ") > bool 0",
			EvalTime: "1h",
			Samples:  []testSample{{Labels: "{}", Value: 1}},
		})
	}
	evaluate(t, set)
}

// TestEveryLabelInAQueryExists: grouping by a label that no series has is no error, and has an answer.
func TestEveryLabelInAQueryExists(t *testing.T) {
	// Labels that not every host has, labels of alerts, and one of label_replace.
	known := map[string]bool{
		"job": true, "instance": true, "netns": true, "device": true, "unit": true, "service_name": true, "reason": true, "team": true,
		"container_id": true, "pod_uid": true, "alertname": true, "alertstate": true, "severity": true, "problem": true, "last": true,
	}
	for _, s := range everySeries(t) {
		for _, found := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(s.labels, -1) {
			known[found[1]] = true
		}
	}
	// In a list of labels, in a matcher, and in a legend.
	labelForm := regexp.MustCompile(
		`\b(?:by|on|without|ignoring|group_left|group_right) \(([^)]*)\)|[{,]([a-z_]+)(?:=|!=|=~|!~)"|{{(\w+)}}`)
	for p, q := range queries(t) {
		for _, found := range labelForm.FindAllStringSubmatch(q.Expr+q.LegendFormat, -1) {
			for label := range strings.SplitSeq(found[1]+found[2]+found[3], ", ") {
				if label != "" && !known[label] {
					t.Errorf("%q: no series has the label %q of %s", p.Title, label, q.Expr)
				}
			}
		}
	}
}

// seen returns a series of a host.
func seen(host, metric, labels, values string) testSeries {
	return testSeries{fmt.Sprintf(`%s{job="listen_exporter",instance=%q,%s}`, metric, host, labels), values}
}

// ask returns the query of a panel with that number, and its answer at a time.
func ask(t *testing.T, title string, number int, at string, samples ...testSample) testQuery {
	t.Helper()
	for p := range panels(t) {
		if p.Title == title && number < len(p.Targets) {
			return testQuery{interpolate(t, p.Targets[number].Expr), at, samples}
		}
	}
	t.Fatalf("no panel %q, or no query %d of it", title, number)
	return testQuery{}
}

// TestTheTablesSayWhatIsWrongAndSinceWhen asks the tables of what the exporters remember. Grafana wants milliseconds.
func TestTheTablesSayWhatIsWrongAndSinceWhen(t *testing.T) {
	const last = `proto="tcp",port="443",address="::",process="nginx",unit="nginx.service"`
	listener := `proto="tcp",family="ipv4",address="0.0.0.0",port="25",scope="any",range="privileged"`
	evaluate(t, ruleTestSet{
		Name:     "remembered",
		Interval: "1m",
		InputSeries: []testSeries{
			seen("a", "host_listen_port_gone_timestamp_seconds", last, "60x10"), seen("back", "host_listen_port_gone_timestamp_seconds", last, "60x5 stale"),
			seen("a", "host_listen_service_down_start_timestamp_seconds", last+`,service_name="web"`, "120x10"),
			seen("a", "host_listen_service_down_start_timestamp_seconds", last+`,service_name="vip"`, "120x10"),
			seen("a", "host_listen_service_info", `service_name="vip",required="one-host"`, "1x10"), // it may be on another host
			seen("a", "host_listen_port_flapping", last, "4x10"),
			seen("a", "host_listen_port_accept_queue_full_start_timestamp_seconds", listener, "180x10"),
			seen("a", "host_listen_port_dropping_start_timestamp_seconds", listener, "240x10"),
		},
		Expressions: []testQuery{
			ask(t, "Gone ports now", 0, "10m", testSample{`{instance="a",` + last + `}`, 60_000}),
			ask(t, "Services down now", 0, "10m", testSample{`{instance="a",service_name="web",proto="tcp",port="443",process="nginx",unit="nginx.service"}`, 120_000}),
			ask(t, "Flapping ports now", 0, "10m", testSample{`{instance="a",proto="tcp",port="443",process="nginx",unit="nginx.service"}`, 4}),
			ask(t, "Full queues and losses now", 0, "10m",
				testSample{`{instance="a",proto="tcp",port="25",address="0.0.0.0",problem="accept queue full"}`, 180_000},
				testSample{`{instance="a",proto="tcp",port="25",address="0.0.0.0",problem="loses packets"}`, 240_000}),
		},
	})
}

// TestOneTableSaysWhatIsWrongAndForHowLong, by the clock of the host, which is an hour ahead here. Who chooses a process sees what
// that process holds, or held last.
func TestOneTableSaysWhatIsWrongAndForHowLong(t *testing.T) {
	const last = `proto="tcp",port="443",address="::",process="nginx",unit="nginx.service"`
	listener := func(port, more string) string {
		return `proto="tcp",family="ipv4",address="0.0.0.0",port="` + port + `",scope="any",range="privileged"` + more
	}
	row := func(problem, service, port, process string, seconds float64) testSample {
		text := `{instance="a",problem="` + problem + `",proto="tcp",port="` + port + `"`
		for name, value := range map[string]string{"service_name": service, "process": process} {
			if value != "" {
				text += "," + name + `="` + value + `"`
			}
		}
		return testSample{text + "}", seconds}
	}
	all := []testSample{
		row("service down", "web", "443", "nginx", 4140),
		row("violation: unregistered", "", "8080", "python3", 4120),
		row("violation: forbidden", "", "23", "", 4110),
		row("violation: bind", "db", "5432", "", 4140),
		row("port gone", "", "443", "nginx", 4100),
		row("accept queue full", "", "25", "", 4080),
		row("loses packets", "", "25", "", 4060),
	}
	const title = "Wrong now, and for how long"
	choosing := func(variable, value string, samples ...testSample) testQuery {
		q := ask(t, title, 0, "10m")
		chosen := maps.Clone(grafana.Everything)
		chosen[variable] = value
		for p, target := range queries(t) {
			if p.Title == title {
				q.Expr, q.Samples = grafana.Interpolate(t, target.Expr, chosen, "21600", "5m"), samples
			}
		}
		return q
	}
	evaluate(t, ruleTestSet{
		Name:     "wrong",
		Interval: "1m",
		InputSeries: []testSeries{
			seen("a", "host_listen_time_seconds", "", "3600+60x10"),
			seen("a", "host_listen_service_down_start_timestamp_seconds", last+`,service_name="web"`, "60x10"),
			seen("a", "host_listen_port_violation_start_timestamp_seconds", listener("8080", `,reason="unregistered"`), "80x10"),
			seen("a", "host_listen_port_holder_info", listener("8080", `,process="python3",uid="0"`), "1x10"),
			seen("a", "host_listen_port_violation_start_timestamp_seconds", listener("23", `,reason="forbidden"`), "90x10"),
			seen("a", "host_listen_port_gone_timestamp_seconds", last, "100x10"),
			// One fact, one row: a service that listens at a wrong address.
			seen("a", "host_listen_service_down_start_timestamp_seconds", `proto="tcp",port="5432",service_name="db"`, "60x10"),
			seen("a", "host_listen_port_violation", listener("5432", `,reason="bind",service_name="db"`), "1x10"),
			seen("a", "host_listen_port_violation_start_timestamp_seconds", listener("5432", `,reason="bind",service_name="db"`), "60x10"),
			seen("a", "host_listen_port_accept_queue_full_start_timestamp_seconds", listener("25", ""), "120x10"),
			seen("a", "host_listen_port_dropping_start_timestamp_seconds", listener("25", ""), "140x10"),
			seen("a", "host_listen_port_dropping_start_timestamp_seconds", listener("26", `,netns="pod"`), "160x10"),
		},
		Expressions: []testQuery{
			ask(t, title, 0, "10m", all...),
			choosing("process", "python3", append(all[1:2:2], all[5:]...)...), // these two know no process
			choosing("port", "443", all[0], all[4]),
			choosing("netns", "pod", all[0], all[4], row("loses packets", "", "26", "", 4040), row("service down", "db", "5432", "", 4140)),
		},
	})
}

// TestTheLeasesOfAFleet adds up the ports of a team, and shows those left on the host that has fewest.
func TestTheLeasesOfAFleet(t *testing.T) {
	const lease = `team="ci",service_name="shop-test",proto="tcp"`
	evaluate(t, ruleTestSet{
		Name:     "leases",
		Interval: "1m",
		InputSeries: []testSeries{
			seen("a", "host_listen_leases", `team="ci"`, "2x10"), seen("b", "host_listen_leases", `team="ci"`, "3x10"),
			seen("a", "host_listen_lease_ports_available", `team="ci"`, "98x10"), seen("b", "host_listen_lease_ports_available", `team="ci"`, "0x10"),
			seen("a", "host_listen_lease_info", lease+`,port="40000",uid="1001"`, "1x10"),
			seen("a", "host_listen_lease_info", lease+`,port="40001",uid="1001"`, "1x5 stale"),
			seen("a", "host_listen_lease_overstayed_start_timestamp_seconds", lease+`,port="40000"`, "60x10"),
		},
		Expressions: []testQuery{
			ask(t, "Leased ports", 0, "10m", testSample{`{team="ci"}`, 5}),
			ask(t, "Ports left to lease", 0, "10m", testSample{`{team="ci"}`, 0}),
			ask(t, "Leases now", 0, "10m", testSample{`{instance="a",` + lease + `,port="40000",uid="1001"}`, 1}),
			ask(t, "Overstayed leases now", 0, "10m", testSample{`{instance="a",` + lease + `,port="40000"}`, 60_000}),
		},
	})
}

// TestAQueueIsFullWhenTheKernelDropsNewConnections has listeners with several backlogs, and one read through procfs.
func TestAQueueIsFullWhenTheKernelDropsNewConnections(t *testing.T) {
	length := func(port, address, values string) testSeries {
		return seen("a", "host_listen_port_accept_queue_length", fmt.Sprintf(`proto="tcp",address=%q,port=%q`, address, port), values)
	}
	limit := func(port, address, values string) testSeries {
		return seen("a", "host_listen_port_accept_queue_limit", fmt.Sprintf(`proto="tcp",address=%q,port=%q`, address, port), values)
	}
	evaluate(t, ruleTestSet{
		Name:     "the share in use",
		Interval: "1m",
		InputSeries: []testSeries{
			length("full", "::", "128"), limit("full", "::", "127"),
			length("full", "127.0.0.1", "1"), limit("full", "127.0.0.1", "4096"),
			length("half", "::", "64"), limit("half", "::", "127"),
			length("empty", "::", "0"), limit("empty", "::", "128"),
			length("listen(0), idle", "::", "0"), limit("listen(0), idle", "::", "0"),
			length("listen(0), full", "::", "1"), limit("listen(0), full", "::", "0"),
			length("procfs", "::", "4"),
		},
		Expressions: []testQuery{ask(t, "TCP accept queue, share in use", 0, "0m",
			testSample{`{instance="a",port="full"}`, 1},
			testSample{`{instance="a",port="half"}`, 0.5},
			testSample{`{instance="a",port="listen(0), full"}`, 1},
		)},
	})
}

// TestDropsAreDrawnInThePanelOfTheirProtocol asks both panels about a host that drops packets of both protocols.
func TestDropsAreDrawnInThePanelOfTheirProtocol(t *testing.T) {
	evaluate(t, ruleTestSet{
		Name:     "drops",
		Interval: "1m",
		InputSeries: []testSeries{
			seen("a", "host_listen_port_drops_total", `proto="tcp",port="of tcp"`, "0+60x10"),
			seen("a", "host_listen_port_drops_total", `proto="udp",port="of udp"`, "0+60x10"),
		},
		Expressions: []testQuery{
			ask(t, "TCP drops", 0, "10m", testSample{`{instance="a",port="of tcp"}`, 1}),
			ask(t, "UDP drops", 0, "10m", testSample{`{instance="a",port="of udp"}`, 1}),
		},
	})
}

// TestOpenedAndClosedListenersAreCounted adds up hosts, and leaves out UDP. An exporter that restarts begins at 0 again.
func TestOpenedAndClosedListenersAreCounted(t *testing.T) {
	evaluate(t, ruleTestSet{
		Name:     "opened and closed",
		Interval: "1m",
		InputSeries: []testSeries{
			seen("a", "host_listen_opened_total", `proto="tcp"`, "0+1x20"), seen("b", "host_listen_opened_total", `proto="tcp"`, "0+1x15 0+1x5"),
			seen("a", "host_listen_opened_total", `proto="udp"`, "0+100x20"),
			seen("a", "host_listen_closed_total", `proto="tcp"`, "0+2x20"),
		},
		Expressions: []testQuery{
			ask(t, "Opened and closed over time", 0, "12m", testSample{"{}", 10}),
			ask(t, "Opened and closed over time", 1, "12m", testSample{"{}", 10}),
		},
	})
}

// TestTheListenersThatNobodyUses asks for 6 hours, by a host's clock that shows 100000.
func TestTheListenersThatNobodyUses(t *testing.T) {
	listener := func(port, address string) string {
		return fmt.Sprintf(`proto="tcp",family="ipv4",address=%q,port=%q,scope="any",range="user"`, address, port)
	}
	set := ruleTestSet{Name: "unused", Interval: "1m", InputSeries: []testSeries{
		seen("a", "host_listen_time_seconds", "", "100000x10"),
		seen("a", "process_start_time_seconds", "", "60000x10"),
		seen("a", "host_listen_port_holder_info", listener("80", "0.0.0.0")+`,process="old",unit="old.service"`, "1x10"),
		seen("a", "host_listen_port_first_seen_timestamp_seconds", listener("81", "0.0.0.0"), "70000x10"),
		seen("a", "host_listen_port_first_seen_timestamp_seconds", listener("82", "0.0.0.0"), "1000x10"), // before a restart
		seen("a", "host_listen_port_first_seen_timestamp_seconds", listener("83", "0.0.0.0"), "99000x10"),
	}}
	for port, last := range map[string]string{"80": "", "81": "", "82": "", "83": "", "84": "65000", "85": "99000"} {
		count := "0x10"
		if last != "" {
			count = "7x10"
			set.InputSeries = append(set.InputSeries, seen("a", "host_listen_port_last_connection_timestamp_seconds", listener(port, "0.0.0.0"), last+"x10"))
		}
		set.InputSeries = append(set.InputSeries, seen("a", "host_listen_port_connections_total", listener(port, "0.0.0.0"), count))
	}
	row := func(port, last, holder string, seconds float64) testSample {
		return testSample{fmt.Sprintf(`{instance="a",address="0.0.0.0",port=%q,last=%q%s}`, port, last, holder), seconds}
	}
	set.Expressions = []testQuery{ask(t, "Listeners nobody uses", 0, "10m",
		row("80", "never", `,process="old",unit="old.service"`, 40000), row("81", "never", "", 30000), row("82", "never", "", 40000),
		row("84", "earlier", "", 35000),
	)}
	evaluate(t, set)
}
