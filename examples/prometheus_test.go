//go:build linux

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

	"github.com/listen-exporter/listen_exporter/test/tools"
)

const rulesFile = "../alerts/listen_exporter.rules.yml"

func TestPrometheusAcceptsTheConfiguration(t *testing.T) {
	tools.Promtool(t, "check", "config", "prometheus/prometheus.yml")
}

// TestPrometheusAcceptsTheCommentedVariantsToo checks the configuration with everything that it offers in comments.
func TestPrometheusAcceptsTheCommentedVariantsToo(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "examples", "prometheus")
	for to, from := range map[string]string{filepath.Join(root, "alerts"): "../alerts", dir: "prometheus"} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	certificate, _ := selfSigned(t)
	text := uncomment(tools.Read(t, "prometheus/prometheus.yml"))
	for _, key := range []string{"alerting", "scheme", "tls_config", "basic_auth", "metric_relabel_configs", "file_sd_configs"} {
		if !regexp.MustCompile(`(?m)^\s*` + key + `:`).MatchString(text) {
			t.Errorf("%s: is not among the comments", key)
		}
	}
	write(t, filepath.Join(dir, "prometheus.yml"), text)
	write(t, filepath.Join(dir, "listen_exporter.crt"), certificate)
	write(t, filepath.Join(dir, "listen_exporter.password"), "secret")
	write(t, filepath.Join(dir, "targets/hosts.yml"), "- targets: [\"localhost:10190\"]\n")
	if output := tools.Promtool(t, "check", "config", filepath.Join(dir, "prometheus.yml")); strings.Contains(output, "WARN") {
		t.Errorf("%s\n%s", output, text)
	}
}

// TestAlertmanagerAcceptsTheConfiguration checks the example, and the piece of it in the runbook.
func TestAlertmanagerAcceptsTheConfiguration(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```yaml\n(route:.*?)^```$").FindStringSubmatch(tools.Read(t, "../alerts/README.md"))
	if block == nil {
		t.Fatal("alerts/README.md has no route of Alertmanager")
	}
	piece := filepath.Join(t.TempDir(), "alertmanager.yml")
	write(t, piece, block[1]+"receivers: [{name: operators}]\n")
	amtool := tools.Look(t, "amtool")
	for _, file := range []string{"prometheus/alertmanager.yml", piece} {
		if output, err := exec.Command(amtool, "check-config", file).CombinedOutput(); err != nil {
			t.Errorf("amtool check-config %s: %v\n%s", file, err, output)
		}
	}
}

// TestTheQueriesOfTheReadmeAreInTheUnitTests looks for each query as it is written, except for white space.
func TestTheQueriesOfTheReadmeAreInTheUnitTests(t *testing.T) {
	plain := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	tested := plain(tools.Read(t, "prometheus/kubernetes_pods.test.yml"))
	blocks := regexp.MustCompile("(?ms)^```promql\n(.*?)^```$").FindAllStringSubmatch(tools.Read(t, "README.md"), -1)
	if len(blocks) == 0 {
		t.Error("README.md has no query")
	}
	for _, block := range blocks {
		for query := range strings.SplitSeq(block[1], "\n\n") {
			query = plain(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(query, ""))
			if query == "" || !strings.Contains(tested, query) {
				t.Errorf("not among the unit tests: %s", query)
			}
		}
	}
}

// TestTheRulesAreTestedWithTheExportersOwnLabels compares the labels of the exporter's series in the unit tests with those of a
// running exporter. A join on a label that does not exist passes its unit tests and never fires.
func TestTheRulesAreTestedWithTheExportersOwnLabels(t *testing.T) {
	// Labels of targets, and those of the exporter that not every series has.
	optional := []string{
		"job", "instance", "env", "cluster", "owner", "namespace", "pod", "container",
		"netns", "device", "unit", "container_id", "pod_uid", "service_name",
	}
	add := func(names map[string]bool, labels string) map[string]bool {
		if names == nil {
			names = make(map[string]bool)
		}
		for _, label := range regexp.MustCompile(`([a-z_]+)="[^"]*"`).FindAllStringSubmatch(labels, -1) {
			if !slices.Contains(optional, label[1]) {
				names[label[1]] = true
			}
		}
		return names
	}
	// Families that are there only while something is wrong, with the labels that they may have.
	where := add(nil, `proto="",port="",address="",process=""`)
	sparse := map[string]map[string]bool{
		"host_listen_port_gone_timestamp_seconds":          where,
		"host_listen_port_flapping":                        where,
		"host_listen_service_down_start_timestamp_seconds": where,
		"host_listen_state_last_write_successful":          nil,
		// Those of the kernel's events.
		"host_listen_violations_total":           add(nil, `reason=""`),
		"host_listen_events_lost_total":          nil,
		"host_listen_port_receive_packets_total": add(nil, `proto="",port=""`),
		// Those of leases.
		"host_listen_lease_info":                               add(nil, `team="",proto="",port="",uid=""`),
		"host_listen_lease_overstayed_start_timestamp_seconds": add(nil, `team="",proto="",port=""`),
		"host_listen_lease_ports_available":                    add(nil, `team=""`),
		"host_listen_leases":                                   add(nil, `team=""`),
		"host_listen_lease_store_up":                           nil,
	}
	exported := make(map[string]map[string]bool)
	for _, s := range everySeries(t) {
		exported[s.name] = add(exported[s.name], s.labels)
	}
	for _, listeners := range []string{
		"accept_queue_full_start_timestamp_seconds", "dropping_start_timestamp_seconds", "connections_total", "last_connection_timestamp_seconds",
	} {
		exported["host_listen_port_"+listeners] = exported["host_listen_port"]
	}
	for _, file := range []string{
		"../alerts/listen_exporter.test.yml",
		"prometheus/port_gone_missing.test.yml", "prometheus/correlation.test.yml", "prometheus/kubernetes_pods.test.yml",
		"prometheus/unused_listener.test.yml",
	} {
		var content struct {
			Tests []struct {
				InputSeries []struct{ Series string } `yaml:"input_series"`
			}
		}
		tools.Decode(t, file, &content)
		compared := 0
		for _, test := range content.Tests {
			for _, input := range test.InputSeries {
				metric, labels, _ := strings.Cut(input.Series, "{")
				if !strings.HasPrefix(metric, "host_listen_") {
					continue // another program's
				}
				compared++
				if may, found := sparse[metric]; found {
					for label := range add(nil, labels) {
						if !may[label] {
							t.Errorf("%s: %s has the label %s, want only %v", file, input.Series, label, may)
						}
					}
					continue
				}
				if diff := cmp.Diff(exported[metric], add(nil, labels)); diff != "" {
					t.Errorf("%s: %s (-exported +tested):\n%s", file, input.Series, diff)
				}
			}
		}
		if compared == 0 {
			t.Errorf("%s has no series of the exporter", file)
		}
	}
}

// TestTheAlertsMatchTheJobsOfTheExamples compares the job's name in the scrape configuration and in the PodMonitor with the
// selectors of the alerts.
func TestTheAlertsMatchTheJobsOfTheExamples(t *testing.T) {
	var config struct {
		ScrapeConfigs []struct {
			JobName string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	tools.Decode(t, "prometheus/prometheus.yml", &config)
	m := readManifests(t)
	jobLabel := at[string](t, m["PodMonitor"], "spec.jobLabel")
	jobs := []string{at[object](t, m["DaemonSet"], "spec.template.metadata.labels")[jobLabel].(string)}
	for _, scrape := range config.ScrapeConfigs {
		jobs = append(jobs, scrape.JobName)
	}
	for _, file := range []string{rulesFile, "prometheus/port_gone_missing.rules.yml"} {
		selectors := regexp.MustCompile(`\bjob\s*=~\s*"([^"]+)"`).FindAllStringSubmatch(tools.Read(t, file), -1)
		if len(selectors) == 0 {
			t.Errorf("%s selects no job", file)
		}
		for _, selector := range selectors {
			for _, job := range jobs {
				if !regexp.MustCompile("^(?:" + selector[1] + ")$").MatchString(job) {
					t.Errorf("%s: job=~%q does not match the job %q", file, selector[1], job)
				}
			}
		}
	}
}
