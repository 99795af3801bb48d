//go:build linux

// Package prometheus has real servers scrape the real program, in every format that they can ask for, and compares what they stored
// with the page: a Prometheus of an older and of the newest major version, VictoriaMetrics, and OpenTelemetry's collector.
package prometheus

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// The media types that Prometheus is answered. promhttp answers those who ask for version 1.0.0 of the text format with 0.0.4 and
// the escaping that they asked for.
const (
	text     = "text/plain; version=0.0.4; charset=utf-8"
	protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

// patience is how long a busy machine may take for what an idle one does in seconds.
const patience = time.Minute

// job is one way to ask: lines of a scrape configuration, and what the answer must be.
type job struct {
	name, settings string
	contentType    string // its beginning; empty where it depends on the version whether protobuf is asked for
	encoding       string // empty for gzip
}

// server is a Prometheus, or what answers as one, with flags. It has a job for each way to ask.
type server struct {
	program string
	flags   []string
	jobs    []job
}

const (
	nativeHistograms = "--enable-feature=native-histograms"
	zstd             = "--enable-feature=zstd-scrape" // of Prometheus 3.15, others ignore it
)

var servers = []server{
	{"prometheus", nil, []job{{name: "default", contentType: text}}},
	{"prometheus", []string{nativeHistograms}, []job{{name: "default", contentType: protobuf}}},
	{"prometheus3", nil, []job{
		{name: "default", contentType: text},
		{name: "without_compression", settings: "enable_compression: false", contentType: text, encoding: "identity"},
		{name: "protobuf", settings: "scrape_protocols: [PrometheusProto]", contentType: protobuf},
		{
			name: "protobuf_without_compression", settings: "scrape_protocols: [PrometheusProto]\n    enable_compression: false",
			contentType: protobuf, encoding: "identity",
		},
		{name: "protobuf_first", settings: "scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText1.0.0]", contentType: protobuf},
		{name: "text_0", settings: "scrape_protocols: [PrometheusText0.0.4]", contentType: text},
		{name: "text_1", settings: "scrape_protocols: [PrometheusText1.0.0]", contentType: text},
		{name: "OpenMetrics_first", settings: "scrape_protocols: [OpenMetricsText1.0.0, PrometheusText0.0.4]", contentType: text},
		{name: "UTF-8_names", settings: "metric_name_escaping_scheme: allow-utf-8", contentType: text + "; escaping=allow-utf-8"},
		{name: "underscores", settings: "metric_name_escaping_scheme: underscores", contentType: text + "; escaping=underscores"},
		{name: "dots", settings: "metric_name_escaping_scheme: dots", contentType: text + "; escaping=dots"},
		{name: "values", settings: "metric_name_escaping_scheme: values", contentType: text + "; escaping=values"},
		{
			name: "legacy_names", settings: "metric_name_validation_scheme: legacy\n    metric_name_escaping_scheme: underscores",
			contentType: text + "; escaping=underscores",
		},
	}},
	{"prometheus3", []string{nativeHistograms}, []job{{name: "default"}}},
	{"prometheus3", []string{zstd}, []job{{name: "default", contentType: text}}},
	{victoriaMetrics, nil, []job{
		{name: "default", contentType: text},
		{name: "without_compression", settings: "disable_compression: true", contentType: text, encoding: "identity"},
		{name: "stream", settings: "stream_parse: true", contentType: text},
	}},
}

// victoriaMetrics is the program of a single node, which scrapes with the code of vmagent.
const victoriaMetrics = "victoria-metrics"

func TestPrometheusStoresThePage(t *testing.T) {
	path := host.Program(t, "test-prometheus")
	for _, s := range servers {
		tools.Look(t, s.program)
	}
	netnstest.Run(t, func(t *testing.T) { testStored(t, path) })
}

func testStored(t *testing.T, path string) {
	exporter := launch(t, path)
	proxy := startProxy(t, exporter.URL)

	for _, s := range servers {
		t.Run(strings.Join(append([]string{s.program}, s.flags...), "_"), func(t *testing.T) {
			t.Log(version(t, s.program))
			started := time.Now()
			proxy.forget()
			log := s.start(t, proxy.address)
			for _, j := range s.jobs {
				t.Run(j.name, func(t *testing.T) { j.check(t, exporter, proxy, started) })
			}
			if len(s.flags) == 0 {
				t.Run("dashboards", checkDashboards)
				if log.String() != "" { // with flags they warn that they do not know one
					t.Errorf("it warns:\n%s", log)
				}
			}
		})
	}
}

// launch starts the program with many listeners.
func launch(t *testing.T, path string) *program.Exporter {
	t.Helper()
	openListeners(t, 7019)
	return program.Launch(t, exec.Command(path, "--collector.netns=self", "--web.listen-address=127.0.0.1:10190")).Listen()
}

// openListeners opens listeners from port 7001 to the last one, and on 7020 one of a process with an unusual name.
func openListeners(t *testing.T, last int) {
	t.Helper()
	for port := 7001; port <= last; port++ {
		program.Listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", port))
		program.Listen(t, "udp", fmt.Sprintf("[::1]:%d", port))
	}
	socket, err := netnstest.Listen("tcp", "127.0.0.1:7020")
	if err != nil {
		t.Fatal(err)
	}
	netnstest.HandOver(t, netnstest.Program{Name: `ünï "c\d` + "\n", Sockets: []int{socket}})
}

// version returns what a program says of its version. VictoriaMetrics, built from its module, says nothing.
func version(t *testing.T, name string) string {
	t.Helper()
	output, err := exec.Command(name, "--version").CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, output)
	}
	return string(output)
}

// command returns the command that starts the server with files in a directory. It logs warnings and errors; VictoriaMetrics does not
// warn of scrapes that take longer than a second, as on a busy machine.
func (s server) command(dir string) *exec.Cmd {
	data := filepath.Join(dir, "data")
	if s.program == victoriaMetrics {
		return exec.Command(s.program, append(s.flags, "-promscrape.config="+configurationFile(dir), "-storageDataPath="+data,
			"-httpListenAddr="+prometheusAddress, "-loggerLevel=WARN", "-promscrape.suppressScrapeErrors", "-search.latencyOffset=0")...)
	}
	return exec.Command(s.program, append(s.flags, "--config.file="+configurationFile(dir), "--storage.tsdb.path="+data,
		"--web.listen-address="+prometheusAddress, "--log.level=warn")...)
}

func configurationFile(dir string) string { return filepath.Join(dir, "prometheus.yml") }

// start starts the server, which the end of the test ends, and returns its log.
func (s server) start(t *testing.T, target string) *program.Output {
	t.Helper()
	dir := t.TempDir()
	var configuration strings.Builder
	configuration.WriteString("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n")
	for _, j := range s.jobs {
		fmt.Fprintf(&configuration, "  - job_name: %s\n    params: {job: [%[1]s]}\n    static_configs: [{targets: [%q]}]\n", j.name, target)
		if j.settings != "" {
			configuration.WriteString("    " + j.settings + "\n")
		}
	}
	if err := os.WriteFile(configurationFile(dir), []byte(configuration.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	process, log := startLogged(t, s.command(dir), configuration.String())
	if err := host.Await(patience, func() error {
		_, err := host.Get("http://" + prometheusAddress + "/-/ready")
		return cmp.Or(process.Ended(), err)
	}); err != nil {
		t.Fatal(err)
	}
	return log
}

// startLogged starts a server, which the end of the test ends, and returns it with its log. A test that fails shows its configuration
// and its log.
func startLogged(t *testing.T, cmd *exec.Cmd, configuration string) (*host.Process, *program.Output) {
	t.Helper()
	log := new(program.Output)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := host.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Terminate(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s\n%s", configuration, log)
		}
	})
	return process, log
}

// check waits for a scrape whose samples are those of the page, and compares how Prometheus asked, was answered, and what it stored.
func (j job) check(t *testing.T, exporter *program.Exporter, p *proxy, started time.Time) {
	t.Helper()
	var page string
	if err := host.Await(patience, func() error {
		page = exporter.Scrape()
		return j.stored(t, page, started)
	}); err != nil {
		t.Fatal(err)
	}
	seen := p.seen(j.name)
	t.Logf("%s\nAccept: %s\nAccept-Encoding: %s\nContent-Type: %s\nContent-Encoding: %s\n%d samples", seen.request.Get("User-Agent"),
		seen.request.Get("Accept"), seen.request.Get("Accept-Encoding"), seen.answer.Get("Content-Type"),
		seen.answer.Get("Content-Encoding"), len(program.Samples(t, page)))
	kind := cmp.Or(j.contentType, text)
	if j.contentType == "" && strings.HasPrefix(seen.request.Get("Accept"), "application/vnd.google.protobuf") {
		kind = protobuf
	}
	if got := seen.answer.Get("Content-Type"); !strings.HasPrefix(got, kind) {
		t.Errorf("Content-Type %q, want %q", got, kind)
	}
	encoding := cmp.Or(seen.answer.Get("Content-Encoding"), "identity")
	if encoding == "zstd" && strings.Contains(seen.request.Get("Accept-Encoding"), encoding) {
		encoding = "gzip" // as good
	}
	if want := cmp.Or(j.encoding, "gzip"); encoding != want {
		t.Errorf("Content-Encoding %q, want %q", encoding, want)
	}
}

// stored returns an error unless the last scrape of the job has stored what is on the page.
func (j job) stored(t *testing.T, page string, started time.Time) error {
	t.Helper()
	selector := `{job="` + j.name + `"}`
	up, err := query("up" + selector)
	if err != nil {
		return err
	}
	if len(up) != 1 || up[0].value != "1" {
		failures, _ := query("scrape_samples_scraped" + selector)
		return fmt.Errorf("up is %v, want 1; %v", up, failures)
	}
	scraped, err := query("scrape_samples_scraped" + selector + " and on () timestamp(up" + selector + ") > " + fmt.Sprint(started.Unix()))
	if err != nil {
		return err
	}
	if want := fmt.Sprint(len(program.Samples(t, page))); len(scraped) != 1 || scraped[0].value != want {
		return fmt.Errorf("scrape_samples_scraped is %v, want %s", scraped, want)
	}
	got, err := ofJob(j.name)
	if err != nil {
		return err
	}
	return got.compare(parse(t, page))
}
