//go:build linux

package alerts

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// generated are the files that `make rules` writes, by the file that makes them.
var generated = map[string]string{
	"rules.jsonnet":          mainRules,
	"prometheusrule.jsonnet": "../examples/kubernetes/prometheus-operator/prometheusrule.yaml",
}

func TestTheRulesAreThoseOfTheMixin(t *testing.T) {
	for source, file := range generated {
		if diff := cmp.Diff(jsonnet(t, "-S", source), tools.Read(t, file)); diff != "" {
			t.Errorf("%s differs from the mixin; make rules writes it: -mixin +file:\n%s", file, diff)
		}
	}
}

// TestThePlainFileSaysWhatTheMixinDoes compares values: comments, folded lines and quotes must not change one.
func TestThePlainFileSaysWhatTheMixinDoes(t *testing.T) {
	for file, path := range map[string][]string{
		mainRules:                           nil,
		generated["prometheusrule.jsonnet"]: {"spec"},
	} {
		var got, want map[string]any
		tools.Decode(t, file, &got)
		for _, key := range path {
			got = got[key].(map[string]any)
		}
		decodeJSON(t, jsonnet(t, "-e", "(import 'mixin.libsonnet').prometheusAlerts"), &want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -mixin +file:\n%s", file, diff)
		}
	}
}

// TestAUserOfTheMixinChangesWhatTheTableSays vendors the repository and changes each field.
func TestAUserOfTheMixinChangesWhatTheTableSays(t *testing.T) {
	dir := t.TempDir()
	rules := jsonnet(t, "-S", "-J", vendor(t), "testdata/mixin.jsonnet")
	for name, text := range map[string]string{"rules.yml": rules, "rules.test.yml": tools.Read(t, "testdata/mixin.test.yml")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tools.Promtool(t, "check", "rules", "--lint-fatal", filepath.Join(dir, "rules.yml"))
	tools.Promtool(t, "test", "rules", filepath.Join(dir, "rules.test.yml"))
	for _, left := range []string{"listen[-_]exporter", "job, cluster", "replica", "stand_in", "blob/main", "> 20", "more than 20", "warning"} {
		if strings.Contains(rules, left) {
			t.Errorf("%q is still in the rules", left)
		}
	}

	var fields []string
	decodeJSON(t, jsonnet(t, "-e", "std.objectFields((import 'mixin.libsonnet')._config)"), &fields)
	for _, field := range fields {
		if !regexp.MustCompile(`(?m)^\| [^|]*` + "`" + field + `\b`).MatchString(tools.Read(t, "README.md")) {
			t.Errorf("the table in README.md has no row for %s", field)
		}
		if !strings.Contains(tools.Read(t, "testdata/mixin.jsonnet"), field) {
			t.Errorf("testdata/mixin.jsonnet does not change %s", field)
		}
	}
}

func TestTheTablesOfREADMESayAfterHowLongAnAlertFires(t *testing.T) {
	var want map[string]string
	decodeJSON(t, jsonnet(t, "-e", `local alerts = (import 'mixin.libsonnet')._config.alerts;
		local duration = import 'lib/duration.libsonnet';
		{ [name]: duration.words(alerts[name].after) for name in std.objectFields(alerts) if 'after' in alerts[name] }`), &want)
	delete(want, "ListenExporterFlapping") // its count says more
	for name, after := range want {
		if !regexp.MustCompile("(?m)^\\| \\[`" + name + "`\\].* \\| " + after + " \\|$").MatchString(tools.Read(t, "README.md")) {
			t.Errorf("no table of README.md has %s with %s", name, after)
		}
	}
}

func TestTheExamplesOfREADMEMakeRules(t *testing.T) {
	readme := tools.Read(t, "README.md")
	example := regexp.MustCompile("(?s)```jsonnet\n(.*?)```").FindStringSubmatch(readme)
	config := regexp.MustCompile(`--tla-code (config='.*') alerts/rules\.jsonnet `).FindStringSubmatch(readme)
	if example == nil || config == nil {
		t.Fatal("README.md has no example")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"vendored.yml": jsonnet(t, "-S", "-J", vendor(t), "-e", example[1]),
		"plain.yml":    jsonnet(t, "-S", "--tla-code", strings.ReplaceAll(config[1], "'", ""), "rules.jsonnet"),
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tools.Promtool(t, "check", "rules", "--lint-fatal", file)
	}
}

func TestAConfigThatIsWrongIsAnError(t *testing.T) {
	for _, tc := range []struct{ config, want string }{
		{`{ alerts+: { PortLost: { after: "5m" } } }`, "_config.alerts has PortLost: there is no such alert"},
		{`{ alerts+: { AcceptQueueFull+: { after: "5" } } }`, "the duration 5 is wrong: want a whole number and s, m or h, such as 5m"},
		{`{ alerts+: { AcceptQueueFull+: { after: "1.5h" } } }`, "the duration 1.5h is wrong: want a whole number and s, m or h, such as 5m"},
		{`{ alerts+: { ListenExporterDown+: { after: "3m" } } }`, "alerts.ListenExporterDown.after is 3m: want more than 3m"},
	} {
		output, err := exec.Command(tools.Look(t, "jsonnet"), "-S", "--tla-code", "config="+tc.config, "rules.jsonnet").CombinedOutput()
		if first, _, _ := strings.Cut(string(output), "\n"); err == nil || first != "RUNTIME ERROR: "+tc.want {
			t.Errorf("%s: error %v, and\n%s\nwant %s", tc.config, err, first, tc.want)
		}
	}
}

// TestThePlainFileOfAnotherConfig has the values as they were given, so that a chart can put placeholders in their places.
func TestThePlainFileOfAnotherConfig(t *testing.T) {
	text := jsonnet(t, "-S", "--tla-code", `config={
		listenExporterSelector: 'job=~"@job@"', expectedPorts: { tcp: "@tcp@", udp: "@udp@" }, clusterLabels: ["@cluster@"],
		replicaLabels: ["@replicas@"], runbookURLPattern: "@url@#%s", alertLabels: { a: "it's: #1" }, criticalSeverity: "yes",
	}`, "rules.jsonnet")
	var got struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string]int{
		`job=~"@job@"`: 1, `port!~"@tcp@"`: 1, `port!~"@udp@"`: 1, "@url@#": 28, "job, @cluster@": 5, "prometheus_replica": 1, "severity: 'yes'": 7,
	} {
		if places := strings.Count(text, place); places != want {
			t.Errorf("%s is in %d places, want %d", place, places, want)
		}
	}
	for _, group := range got.Groups {
		for _, r := range group.Rules {
			if r.Alert != "" && r.Labels["a"] != "it's: #1" {
				t.Errorf("%s has the labels %v", r.Alert, r.Labels)
			}
		}
	}
}

func TestTheMixinHasEachDashboard(t *testing.T) {
	var got map[string]any
	decodeJSON(t, jsonnet(t, "-e", "(import 'mixin.libsonnet').grafanaDashboards"), &got)
	files, err := filepath.Glob("../examples/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboard: %v", err)
	}
	want := make(map[string]any)
	for _, file := range files {
		var dashboard any
		decodeJSON(t, tools.Read(t, file), &dashboard)
		want[filepath.Base(file)] = dashboard
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dashboards.libsonnet: -examples/grafana +mixin:\n%s", diff)
	}
}

// vendor returns a directory with this repository in it, as jsonnet-bundler makes one.
func vendor(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	repository := filepath.Join(dir, "github.com/listen-exporter/listen_exporter")
	if err := os.MkdirAll(filepath.Dir(repository), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(host.Root, repository); err != nil {
		t.Fatal(err)
	}
	return dir
}

// jsonnet runs jsonnet, which must succeed, and returns its output.
func jsonnet(t *testing.T, arguments ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command(tools.Look(t, "jsonnet"), arguments...)
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	return string(output)
}

func decodeJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}
