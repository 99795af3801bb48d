package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func testNobody(t *testing.T, binary string) {
	liveListen(t, "tcp", "0.0.0.0:22")
	liveListen(t, "tcp", "[::]:443")
	for range 4 {
		liveListen(t, "tcp", "127.0.0.1:7001", netnstest.ReusePort())
	}
	liveListen(t, "udp", "0.0.0.0:53")
	liveListen(t, "udp", "[fe80::1%test0]:546")
	mount(t, "", "/", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if err := os.Mkdir("/listen_exporter_test", 0o700); !errors.Is(err, unix.EROFS) {
		t.Fatalf("make a directory on a read-only root: %v, want %v", err, unix.EROFS)
	}

	e := liveStartAsNobody(t, binary, "--collector.netns=self")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`Uid:\s65534\s65534\s65534\s65534`, `CapPrm:\s0+`, `CapEff:\s0+`, `CapBnd:\s0+`, `NoNewPrivs:\s1`} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).Match(status) {
			t.Errorf("the exporter's status has no %s:\n%s", want, status)
		}
	}

	e.await("readiness", func() bool { return e.get("/-/ready").status == http.StatusOK })
	liveListen(t, "tcp", "0.0.0.0:7002") // which appears later
	page := e.scrape()
	e.wantSuccess(page, "1", "1")
	e.wantListeners(page, "own",
		"tcp ipv4 0.0.0.0:22 any privileged",
		"tcp ipv6 [::]:443 any privileged",
		"tcp ipv4 127.0.0.1:7001 loopback user",
		"tcp ipv4 0.0.0.0:7002 any user",
		"udp ipv4 0.0.0.0:53 any privileged",
		"udp ipv6 [fe80::1]:546 link-local privileged",
	)
	names := make(map[string]bool)
	for series := range samples(t, page) {
		name, _, _ := strings.Cut(series, "{")
		names[name] = true
	}
	for _, name := range []string{
		"host_listen_port", "host_listen_port_sockets", "host_listen_port_accept_queue_length",
		"host_listen_port_accept_queue_limit", "host_listen_port_receive_queue_bytes", "host_listen_port_receive_buffer_limit_bytes",
		"host_listen_port_drops_total", "host_listen_port_ipv6_only", "host_listen_port_first_seen_timestamp_seconds",
		"host_listen_collector_success", "host_listen_collector_duration_seconds", "host_listen_source_info",
		"host_listen_ports_omitted", "listen_exporter_build_info", "go_goroutines", "process_open_fds",
		"process_resident_memory_bytes", "promhttp_metric_handler_requests_total",
	} {
		if !names[name] {
			t.Errorf("no sample of %s", name)
		}
	}
	for _, path := range []string{"/", "/metrics", "/-/healthy", "/-/ready"} {
		if got := e.get(path).status; got != http.StatusOK {
			t.Errorf("GET %s: status %d, want 200", path, got)
		}
	}
	if lines := slices.Concat(e.warnings(), e.errorLines()); len(lines) != 0 {
		t.Errorf("warnings and errors %q, want none", lines)
	}
	wantSocketsOfSS(t, page)
}

// wantSocketsOfSS checks host_listen_port_sockets against what ss shows: how many sockets on each protocol and port.
func wantSocketsOfSS(t *testing.T, page string) {
	t.Helper()
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("needs ss, of iproute2")
	}
	output, err := exec.Command("ss", "-Htuln").Output()
	if err != nil {
		t.Fatalf("ss -Htuln: %v", err)
	}
	shown, reported := make(map[string]int), make(map[string]int)
	for line := range strings.Lines(string(output)) {
		columns := strings.Fields(line)
		local := columns[4]
		shown[columns[0]+" "+local[strings.LastIndexByte(local, ':')+1:]]++
	}
	for series, value := range samples(t, page) {
		if !strings.HasPrefix(series, "host_listen_port_sockets{") {
			continue
		}
		sockets, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%s is %q", series, value)
		}
		reported[label(series, "proto")+" "+label(series, "port")] += sockets
	}
	if diff := cmp.Diff(shown, reported); diff != "" {
		t.Errorf("sockets by protocol and port (-ss +reported):\n%s", diff)
	}
}

func testManyScrapesAtOnce(t *testing.T, binary string) {
	const clients, tcp, udp = 50, 1600, 400
	for n := range tcp {
		liveListen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", 10000+n))
	}
	for n := range udp {
		liveListen(t, "udp", fmt.Sprintf("0.0.0.0:%d", 10000+n))
	}
	for _, source := range []string{"netlink", "procfs"} {
		t.Run(source, func(t *testing.T) { scrapeAtOnce(t, binary, source, clients, tcp+udp) })
	}
}

func scrapeAtOnce(t *testing.T, binary, source string, clients, listeners int) {
	e := liveStart(t, binary, "--collector.netns=self", "--collector.source="+source, "--web.max-requests=100")
	e.await("readiness", func() bool { return e.get("/-/ready").status == http.StatusOK })

	pages, errs := make([]response, clients), make([]error, clients)
	var scraping sync.WaitGroup
	start := make(chan struct{})
	for n := range clients {
		scraping.Go(func() {
			<-start
			pages[n], errs[n] = e.request(http.MethodGet, "/metrics")
		})
	}
	close(start)
	scraping.Wait()

	reads := make(map[string]bool) // by how long they took, to the nanosecond
	for n, page := range pages {
		if errs[n] != nil || page.status != http.StatusOK {
			t.Errorf("scrape %d: status %d, %v", n, page.status, errs[n])
			continue
		}
		e.wantSuccess(page.body, "1", "1")
		if got := len(e.listeners(page.body)); got != listeners+1 {
			t.Errorf("scrape %d: %d listeners, want %d and the exporter's own", n, got, listeners)
		}
		found := samples(t, page.body)
		reads[found[`host_listen_collector_duration_seconds{collector="tcp"}`]] = true
	}
	t.Logf("%d reads for %d scrapes", len(reads), clients)
	// By netlink a read is over before the next scrape is there.
	if source == "procfs" && len(reads) >= clients {
		t.Errorf("%d reads for %d scrapes at the same time, want them shared", len(reads), clients)
	}
}

func testNothingGrows(t *testing.T, binary string) {
	const warmUp, scrapes = 30, 300
	for n := range 100 {
		liveListen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", 10000+n))
		liveListen(t, "udp", fmt.Sprintf("0.0.0.0:%d", 10000+n))
	}
	e := liveStart(t, binary, "--collector.netns=self")
	use := func(n int) map[string]float64 {
		for i := range n {
			e.scrape()
			if i%3 == 0 { // Prometheus keeps its connections, others do not
				e.client.CloseIdleConnections()
			}
		}
		found := samples(t, e.scrape())
		used := make(map[string]float64)
		for _, name := range []string{"process_open_fds", "go_goroutines", "go_threads"} {
			value, err := strconv.ParseFloat(found[name], 64)
			if err != nil {
				t.Fatalf("%s is %q", name, found[name])
			}
			used[name] = value
		}
		return used
	}
	before := use(warmUp)
	after := use(scrapes)
	t.Logf("after %d scrapes: %v, after %d more: %v", warmUp, before, scrapes, after)
	for name, slack := range map[string]float64{
		"process_open_fds": 2, // connections that are just being closed
		"go_goroutines":    4, // and those that serve them
		"go_threads":       3, // the runtime makes them as needed and keeps them
	} {
		if after[name] > before[name]+slack {
			t.Errorf("%s rose from %v to %v in %d scrapes", name, before[name], after[name], scrapes)
		}
	}
}

func testFailedRead(t *testing.T, binary string) {
	liveListen(t, "tcp", "0.0.0.0:7001")
	liveListen(t, "udp", "0.0.0.0:7002")
	// A procfs whose tables are the kernel's own and can be taken away.
	procfs := t.TempDir()
	if err := os.MkdirAll(filepath.Join(procfs, "1", "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := func(file string) {
		t.Helper()
		if err := os.Symlink("/proc/self/net/"+file, tablePath(procfs, file)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"tcp", "tcp6", "udp", "udp6"} {
		link(file)
	}
	if err := os.Symlink("/proc/sys", filepath.Join(procfs, "sys")); err != nil {
		t.Fatal(err)
	}
	e := liveStart(t, binary, "--path.procfs="+procfs, "--collector.source=procfs")
	const tcpPort, udpPort = "tcp ipv4 0.0.0.0:7001 any user", "udp ipv4 0.0.0.0:7002 any user"
	e.wantListeners(e.scrape(), "own", tcpPort, udpPort)

	write := func(text string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	for _, damage := range []struct {
		name, file string
		put        func(path string) error // in the table's place
		tcp, udp   string                  // the success gauges
		want       []string
	}{
		{"no_tcp", "tcp", func(string) error { return nil }, "0", "1", []string{udpPort}},
		{"no_udp", "udp", func(string) error { return nil }, "1", "0", []string{"own", tcpPort}},
		{"empty_udp", "udp", write(""), "1", "0", []string{"own", tcpPort}},
		{"directory_in_place_of_tcp", "tcp", func(path string) error { return os.Mkdir(path, 0o755) }, "0", "1", []string{udpPort}},
		{"udp_row_of_12_columns", "udp", write(udpHeader + "1: 00000000:0035 00000000:0000 07 0:0 0:0 0 0 0 1 2 0\n"), "1", "0", []string{"own", tcpPort}},
		{"garbage_in_tcp6", "tcp6", write(tcp6Header + "garbage\n"), "0", "1", []string{udpPort}},
		{"no_tcp6_is_no_failure", "tcp6", func(string) error { return nil }, "1", "1", []string{"own", tcpPort, udpPort}},
	} {
		path := tablePath(procfs, damage.file)
		logged := len(e.errorLines())
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := damage.put(path); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			page := e.scrape() // which fails the test on any status but 200
			e.wantSuccess(page, damage.tcp, damage.udp)
			e.wantListeners(page, damage.want...)
		}
		fails := damage.tcp == "0" || damage.udp == "0"
		lines := e.errorLines()[logged:]
		switch {
		case !fails && len(lines) != 0:
			t.Errorf("%s: logged %q, want nothing", damage.name, lines)
		case fails && (len(lines) != 1 || !strings.Contains(lines[0], path+":")):
			t.Errorf("%s: logged %q, want one line that names %s", damage.name, lines, path)
		}

		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		link(damage.file)
		page := e.scrape()
		e.wantSuccess(page, "1", "1")
		e.wantListeners(page, "own", tcpPort, udpPort)
	}
}
