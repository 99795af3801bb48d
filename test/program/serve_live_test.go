package program_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

func testNobody(t *testing.T) {
	program.Listen(t, "tcp", "0.0.0.0:22")
	program.Listen(t, "tcp", "[::]:443")
	for range 4 {
		program.Listen(t, "tcp", "127.0.0.1:7001", netnstest.ReusePort())
	}
	program.Listen(t, "udp", "0.0.0.0:53")
	program.Listen(t, "udp", "[fe80::1%test0]:546")
	mount(t, "", "/", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if err := os.Mkdir("/listen_exporter_test", 0o700); !errors.Is(err, unix.EROFS) {
		t.Fatalf("make a directory on a read-only root: %v, want %v", err, unix.EROFS)
	}

	e := program.StartNobody(t, "--collector.netns=self")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`Uid:\s65534\s65534\s65534\s65534`, `CapPrm:\s0+`, `CapEff:\s0+`, `CapBnd:\s0+`, `NoNewPrivs:\s1`} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).Match(status) {
			t.Errorf("the exporter's status has no %s:\n%s", want, status)
		}
	}

	e.Await("readiness", func() bool { return e.Get("/-/ready").Status == http.StatusOK })
	program.Listen(t, "tcp", "0.0.0.0:7002") // which appears later
	page := e.Scrape()
	e.WantSuccess(page, "1", "1")
	e.WantListeners(page, "own",
		"tcp ipv4 0.0.0.0:22 any privileged",
		"tcp ipv6 [::]:443 any privileged",
		"tcp ipv4 127.0.0.1:7001 loopback user",
		"tcp ipv4 0.0.0.0:7002 any user",
		"udp ipv4 0.0.0.0:53 any privileged",
		"udp ipv6 [fe80::1]:546 link-local privileged",
	)
	names := make(map[string]bool)
	for series := range program.Samples(t, page) {
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
		if got := e.Get(path).Status; got != http.StatusOK {
			t.Errorf("GET %s: status %d, want 200", path, got)
		}
	}
	if lines := slices.Concat(e.Warnings(), e.ErrorLines()); len(lines) != 0 {
		t.Errorf("warnings and errors %q, want none", lines)
	}
}

func testManyScrapesAtOnce(t *testing.T) {
	const clients, tcp, udp = 50, 400, 100
	for n := range tcp {
		program.Listen(t, "tcp", fmt.Sprintf("0.0.0.0:%d", 10000+n))
	}
	for n := range udp {
		program.Listen(t, "udp", fmt.Sprintf("0.0.0.0:%d", 10000+n))
	}
	for _, source := range []string{"netlink", "procfs"} {
		t.Run(source, func(t *testing.T) { scrapeAtOnce(t, source, clients, tcp+udp) })
	}
}

func scrapeAtOnce(t *testing.T, source string, clients, listeners int) {
	e := program.StartLive(t, "--collector.netns=self", "--collector.source="+source, "--web.max-requests=100")
	e.Await("readiness", func() bool { return e.Get("/-/ready").Status == http.StatusOK })

	pages, errs := make([]program.Response, clients), make([]error, clients)
	var scraping sync.WaitGroup
	start := make(chan struct{})
	for n := range clients {
		scraping.Go(func() {
			<-start
			pages[n], errs[n] = e.Request(http.MethodGet, "/metrics")
		})
	}
	close(start)
	scraping.Wait()

	reads := make(map[string]bool) // by how long they took, to the nanosecond
	for n, page := range pages {
		if errs[n] != nil || page.Status != http.StatusOK {
			t.Errorf("scrape %d: status %d, %v", n, page.Status, errs[n])
			continue
		}
		e.WantSuccess(page.Body, "1", "1")
		if got := len(program.Ports(t, page.Body)); got != listeners+1 {
			t.Errorf("scrape %d: %d listeners, want %d and the exporter's own", n, got, listeners)
		}
		found := program.Samples(t, page.Body)
		reads[found[`host_listen_collector_duration_seconds{collector="tcp"}`]] = true
	}
	t.Logf("%d reads for %d scrapes", len(reads), clients)
	// By netlink a read is over before the next scrape is there.
	if source == "procfs" && len(reads) >= clients {
		t.Errorf("%d reads for %d scrapes at the same time, want them shared", len(reads), clients)
	}
}
