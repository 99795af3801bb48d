package alerts

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// mainRules are the alerts that every user loads.
const mainRules = "listen_exporter.rules.yml"

// runbook is where the anchors of runbook_url are looked up.
const runbook = "https://github.com/listen-exporter/listen_exporter/blob/main/alerts/README.md"

// ruleFiles are all rule files that the product ships. The unit tests of x.rules.yml are in the x*.test.yml beside it.
var ruleFiles = []string{mainRules, "../examples/prometheus/port_gone_missing.rules.yml"}

func TestEveryAlertTellsWhatHappenedAndWhereToReadOn(t *testing.T) {
	headings := headingsOf(t, "README.md")
	for _, file := range ruleFiles {
		for _, r := range alertsOf(t, file) {
			t.Run(r.Alert, func(t *testing.T) {
				if severities := []string{"critical", "warning", "info"}; !slices.Contains(severities, r.Labels["severity"]) {
					t.Errorf("severity is %q, want one of %q", r.Labels["severity"], severities)
				}
				for _, name := range []string{"summary", "description"} {
					if !strings.Contains(r.Annotations[name], "$labels.instance") {
						t.Errorf("%s does not name the instance: %q", name, r.Annotations[name])
					}
				}
				anchor := strings.ToLower(r.Alert)
				if diff := cmp.Diff(runbook+"#"+anchor, r.Annotations["runbook_url"]); diff != "" {
					t.Errorf("runbook_url (-want +got):\n%s", diff)
				}
				if !slices.Contains(headings, anchor) {
					t.Errorf("README.md has no heading for #%s, only %q", anchor, headings)
				}
				if r.For == "" {
					t.Error("it fires at once: it has no for")
				}
			})
		}
	}
}

func TestEveryAlertHasUnitTestsInWhichItFiresAndIsSilent(t *testing.T) {
	for _, file := range ruleFiles {
		fires, silent := make(map[string]int), make(map[string]int)
		for _, test := range unitTestsOf(t, file) {
			for _, at := range test.AlertRuleTest {
				if len(at.ExpAlerts) > 0 {
					fires[at.Alertname]++
				} else {
					silent[at.Alertname]++
				}
			}
		}
		known := make(map[string]bool)
		for _, r := range alertsOf(t, file) {
			known[r.Alert] = true
			if fires[r.Alert] == 0 {
				t.Errorf("%s: no unit test shows that %s fires", file, r.Alert)
			}
			if silent[r.Alert] == 0 {
				t.Errorf("%s: no unit test shows when %s is silent", file, r.Alert)
			}
		}
		// promtool takes a misspelt name for an alert that is silent.
		for _, name := range slices.Sorted(maps.Keys(silent)) {
			if !known[name] {
				t.Errorf("%s: a unit test asks for the alert %q, which is not in the rules", file, name)
			}
		}
	}
}

func TestThePlacesToEditAreOneEach(t *testing.T) {
	var expressions strings.Builder
	for _, r := range rulesOf(t, mainRules) {
		expressions.WriteString(regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(r.Expr, "") + "\n")
	}
	for _, tc := range []struct{ name, text, pattern string }{
		{"the job's name", expressions.String(), `\bjob\s*[=!]`},
		{"the mark of the job's name", read(t, mainRules), `# EDIT 1:`},
		{"the list of expected TCP ports", expressions.String(), `proto="tcp",port=~"22\|80\|443"`},
		{"the list of expected UDP ports", expressions.String(), `proto="udp",port=~"68\|546"`},
		{"the mark of the expected ports", read(t, mainRules), `# EDIT 2:`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if places := len(regexp.MustCompile(tc.pattern).FindAllString(tc.text, -1)); places != 1 {
				t.Errorf("it stands in %d places, want 1", places)
			}
		})
	}
}

func TestPromtoolChecksTheRules(t *testing.T) {
	promtool := lookPath(t, "promtool")
	for _, file := range ruleFiles {
		if output, err := exec.Command(promtool, "check", "rules", "--lint-fatal", file).CombinedOutput(); err != nil {
			t.Errorf("promtool check rules %s: %v\n%s", file, err, output)
		}
	}
}

func TestPromtoolRunsTheUnitTestsOfTheRules(t *testing.T) {
	promtool := lookPath(t, "promtool")
	for _, file := range ruleFiles {
		for _, tests := range testsOf(t, file) {
			if output, err := exec.Command(promtool, "test", "rules", tests).CombinedOutput(); err != nil {
				t.Errorf("promtool test rules %s: %v\n%s", tests, err, output)
			}
		}
	}
}

// rule is an alerting rule of a rule file, or a recording rule, which has no Alert.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
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
	var content struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, file)), &content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var rules []rule
	for _, group := range content.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules
}

// unitTest is one entry of what promtool test rules reads.
type unitTest struct {
	AlertRuleTest []struct {
		Alertname string `yaml:"alertname"`
		ExpAlerts []any  `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
}

// testsOf returns the paths of a rule file's unit tests.
func testsOf(t *testing.T, file string) []string {
	t.Helper()
	files, err := filepath.Glob(strings.TrimSuffix(file, ".rules.yml") + "*.test.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: has no unit tests beside it: %v", file, err)
	}
	return files
}

// unitTestsOf returns the unit tests of a rule file, after a check that they load that file.
func unitTestsOf(t *testing.T, file string) []unitTest {
	t.Helper()
	var tests []unitTest
	for _, name := range testsOf(t, file) {
		var content struct {
			RuleFiles []string   `yaml:"rule_files"`
			Tests     []unitTest `yaml:"tests"`
		}
		if err := yaml.Unmarshal([]byte(read(t, name)), &content); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]string{filepath.Base(file)}, content.RuleFiles); diff != "" {
			t.Fatalf("%s: rule_files (-want +got):\n%s", name, diff)
		}
		tests = append(tests, content.Tests...)
	}
	return tests
}

// headingsOf returns the anchors of a Markdown file's headings, as GitHub makes them from headings of plain words.
func headingsOf(t *testing.T, file string) []string {
	t.Helper()
	var anchors []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(read(t, file), -1) {
		anchors = append(anchors, strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-"))
	}
	return anchors
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// lookPath returns the path of a program, or skips the test where there is none.
func lookPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s on the PATH", program)
	}
	return path
}
