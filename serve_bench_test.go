package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// One scrape as Prometheus makes it: over a kept connection, compressed. The client's share is in it.
func BenchmarkScrape(b *testing.B) {
	for _, load := range []struct{ listeners, connections int }{
		{100, 0},
		{10_000, 0},
		{100, 8_000},
	} {
		b.Run(fmt.Sprintf("listeners=%d,connections=%d", load.listeners, load.connections), func(b *testing.B) {
			procfs := netnstest.HoldMany(b, load.listeners, load.connections)
			c, _, err := parse([]string{"--path.procfs=" + procfs}, io.Discard)
			if err != nil {
				b.Fatal(err)
			}
			logs := newLoggers(io.Discard, "error", "logfmt")
			ports, err := inventory.Open(c.inventory, logs.kit)
			if err != nil {
				b.Fatal(err)
			}
			handler, err := newHandler(c, ports.Snapshot, func() bool { return true }, logs)
			if err != nil {
				b.Fatal(err)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			server := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout}
			go func() { _ = server.Serve(listener) }()
			b.Cleanup(func() { _ = server.Close() })

			url := "http://" + listener.Addr().String() + c.telemetryPath
			size := scrapeOnce(b, url)
			b.ReportAllocs()
			for b.Loop() {
				scrapeOnce(b, url)
			}
			b.ReportMetric(float64(size), "wire-B")
		})
	}
}

// The memory of the real process after many scrapes. Its time means nothing.
func BenchmarkResidentMemory(b *testing.B) {
	binary := liveBinary(b)
	for _, load := range []struct{ listeners, scrapes int }{
		{100, 1_000},
		{10_000, 100},
	} {
		b.Run(fmt.Sprintf("listeners=%d,scrapes=%d", load.listeners, load.scrapes), func(b *testing.B) {
			procfs := netnstest.HoldMany(b, load.listeners, 0)
			pid, url := startForBenchmark(b, binary, "--path.procfs="+procfs)
			for b.Loop() {
				for range load.scrapes {
					scrapeOnce(b, url+"/metrics")
				}
			}
			b.ReportMetric(statusBytes(b, pid, "VmRSS"), "RSS-B")
			b.ReportMetric(statusBytes(b, pid, "VmHWM"), "peak-RSS-B")
			b.ReportMetric(0, "ns/op") // not shown
		})
	}
}

// scrapeOnce returns how many bytes came.
func scrapeOnce(b *testing.B, url string) int64 {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "gzip") // said aloud, so that it is not undone
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	size, err := io.Copy(io.Discard, response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		b.Fatalf("GET %s: status %d, %v", url, response.StatusCode, err)
	}
	return size
}

// startForBenchmark starts the program, which ends with the benchmark, and returns its pid and where it serves.
func startForBenchmark(b *testing.B, binary string, args ...string) (pid int, url string) {
	b.Helper()
	cmd := exec.Command(binary, append(args, "--web.listen-address=127.0.0.1:0")...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	listening := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if found := listening.FindStringSubmatch(lines.Text()); found != nil {
			return cmd.Process.Pid, "http://" + found[1]
		}
	}
	b.Fatal("the program does not listen")
	return 0, ""
}

// statusBytes returns a size from a process's status.
func statusBytes(b *testing.B, pid int, name string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindSubmatch(status)
	if found == nil {
		b.Fatalf("no %s in the status of process %d", name, pid)
	}
	kibibytes, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kibibytes * 1024
}
