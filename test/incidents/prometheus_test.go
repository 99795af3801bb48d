package incidents

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

const (
	rulesFile       = "../../alerts/listen_exporter.rules.yml"
	prometheusURL   = "http://127.0.0.1:9090"
	alertmanagerURL = "http://127.0.0.1:9093"
	jobName         = "listen_exporter"
	// patience is how long a busy machine may take for what an idle one does in seconds.
	patience = time.Minute
	// scrapeInterval is the time between two scrapes, their timeout, and the time between two evaluations of the rules: 20
	// seconds on a real host.
	scrapeInterval = time.Second
)

// configuration is that of Prometheus. Each host has the instance label by which its alerts are known.
const configuration = `
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["127.0.0.1:9093"]}]}]}
scrape_configs:
  - job_name: ` + jobName + `
    static_configs:
%[2]s`

// routes is the configuration of Alertmanager: each alert is sent by itself, at once, and again when it ends.
const routes = `
route: {receiver: test, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: test
    webhook_configs: [{url: "http://` + receiverAddress + `/", send_resolved: true}]
`

// monitoring is Prometheus and Alertmanager, which watch the hosts.
type monitoring struct {
	dir      string // of configurations and logs
	targets  []*machine
	programs []*host.Process
}

// start starts both.
func (w *monitoring) start() error {
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		return err
	}
	var targets strings.Builder
	for _, h := range w.targets {
		fmt.Fprintf(&targets, "      - {targets: [%q], labels: {instance: %s}}\n", h.address()+":10190", h.name)
	}
	for name, text := range map[string]string{
		"rules.yml":        quicken(string(rules)),
		"prometheus.yml":   fmt.Sprintf(configuration, scrapeInterval, &targets),
		"alertmanager.yml": routes,
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return errors.Join(
		w.run("alertmanager", alertmanagerURL, "--config.file="+filepath.Join(w.dir, "alertmanager.yml"),
			"--storage.path="+filepath.Join(w.dir, "alertmanager"), "--web.listen-address=127.0.0.1:9093", "--cluster.listen-address="),
		w.run("prometheus", prometheusURL, "--config.file="+filepath.Join(w.dir, "prometheus.yml"),
			"--storage.tsdb.path="+filepath.Join(w.dir, "prometheus"), "--web.listen-address=127.0.0.1:9090", "--log.level=warn"),
	)
}

// run starts one of them and waits until it is ready.
func (w *monitoring) run(program, address string, arguments ...string) error {
	log, err := os.Create(filepath.Join(w.dir, program+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, arguments...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := host.Start(cmd)
	if err != nil {
		return err
	}
	w.programs = append(w.programs, p)
	return await(program+" is ready", func() (bool, error) {
		_, err := host.Get(address + "/-/ready")
		return err == nil, p.Ended()
	})
}

// stop ends both.
func (w *monitoring) stop() error {
	var all error
	for _, p := range w.programs {
		all = errors.Join(all, p.Terminate())
	}
	return all
}

// templates is where the Alertmanager of some distributions looks for its templates, wherever it was unpacked.
const templates = "/usr/share/prometheus/alertmanager"

// provideTemplates puts empty ones there, which only the processes of the test see. A webhook uses none.
func provideTemplates() error {
	if _, err := os.Stat(templates); err == nil {
		return nil
	}
	if err := unix.Mount("tmpfs", "/usr/share", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount on /usr/share: %w", err)
	}
	all := os.MkdirAll(templates, 0o755)
	for _, name := range []string{"default.tmpl", "email.tmpl"} {
		all = errors.Join(all, os.WriteFile(filepath.Join(templates, name), nil, 0o644))
	}
	return all
}

// seen waits until Prometheus has scraped every host after a moment, or tried to, and then evaluated every rule.
func (w *monitoring) seen(moment time.Time) error {
	return await("Prometheus has looked", func() (bool, error) {
		samples, err := query("timestamp(up)")
		if err != nil || len(samples) < len(w.targets) {
			return false, err
		}
		last := samples[0].value
		for _, s := range samples {
			last = min(last, s.value)
		}
		if last < seconds(moment) {
			return false, nil
		}
		evaluated, _, err := rules()
		return err == nil && seconds(evaluated) > last, err
	})
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// sample is one of an instant vector.
type sample struct {
	labels map[string]string
	value  float64
}

// query evaluates an expression now.
func query(expression string) ([]sample, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := api("query?query="+url.QueryEscape(expression), &data); err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	samples := make([]sample, len(data.Result))
	for i, result := range data.Result {
		text, _ := result.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expression, err)
		}
		samples[i] = sample{result.Metric, value}
	}
	return samples, nil
}

// rules returns when the rules were evaluated, the earliest of their groups, and the alerts that wait or fire.
func rules() (evaluated time.Time, alerts []alert, err error) {
	var data struct {
		Groups []struct {
			LastEvaluation time.Time
			Rules          []struct {
				Name, Health, LastError string
				Alerts                  []struct {
					State  string
					Labels map[string]string
				}
			}
		}
	}
	if err := api("rules", &data); err != nil {
		return time.Time{}, nil, err
	}
	for i, group := range data.Groups {
		if i == 0 || group.LastEvaluation.Before(evaluated) {
			evaluated = group.LastEvaluation
		}
		for _, rule := range group.Rules {
			if rule.Health == "err" {
				return evaluated, nil, fmt.Errorf("Prometheus cannot evaluate %s: %s", rule.Name, rule.LastError)
			}
			for _, a := range rule.Alerts {
				alerts = append(alerts, alert{Status: a.State, Labels: a.Labels})
			}
		}
	}
	return evaluated, alerts, nil
}

// api decodes the data of an answer of Prometheus.
func api(path string, data any) error {
	text, err := host.Get(prometheusURL + "/api/v1/" + path)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), &struct{ Data any }{data})
}

// await calls reached until it returns true or an error, for as long as patience lasts.
func await(what string, reached func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if yes, err := reached(); yes || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %s", patience, what)
		}
	}
}
