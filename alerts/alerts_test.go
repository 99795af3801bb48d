//go:build linux

// Package alerts has the alerting rules. Its tests hold each of them to its runbook and its unit tests; test/incidents plays them
// in front of a real Prometheus.
package alerts

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// mainRules are the alerts that every user loads.
const mainRules = "listen_exporter.rules.yml"

// runbook is the address of README.md in the annotations.
const runbook = "https://github.com/listen-exporter/listen_exporter/blob/main/alerts/README.md"

// ruleFiles are all shipped files with alerts. The unit tests of x.rules.yml are in x*.test.yml in the same directory.
var ruleFiles = []string{
	mainRules, "../examples/prometheus/port_gone_missing.rules.yml", "../examples/prometheus/correlation.rules.yml",
	"../examples/prometheus/unused_listener.rules.yml",
}

func TestEveryAlertHasASeverityTextsAndARunbook(t *testing.T) {
	var headings []string
	for _, heading := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(tools.Read(t, "README.md"), -1) {
		headings = append(headings, strings.ToLower(heading[1]))
	}
	for _, file := range ruleFiles {
		for _, r := range alertsOf(t, file) {
			t.Run(r.Alert, func(t *testing.T) {
				severities := []string{
					"critical", "warning", "info",
					"{{ if $labels.service_name }}critical{{ else }}warning{{ end }}",
					"{{ if eq $labels.reason \"forbidden\" }}critical{{ else }}warning{{ end }}",
				}
				if !slices.Contains(severities, r.Labels["severity"]) {
					t.Errorf("severity is %q, want one of %q", r.Labels["severity"], severities)
				}
				about := "$labels.instance"
				if r.Alert == "ServiceOnNoHost" {
					about = "$labels.cluster"
				}
				for _, name := range []string{"summary", "description"} {
					if !strings.Contains(r.Annotations[name], about) {
						t.Errorf("%s does not name %s: %q", name, about, r.Annotations[name])
					}
				}
				anchor := strings.ToLower(r.Alert)
				if diff := cmp.Diff(runbook+"#"+anchor, r.Annotations["runbook_url"]); diff != "" {
					t.Errorf("runbook_url (-want +got):\n%s", diff)
				}
				if !slices.Contains(headings, anchor) {
					t.Errorf("README.md has no heading for #%s, only %q", anchor, headings)
				}
				if link := "\n| [`" + r.Alert + "`](#" + anchor + ") | "; file == mainRules && !strings.Contains(tools.Read(t, "README.md"), link) {
					t.Errorf("README.md has no row of a table that begins with %q", link)
				}
				// A port that flaps has done so for some time.
				if r.For == "" && !strings.Contains(r.Expr, ":host_time) - ") && r.Alert != "PortFlapping" {
					t.Error("it fires at once: want a for, or an age that is compared")
				}
			})
		}
	}
}

func TestTheCorrelationRulesExplainEachOfTheirAlertsInTheTableAtTheirHead(t *testing.T) {
	file := ruleFiles[2]
	head, _, _ := strings.Cut(tools.Read(t, file), "\ngroups:")
	for _, r := range alertsOf(t, file) {
		if !strings.Contains(head, r.Alert) {
			t.Errorf("the table does not have %s", r.Alert)
		}
	}
}

func TestEveryAlertHasUnitTestsInWhichItFiresAndIsSilent(t *testing.T) {
	for _, file := range ruleFiles {
		fires, silent := make(map[string]bool), make(map[string]bool)
		for _, tests := range unitTestsOf(t, file) {
			var content struct {
				RuleFiles []string `yaml:"rule_files"`
				Tests     []struct {
					AlertRuleTest []struct {
						Alertname string
						ExpAlerts []any `yaml:"exp_alerts"`
					} `yaml:"alert_rule_test"`
				}
			}
			tools.Decode(t, tests, &content)
			if !slices.Contains(content.RuleFiles, filepath.Base(file)) {
				t.Errorf("%s does not load %s, only %q", tests, file, content.RuleFiles)
			}
			for _, test := range content.Tests {
				for _, at := range test.AlertRuleTest {
					fires[at.Alertname] = fires[at.Alertname] || len(at.ExpAlerts) > 0
					silent[at.Alertname] = silent[at.Alertname] || len(at.ExpAlerts) == 0
				}
			}
		}
		for _, r := range alertsOf(t, file) {
			if !fires[r.Alert] || !silent[r.Alert] {
				t.Errorf("%s: want a unit test in which %s fires, and one in which it is silent", file, r.Alert)
			}
			delete(silent, r.Alert)
		}
		// To promtool, an alert with a misspelt name is silent.
		for name := range silent {
			t.Errorf("%s: a unit test asks for the alert %q, which is not in the rules", file, name)
		}
	}
}

func TestThePlacesToEditAreOneEach(t *testing.T) {
	text := tools.Read(t, mainRules)
	var expressions strings.Builder
	for _, r := range rulesOf(t, mainRules) {
		expressions.WriteString(regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(r.Expr, "") + "\n")
	}
	for _, tc := range []struct{ name, text, pattern string }{
		{"the job's name", expressions.String(), `\bjob\s*[=!]`},
		{"the mark of the job's name", text, `# EDIT 1:`},
		{"the list of expected TCP ports", expressions.String(), `proto="tcp",port!~"22\|80\|443"`},
		{"the list of expected UDP ports", expressions.String(), `proto="udp",port!~"68\|546"`},
		{"the mark of the expected ports", text, `# EDIT 2:`},
		{"the mark of the labels of the hosts of a service", text, `# EDIT 3:`},
		{"the mark of the labels of replicas", text, `# *EDIT 4:`},
	} {
		if places := len(regexp.MustCompile(tc.pattern).FindAllString(tc.text, -1)); places != 1 {
			t.Errorf("%s is in %d places, want 1", tc.name, places)
		}
	}
}

func TestTheRulesAreValidAndPassTheirUnitTests(t *testing.T) {
	for _, file := range append([]string{"../examples/prometheus/kubernetes_pods.rules.yml"}, ruleFiles...) {
		tools.Promtool(t, "check", "rules", "--lint-fatal", file)
		tools.Promtool(t, append([]string{"test", "rules"}, unitTestsOf(t, file)...)...)
	}
}

// rule is an alerting rule, or a recording rule, which has no Alert.
type rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// alertsOf returns the alerting rules of a rule file.
func alertsOf(t *testing.T, file string) []rule {
	t.Helper()
	rules := slices.DeleteFunc(rulesOf(t, file), func(r rule) bool { return r.Alert == "" })
	if len(rules) == 0 {
		t.Fatalf("%s: has no alerts", file)
	}
	return rules
}

// rulesOf returns all rules of a rule file.
func rulesOf(t *testing.T, file string) []rule {
	t.Helper()
	var content struct{ Groups []struct{ Rules []rule } }
	tools.Decode(t, file, &content)
	var rules []rule
	for _, group := range content.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules
}

// unitTestsOf returns the paths of a rule file's unit tests.
func unitTestsOf(t *testing.T, file string) []string {
	t.Helper()
	files, err := filepath.Glob(strings.TrimSuffix(file, ".rules.yml") + "*.test.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: has no unit tests: %v", file, err)
	}
	return files
}
