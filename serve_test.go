package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// defaultConfig returns the program's configuration without any flag.
func defaultConfig(t *testing.T, args ...string) *config {
	t.Helper()
	c, _, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serveOnce returns a handler's answer to a GET request.
func serveOnce(t *testing.T, handler http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return recorder
}

func TestTheMetricsPageIsWhatPrometheusReads(t *testing.T) {
	e := startExporter(t, "--path.procfs="+newProcfs(t))
	resp := e.get("/metrics")
	if resp.status != http.StatusOK {
		t.Errorf("status %d, want 200", resp.status)
	}
	if got, want := resp.header.Get("Content-Type"), "text/plain; version=0.0.4; charset=utf-8"; !strings.HasPrefix(got, want) {
		t.Errorf("Content-Type %q, want %q", got, want)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(resp.body)); err != nil {
		t.Errorf("the page is not in the text format: %v", err)
	}

	got := samples(t, resp.body)
	for series := range got {
		if !strings.HasPrefix(series, "host_listen_") || strings.HasPrefix(series, "host_listen_collector_duration_seconds{") {
			delete(got, series)
		}
	}
	const (
		on22   = `{address="0.0.0.0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"}`
		on443  = `{address="::",family="ipv6",port="443",proto="tcp",range="privileged",scope="any"}`
		on8080 = `{address="127.0.0.1",family="ipv4",port="8080",proto="tcp",range="user",scope="loopback"}`
		on53   = `{address="0.0.0.0",family="ipv4",port="53",proto="udp",range="privileged",scope="any"}`
		on546  = `{address="fe80::1",family="ipv6",port="546",proto="udp",range="privileged",scope="link-local"}`
	)
	want := map[string]string{
		`host_listen_collector_success{collector="tcp"}`:    "1",
		`host_listen_collector_success{collector="udp"}`:    "1",
		`host_listen_collector_success{collector="holder"}`: "1",
		`host_listen_source_info{source="procfs"}`:          "1",
		"host_listen_ports_omitted":                         "0",
		"host_listen_ports_unattributed":                    "5",
	}
	for _, labels := range []string{on22, on443, on8080, on53, on546} {
		want["host_listen_port"+labels] = "1"
		want["host_listen_port_sockets"+labels] = "1"
	}
	want["host_listen_port_accept_queue_length"+on22] = "3"
	want["host_listen_port_accept_queue_length"+on443] = "0"
	want["host_listen_port_accept_queue_length"+on8080] = "0"
	want["host_listen_port_receive_queue_bytes"+on53] = "512"
	want["host_listen_port_receive_queue_bytes"+on546] = "0"
	want["host_listen_port_drops_total"+on53] = "0"
	want["host_listen_port_drops_total"+on546] = "0"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series differ (-want +got):\n%s", diff)
	}
}

func TestPromtoolFindsNothingToSayAboutTheMetricsPage(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not on the PATH")
	}
	procfs := newProcfs(t)
	e := startExporter(t, "--path.procfs="+procfs)
	e.scrape()
	// A second socket of the port, so that there is a first_seen too.
	writeTable(t, procfs, "tcp", tcpTable+strings.NewReplacer("0016", "0017", "1016", "2016").Replace(tcp22))
	page := e.scrape()
	if want := "\nhost_listen_port_first_seen_timestamp_seconds{"; !strings.Contains(page, want) {
		t.Errorf("the page has no %s…", strings.TrimSpace(want))
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(page)
	if output, err := cmd.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("promtool check metrics: %v:\n%s", err, output)
	}
}

func TestTheRootLinksToEveryOtherPage(t *testing.T) {
	for _, path := range []string{"/metrics", "/a/b"} {
		for _, flag := range []string{"--web.page", "--no-web.page"} {
			t.Run(path+flag, func(t *testing.T) {
				e := startExporter(t, "--path.procfs="+newProcfs(t), "--web.telemetry-path="+path, flag)
				root := e.get("/")
				if root.status != http.StatusOK {
					t.Errorf("status %d, want 200", root.status)
				}
				if got, want := root.header.Get("Content-Type"), "text/html; charset=utf-8"; !strings.EqualFold(got, want) {
					t.Errorf("Content-Type %q, want %q", got, want)
				}
				if shows := strings.Contains(root.body, "<table"); shows != (flag == "--web.page") {
					t.Errorf("the root shows listeners: %t", shows)
				}
				e.awaitReady()
				var links []string
				for _, match := range regexp.MustCompile(`(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(root.body, -1) {
					links = append(links, match[1])
					if resp := e.get(match[1]); resp.status != http.StatusOK {
						t.Errorf("the link %s has status %d, want 200", match[1], resp.status)
					}
				}
				if diff := cmp.Diff([]string{path, "/-/healthy", "/-/ready"}, links); diff != "" {
					t.Errorf("links differ (-want +got):\n%s", diff)
				}
				if strings.Contains(root.body, "debug/pprof") {
					t.Error("the root speaks of profiles, which are not served")
				}
			})
		}
	}
}

func (e *exporter) awaitReady() {
	e.t.Helper()
	e.await("readiness", func() bool { return e.get("/-/ready").status == http.StatusOK })
}

func TestEveryPathHasItsStatus(t *testing.T) {
	for _, served := range []struct {
		telemetryPath string
		want          map[string]int // by method and path
	}{
		{"/metrics", map[string]int{
			"GET /":             200,
			"GET /metrics":      200,
			"HEAD /metrics":     200,
			"POST /metrics":     405,
			"PUT /metrics":      405,
			"DELETE /metrics":   405,
			"POST /":            405,
			"POST /-/ready":     405,
			"GET /-/healthy":    200,
			"GET /-/ready":      200,
			"GET /nothing":      404,
			"GET /metrics/":     404,
			"GET /metrics/x":    404,
			"GET /debug/pprof/": 404,
			"GET /debug/vars":   404,
			"GET /-/reload":     404,
			"POST /-/quit":      404,
			"GET /favicon.ico":  404,
		}},
		{"/a/b", map[string]int{
			"GET /":          200,
			"GET /a/b":       200,
			"POST /a/b":      405,
			"GET /metrics":   404,
			"GET /a":         404,
			"GET /-/healthy": 200,
		}},
		{"/", map[string]int{
			"GET /":             200,
			"POST /":            405,
			"GET /metrics":      404,
			"GET /nothing":      404,
			"GET /debug/pprof/": 404,
			"GET /-/healthy":    200,
			"GET /-/ready":      200,
		}},
	} {
		t.Run("metrics under "+served.telemetryPath, func(t *testing.T) {
			e := startExporter(t, "--path.procfs="+newProcfs(t), "--web.telemetry-path="+served.telemetryPath)
			e.awaitReady()
			got := make(map[string]int)
			for methodAndPath := range served.want {
				method, path, _ := strings.Cut(methodAndPath, " ")
				resp, err := e.request(method, path)
				if err != nil {
					t.Fatal(err)
				}
				got[methodAndPath] = resp.status
			}
			if diff := cmp.Diff(served.want, got); diff != "" {
				t.Errorf("status differs (-want +got):\n%s", diff)
			}
			if page := e.get(served.telemetryPath).body; !strings.Contains(page, "\nhost_listen_port{") {
				t.Errorf("GET %s gives no metrics", served.telemetryPath)
			}
		})
	}
}

// What other packages put into the default mux is nobody's business.
func TestTheDefaultMuxIsNotServed(t *testing.T) {
	before := http.DefaultServeMux
	t.Cleanup(func() { http.DefaultServeMux = before })
	http.DefaultServeMux = http.NewServeMux()
	http.HandleFunc("/in-the-default-mux", func(http.ResponseWriter, *http.Request) {})
	snapshot := func() *inventory.Snapshot { return new(inventory.Snapshot) }
	handler, err := newHandler(defaultConfig(t), snapshot, func() bool { return true }, newLoggers(io.Discard, "info", "logfmt"))
	if err != nil {
		t.Fatal(err)
	}
	if got := serveOnce(t, handler, "/in-the-default-mux").Code; got != http.StatusNotFound {
		t.Errorf("status %d, want 404", got)
	}
}

func TestTheExporterIsHealthyAtOnceAndReadyAfterItsFirstRead(t *testing.T) {
	t.Parallel()
	procfs := newProcfs(t)
	g := closeGate(t, procfs)
	e := startExporter(t, "--path.procfs="+procfs)
	open := g.await() // without any scrape: the first read begins by itself
	if resp := e.get("/-/healthy"); resp.status != http.StatusOK || resp.body != "listen_exporter is healthy.\n" {
		t.Errorf("/-/healthy: status %d, %q, want 200", resp.status, resp.body)
	}
	for range 3 {
		if resp := e.get("/-/ready"); resp.status != http.StatusServiceUnavailable {
			t.Errorf("/-/ready: status %d before the first read is finished, want 503: %s", resp.status, resp.body)
		}
	}
	open()
	e.awaitReady()
	if resp := e.get("/-/ready"); resp.body != "listen_exporter is ready.\n" {
		t.Errorf("/-/ready: %q", resp.body)
	}
}

func TestTheExporterIsReadyThoughAFirstReadFailed(t *testing.T) {
	procfs := newProcfs(t)
	writeTable(t, procfs, "tcp", "")
	startExporter(t, "--path.procfs="+procfs).awaitReady()
}

func TestTheExportersOwnMetricsCanBeLeftOut(t *testing.T) {
	procfs := newProcfs(t)
	for _, test := range []struct {
		name string
		args []string
		want bool
	}{
		{"there by default", nil, true},
		{"left out", []string{"--web.disable-exporter-metrics"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := startExporter(t, append(test.args, "--path.procfs="+procfs)...)
			e.scrape()
			page := "\n" + e.scrape()
			for _, prefix := range []string{"go_", "process_", "promhttp_"} {
				if got := strings.Contains(page, "\n"+prefix); got != test.want {
					t.Errorf("metrics %s*: %t, want %t", prefix, got, test.want)
				}
			}
			for _, prefix := range []string{"listen_exporter_build_info{", "host_listen_port{"} {
				if !strings.Contains(page, "\n"+prefix) {
					t.Errorf("no %s…", prefix)
				}
			}
		})
	}
}

func TestTheExporterUsesAsManyCPUsAsItMay(t *testing.T) {
	procfs := newProcfs(t)
	for want, args := range map[string][]string{"1": nil, "2": {"--runtime.gomaxprocs=2"}} {
		e := startExporter(t, append(args, "--path.procfs="+procfs)...)
		if got := samples(t, e.scrape())["go_sched_gomaxprocs_threads"]; got != want {
			t.Errorf("%q: go_sched_gomaxprocs_threads %s, want %s", args, got, want)
		}
	}
}

func TestEveryAddressIsServed(t *testing.T) {
	e := startExporter(t, "--path.procfs="+newProcfs(t), "--web.listen-address=127.0.0.2:0")
	e.await("both addresses in the log", func() bool { return strings.Count(e.stderr.String(), `msg="Listening on"`) == 2 })
	for _, match := range regexp.MustCompile(`msg="Listening on" address=(\S+)`).FindAllStringSubmatch(e.stderr.String(), -1) {
		e.url = "http://" + match[1]
		e.scrape()
	}
	if n := strings.Count(e.stderr.String(), `msg="observing a network namespace"`); n != 1 {
		t.Errorf("the namespace was logged %d times, want once", n)
	}
}

func TestTheServerWaitsForNobodyWithoutAnEnd(t *testing.T) {
	server := newServer(http.NotFoundHandler(), newLoggers(io.Discard, "info", "logfmt"))
	for name, timeout := range map[string]time.Duration{
		"header": server.ReadHeaderTimeout,
		"read":   server.ReadTimeout,
		"write":  server.WriteTimeout,
		"idle":   server.IdleTimeout,
	} {
		if timeout <= 0 {
			t.Errorf("the %s timeout is %s: none", name, timeout)
		}
	}
}
