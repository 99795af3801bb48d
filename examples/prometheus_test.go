package examples

import (
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

func TestPrometheusTakesTheConfiguration(t *testing.T) {
	promtool := tool(t, "promtool")
	if output, err := exec.Command(promtool, "check", "config", "prometheus/prometheus.yml").CombinedOutput(); err != nil {
		t.Errorf("promtool check config: %v\n%s", err, output)
	}
}

// TestPrometheusTakesTheCommentedVariantsToo checks the configuration with all that it offers in comments.
func TestPrometheusTakesTheCommentedVariantsToo(t *testing.T) {
	promtool := tool(t, "promtool")
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "alerts"), os.DirFS("../alerts")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "examples", "prometheus")
	if err := os.CopyFS(dir, os.DirFS("prometheus")); err != nil {
		t.Fatal(err)
	}
	certificate, _ := selfSigned(t)
	text := uncomment(read(t, "prometheus/prometheus.yml"))
	for _, key := range []string{"alerting", "scheme", "tls_config", "basic_auth", "metric_relabel_configs", "file_sd_configs"} {
		if !regexp.MustCompile(`(?m)^\s*` + key + `:`).MatchString(text) {
			t.Errorf("%s: was not found among the comments", key)
		}
	}
	for name, content := range map[string]string{
		"prometheus.yml":           text,
		"listen_exporter.crt":      certificate,
		"listen_exporter.password": "secret",
		"targets/hosts.yml":        "- targets: [\"localhost:10190\"]\n",
	} {
		write(t, filepath.Join(dir, name), content)
	}
	output, err := exec.Command(promtool, "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput()
	if err != nil || strings.Contains(string(output), "WARN") {
		t.Errorf("promtool check config: %v\n%s\n%s", err, output, text)
	}
}

func TestTheRulesForPodsPassTheirUnitTests(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, arguments := range [][]string{
		{"check", "rules", "--lint-fatal", "prometheus/kubernetes_pods.rules.yml"},
		{"test", "rules", "prometheus/kubernetes_pods.test.yml"},
	} {
		if output, err := exec.Command(promtool, arguments...).CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", arguments, err, output)
		}
	}
}

// TestTheQueriesOfTheReadmeAreInTheUnitTests looks for each query as it stands, white space aside.
func TestTheQueriesOfTheReadmeAreInTheUnitTests(t *testing.T) {
	plain := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	tested := plain(read(t, "prometheus/kubernetes_pods.test.yml"))
	blocks := regexp.MustCompile("(?ms)^```promql\n(.*?)^```$").FindAllStringSubmatch(read(t, "README.md"), -1)
	found := 0
	for _, block := range blocks {
		for query := range strings.SplitSeq(block[1], "\n\n") {
			query = plain(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(query, ""))
			found++
			if query == "" || !strings.Contains(tested, query) {
				t.Errorf("not among the unit tests: %s", query)
			}
		}
	}
	if found == 0 {
		t.Error("no query was found")
	}
}

// TestTheRulesForPodsAreTestedWithTheExportersOwnLabels compares the labels in the unit tests with those of a running
// exporter. A label that is empty is not exported, and this test is in no pod and no unit.
func TestTheRulesForPodsAreTestedWithTheExportersOwnLabels(t *testing.T) {
	var file struct {
		Tests []struct {
			InputSeries []struct{ Series string } `yaml:"input_series"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/kubernetes_pods.test.yml")), &file); err != nil {
		t.Fatal(err)
	}
	names := func(labels string) map[string]bool {
		found := make(map[string]bool)
		for _, label := range regexp.MustCompile(`([a-z_]+)="[^"]*"`).FindAllStringSubmatch(labels, -1) {
			if !slices.Contains([]string{"job", "instance", "namespace", "pod", "container", "netns"}, label[1]) {
				found[label[1]] = true
			}
		}
		return found
	}
	want := make(map[string]map[string]bool)
	for _, s := range everySeries(t) {
		want[s.name] = names(s.labels)
	}
	holder := want["host_listen_port_holder_info"]
	if !holder["process"] || !holder["uid"] {
		t.Fatalf("the labels of a holder are %v, want process and uid among them", holder)
	}
	holder["unit"], holder["container_id"], holder["pod_uid"] = true, true, true
	compared := make(map[string]bool)
	for _, test := range file.Tests {
		for _, input := range test.InputSeries {
			metric, labels, _ := strings.Cut(input.Series, "{")
			if !strings.HasPrefix(metric, "host_listen_") {
				continue
			}
			compared[metric] = true
			if diff := cmp.Diff(want[metric], names(labels)); diff != "" {
				t.Errorf("%s: -exported +tested:\n%s", input.Series, diff)
			}
		}
	}
	if diff := cmp.Diff(map[string]bool{"host_listen_port": true, "host_listen_port_holder_info": true}, compared); diff != "" {
		t.Errorf("metrics that were compared: -want +got:\n%s", diff)
	}
}

// TestTheAlertsKnowTheExamplesByTheirJob holds the job's name in the scrape configuration and in the PodMonitor to the
// alerts' choice of jobs.
func TestTheAlertsKnowTheExamplesByTheirJob(t *testing.T) {
	var config struct {
		ScrapeConfigs []struct {
			JobName string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/prometheus.yml")), &config); err != nil {
		t.Fatal(err)
	}
	jobs := []string{kubernetesJob(t)}
	for _, scrape := range config.ScrapeConfigs {
		jobs = append(jobs, scrape.JobName)
	}
	found := 0
	for _, file := range []string{"../alerts/listen_exporter.rules.yml", "prometheus/port_gone_missing.rules.yml"} {
		selectors := regexp.MustCompile(`\bjob\s*=~\s*(?:"([^"]+)"|'([^']+)')`).FindAllStringSubmatch(read(t, file), -1)
		found += len(selectors)
		for _, selector := range selectors {
			pattern := strings.ReplaceAll(selector[1]+selector[2], `\\`, `\`)
			chosen := regexp.MustCompile("^(?:" + pattern + ")$")
			for _, job := range jobs {
				if !chosen.MatchString(job) {
					t.Errorf("%s: job=~%q does not choose the job %q", file, pattern, job)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no selector job=~ was found in the alerts")
	}
}

var (
	commentedKey  = regexp.MustCompile(`^( *)# ((?:- )?[a-z_]+:(?: .*)?)$`)
	commentedMore = regexp.MustCompile(`^( *)# ( +\S.*)$`)
)

// uncomment turns each comment that is a YAML key, with the deeper lines below it, into YAML.
func uncomment(text string) string {
	var lines []string
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if found := commentedKey.FindStringSubmatch(line); found != nil {
			inside = true
			line = found[1] + found[2]
		} else if found := commentedMore.FindStringSubmatch(line); found != nil && inside {
			line = found[1] + found[2]
		} else {
			inside = false
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n") + "\n"
}

// write makes a file and the folders that lead to it.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
