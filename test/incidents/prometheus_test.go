//go:build linux

package incidents

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
)

const (
	rulesFile       = "../../alerts/listen_exporter.rules.yml"
	alertmanagerURL = "http://127.0.0.1:9093"
	jobName         = "listen_exporter"
	// engineLabel names the Prometheus that sends an alert.
	engineLabel = "engine"
	// scrapeInterval is the time between two scrapes, their timeout, and the time between two evaluations of the rules: 20
	// seconds on a real host.
	scrapeInterval = time.Second
)

// configuration is that of a Prometheus. Each host has the instance label by which its alerts are known.
const configuration = `
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s, external_labels: {` + engineLabel + `: %[2]s}}
rule_files: [%[2]s-rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["127.0.0.1:9093"]}]}]}
scrape_configs:
  - job_name: ` + jobName + `
    file_sd_configs: [{files: [%[2]s-targets.json]}]
`

// routes is the configuration of Alertmanager: each alert is sent by itself, at once, and again when it ends.
const routes = `
route: {receiver: test, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: test
    webhook_configs: [{url: "http://` + receiverAddress + `/", send_resolved: true}]
`

// engine is a Prometheus of one version.
type engine struct {
	program string // and its name
	port    int
	ruler   bool // it adds a label to the series that it records, as rulers of some systems do
	process *host.Process
}

// recorded finds the head of a rule that records a series.
var recorded = regexp.MustCompile(`(?m)^( +)- record: .*\n`)

func (e *engine) url() string { return fmt.Sprintf("http://127.0.0.1:%d", e.port) }

// monitoring is the Prometheus servers and Alertmanager, which watch the hosts.
type monitoring struct {
	dir          string // of configurations, data and logs
	hosts        []*machine
	engines      []*engine
	alertmanager *host.Process
}

// start starts all of them.
func (w *monitoring) start() error {
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		return err
	}
	files := map[string]string{"alertmanager.yml": routes}
	for _, e := range w.engines {
		files[e.program+"-rules.yml"] = quicken(string(rules))
		if e.ruler {
			files[e.program+"-rules.yml"] = recorded.ReplaceAllString(quicken(string(rules)), "${0}${1}  labels: {ruler: test}\n")
		}
		files[e.program+".yml"] = fmt.Sprintf(configuration, scrapeInterval, e.program)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := w.retarget(); err != nil {
		return err
	}
	w.alertmanager, err = w.run("alertmanager", alertmanagerURL, "--config.file="+filepath.Join(w.dir, "alertmanager.yml"),
		"--storage.path="+filepath.Join(w.dir, "alertmanager"), "--web.listen-address=127.0.0.1:9093", "--cluster.listen-address=")
	for _, e := range w.engines {
		err = errors.Join(err, w.startEngine(e))
	}
	return err
}

// retarget writes which targets there are, with which labels.
func (w *monitoring) retarget() error {
	var all error
	for _, e := range w.engines {
		var groups []map[string]any
		for _, h := range w.hosts {
			address, err := h.target(e)
			all = errors.Join(all, err)
			for _, labels := range h.targets {
				with := map[string]string{"instance": h.name}
				maps.Copy(with, labels)
				groups = append(groups, map[string]any{"targets": []string{address}, "labels": with})
			}
		}
		text, err := json.Marshal(groups)
		file := filepath.Join(w.dir, e.program+"-targets.json")
		all = errors.Join(all, err, os.WriteFile(file+".new", text, 0o600), os.Rename(file+".new", file))
	}
	return all
}

func (w *monitoring) startEngine(e *engine) (err error) {
	// Each default, and as much shorter as time is quicker.
	e.process, err = w.run(e.program, e.url(), "--config.file="+filepath.Join(w.dir, e.program+".yml"),
		"--storage.tsdb.path="+w.data(e), fmt.Sprintf("--web.listen-address=127.0.0.1:%d", e.port), "--log.level=warn",
		"--query.lookback-delta="+promDuration(5*time.Minute/speed),
		"--rules.alert.for-outage-tolerance="+promDuration(time.Hour/speed),
		"--rules.alert.for-grace-period="+promDuration(10*time.Minute/speed))
	return err
}

// data is where an engine stores what it has scraped.
func (w *monitoring) data(e *engine) string { return filepath.Join(w.dir, e.program) }

// run starts one of them and waits until it is ready.
func (w *monitoring) run(program, address string, arguments ...string) (*host.Process, error) {
	log, err := os.OpenFile(filepath.Join(w.dir, program+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, arguments...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := host.Start(cmd)
	if err != nil {
		return nil, err
	}
	return p, await(program+" is ready", func() (bool, error) {
		_, err := host.Get(address + "/-/ready")
		return err == nil, p.Ended()
	})
}

// stop ends all of them.
func (w *monitoring) stop() error {
	all := w.alertmanager.Terminate()
	for _, e := range w.engines {
		all = errors.Join(all, e.process.Terminate())
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
