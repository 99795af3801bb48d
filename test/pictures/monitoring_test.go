//go:build linux

package pictures

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/grafana"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/program"
)

const (
	scrapeInterval = 5 * time.Second
	// shown is the dashboard's time range.
	shown = 8 * time.Minute
)

// monitoring is the Prometheus of the scene.
type monitoring struct {
	*machine
	url string
}

// monitor starts a Prometheus with the shipped rules, which scrapes the hosts, on a host of its own.
func monitor(t *testing.T, dir string, hosts ...*machine) *monitoring {
	t.Helper()
	m := &monitoring{machine: &machine{name: "monitoring", network: newNetwork(t)}}
	var targets strings.Builder
	for _, h := range hosts {
		h.connect(t, m.machine)
		fmt.Fprintf(&targets, "      - {targets: [%q], labels: {instance: %q}}\n", h.address()+":10190", h.name+":10190")
	}
	m.url = "http://10.20.1.1:9090" // on the cable of the first host, which is the network of the test
	file := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s}\nrule_files: [%[2]s]\n"+
		"scrape_configs:\n  - job_name: listen_exporter\n    static_configs:\n%[3]s",
		scrapeInterval, filepath.Join(host.Root, "alerts/listen_exporter.rules.yml"), &targets)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	m.inside(t, func() error {
		program.Launch(t, exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
			"--web.listen-address=:9090", "--log.level=warn"))
		return nil
	})
	if err := host.Await(time.Minute, func() error {
		_, err := host.Get(m.url + "/-/ready")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

// fleet makes two more hosts with exporters, and has things go wrong on them while the time passes that the dashboard shows.
func fleet(t *testing.T, dir string, web *machine) *monitoring {
	t.Helper()
	mail := &machine{name: "mail-1", number: 2, network: newNetwork(t)}
	build := &machine{name: "build-1", number: 3, network: newNetwork(t)}
	m := monitor(t, dir, web, mail, build)
	began := time.Now()

	dovecot := service{"dovecot", "dovecot.service", 0, []string{"tcp/0.0.0.0:993", "tcp/[::]:993"}}
	mail.start(t, sshd, nodeExporter, chronyd, service{"master", "postfix@-.service", 107, []string{"tcp/0.0.0.0:25", "tcp/[::]:25"}})
	last := mail.start(t, dovecot)
	mail.watch(t, "--registry.file="+filepath.Join(dir, "ports.yml"))
	// No registry: what is gone is remembered.
	build.start(t, sshd, nodeExporter, chronyd, service{"dockerd", "docker.service", 0, []string{"tcp/127.0.0.1:2375"}})
	cups := build.start(t, service{"cupsd", "cups.service", 0, []string{"tcp/127.0.0.1:631", "tcp/[::1]:631"}})
	build.fill(t, service{"gunicorn", "ci.service", 33, []string{"tcp/127.0.0.1:8080"}})
	build.watch(t, "--collector.settled-after=1m")

	time.Sleep(time.Until(began.Add(shown / 4)))
	cups.End(t)
	time.Sleep(time.Until(began.Add(shown / 2)))
	for range 5 { // dovecot crashes again and again
		last.End(t)
		time.Sleep(2 * scrapeInterval)
		last = mail.start(t, dovecot)
		time.Sleep(scrapeInterval)
	}
	last.End(t)
	time.Sleep(time.Until(began.Add(shown * 3 / 4)))
	mail.start(t, service{"inetd", "inetd.service", 0, []string{"tcp/0.0.0.0:23"}})
	time.Sleep(time.Until(began.Add(shown)))
	return m
}

// answer is a series of an answer of Prometheus.
type answer struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

// ask runs a query of a dashboard.
func (m *monitoring) ask(t *testing.T, q grafana.Target, end time.Time) (result []answer) {
	t.Helper()
	parameters := url.Values{"query": {grafana.Interpolate(t, q.Expr, grafana.Everything, fmt.Sprint(int(shown.Seconds())), "1m")}}
	path := "/api/v1/query?"
	if q.Range {
		path = "/api/v1/query_range?"
		parameters.Set("start", fmt.Sprint(end.Add(-shown).Unix()))
		parameters.Set("end", fmt.Sprint(end.Unix()))
		parameters.Set("step", fmt.Sprint(scrapeInterval.Seconds()))
	}
	text, err := host.Get(m.url + path + parameters.Encode())
	if err != nil {
		t.Fatalf("%s: %v", q.Expr, err)
	}
	var body struct{ Data struct{ Result []answer } }
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	return body.Data.Result
}

// number returns the value of a sample.
func number(sample [2]any) float64 {
	text, _ := sample[1].(string)
	value, _ := strconv.ParseFloat(text, 64)
	return value
}
