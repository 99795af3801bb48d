package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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
