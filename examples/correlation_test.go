package examples

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const (
	correlationRules = "prometheus/correlation.rules.yml"
	correlationTests = "prometheus/correlation.test.yml"
)

func TestTheRulesForCorrelationPassTheirUnitTests(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, arguments := range [][]string{
		{"check", "rules", "--lint-fatal", correlationRules},
		{"test", "rules", correlationTests},
	} {
		if output, err := exec.Command(promtool, arguments...).CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", arguments, err, output)
		}
	}
}

// TestEveryAlertForCorrelationIsTestedAndExplained holds each alert to a unit test in which it fires, to one in which nothing
// but other alerts do, and to the table at the head of the file.
func TestEveryAlertForCorrelationIsTestedAndExplained(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, For  string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	decode(t, correlationRules, &rules)
	var tests struct {
		Tests []struct {
			Name          string
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	decode(t, correlationTests, &tests)
	var fires, silent []string
	for _, test := range tests.Tests {
		for _, at := range test.AlertRuleTest {
			if len(at.ExpAlerts) > 0 {
				fires = append(fires, at.Alertname)
			} else {
				silent = append(silent, at.Alertname)
			}
		}
	}
	head, _, _ := strings.Cut(read(t, correlationRules), "\ngroups:")
	found := 0
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			if r.Alert == "" {
				continue
			}
			found++
			if !slices.Contains(fires, r.Alert) || !slices.Contains(silent, r.Alert) {
				t.Errorf("%s: want a unit test in which it fires, and one in which it is silent", r.Alert)
			}
			if !strings.Contains(head, r.Alert) {
				t.Errorf("%s: the table at the head of the file does not have it", r.Alert)
			}
			if r.For == "" || r.Labels["severity"] == "" || !strings.Contains(r.Annotations["summary"], "$labels.instance") {
				t.Errorf("%s: want for, severity, and the instance in its summary", r.Alert)
			}
			if diff := cmp.Diff(runbookOf(r.Alert), r.Annotations["runbook_url"]); diff != "" {
				t.Errorf("%s: runbook_url (-want +got):\n%s", r.Alert, diff)
			}
		}
	}
	if found == 0 {
		t.Error("there are no alerts")
	}
}

func runbookOf(alert string) string {
	return "https://github.com/listen-exporter/listen_exporter/blob/main/alerts/README.md#" + strings.ToLower(alert)
}

// TestTheRulesForCorrelationAreTestedWithTheExportersOwnLabels compares the labels of the exporter's series in the unit tests
// with those of a running exporter: a join on a label that does not exist passes its unit tests and never fires.
func TestTheRulesForCorrelationAreTestedWithTheExportersOwnLabels(t *testing.T) {
	var tests struct {
		Tests []struct {
			InputSeries []struct{ Series string } `yaml:"input_series"`
		}
	}
	decode(t, correlationTests, &tests)
	label := regexp.MustCompile(`([a-z_]+)="[^"]*"`)
	names := func(labels string) []string {
		var found []string
		for _, one := range label.FindAllStringSubmatch(labels, -1) {
			if !slices.Contains([]string{"job", "instance", "netns"}, one[1]) {
				found = append(found, one[1])
			}
		}
		slices.Sort(found)
		return found
	}
	exported := make(map[string][]string)
	for _, s := range everySeries(t) {
		exported[s.name] = names(s.labels)
	}
	compared := 0
	for _, test := range tests.Tests {
		for _, input := range test.InputSeries {
			metric, labels, _ := strings.Cut(input.Series, "{")
			want, ok := exported[metric]
			if !strings.HasPrefix(metric, "host_listen_") || !ok {
				continue // a registry's series, or another program's
			}
			compared++
			if diff := cmp.Diff(want, names(labels)); diff != "" {
				t.Errorf("%s: -exported +tested:\n%s", input.Series, diff)
			}
		}
	}
	if compared == 0 {
		t.Error("no series of the exporter was found")
	}
}

func decode(t *testing.T, file string, content any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, file)), content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
