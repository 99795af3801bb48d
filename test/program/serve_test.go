//go:build linux

package program_test

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestTheMetricsPageIsWhatPrometheusReads(t *testing.T) {
	e := program.Start(t, "--path.procfs="+program.NewProcfs(t))
	resp := e.Get("/metrics")
	if resp.Status != http.StatusOK {
		t.Errorf("status %d, want 200", resp.Status)
	}
	if got, want := resp.Header.Get("Content-Type"), "text/plain; version=0.0.4; charset=utf-8"; !strings.HasPrefix(got, want) {
		t.Errorf("Content-Type %q, want %q", got, want)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(resp.Body)); err != nil {
		t.Errorf("the page is not in the text format: %v", err)
	}

	got := program.Samples(t, resp.Body)
	for series := range got {
		if !strings.HasPrefix(series, "host_listen_") || strings.HasPrefix(series, "host_listen_collector_duration_seconds{") || series == "host_listen_time_seconds" {
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
		`host_listen_opened_total{proto="tcp"}`:             "0",
		`host_listen_opened_total{proto="udp"}`:             "0",
		`host_listen_closed_total{proto="tcp"}`:             "0",
		`host_listen_closed_total{proto="udp"}`:             "0",
		"host_listen_state_loaded":                          "0",
		"host_listen_watch_interval_seconds":                "5",
		droppedLines:                                        "0",
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

func TestPromtoolFindsNothingWrongWithTheMetricsPage(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not on the PATH")
	}
	procfs := program.NewProcfs(t)
	e := program.Start(t, "--path.procfs="+procfs)
	e.Scrape()
	// Another port, so that there is a first_seen as well.
	program.WriteTable(t, procfs, "tcp", program.TCPTable+strings.NewReplacer("0016", "0017", "1016", "2016").Replace(program.TCP22))
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(e.Scrape())
	if output, err := cmd.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("promtool check metrics: %v:\n%s", err, output)
	}
}

func TestTheExporterIsReadyAfterAFailedFirstRead(t *testing.T) {
	procfs := program.NewProcfs(t)
	program.WriteTable(t, procfs, "tcp", "")
	program.Start(t, "--path.procfs="+procfs).AwaitReady()
}

func TestTheExporterUsesAsManyCPUsAsItMay(t *testing.T) {
	procfs := program.NewProcfs(t)
	for want, args := range map[string][]string{"1": nil, "2": {"--runtime.gomaxprocs=2"}} {
		e := program.Start(t, append(args, "--path.procfs="+procfs)...)
		if got := program.Samples(t, e.Scrape())["go_sched_gomaxprocs_threads"]; got != want {
			t.Errorf("%q: go_sched_gomaxprocs_threads %s, want %s", args, got, want)
		}
	}
}
