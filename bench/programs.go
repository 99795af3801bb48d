package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	gopsutil "github.com/shirou/gopsutil/v4/net"
)

// The programs that are built for a figure, by package.
const (
	product      = "listen_exporter"
	nodeExporter = "github.com/prometheus/node_exporter"
)

// startTimeout is how long an exporter may take until it answers.
const startTimeout = 30 * time.Second

// exporter is an exporter in a process of its own.
type exporter struct {
	name   string
	cmd    *exec.Cmd
	client *http.Client
	url    string
}

// bare is the flag of both exporters that leaves out the metrics about themselves.
const bare = "--web.disable-exporter-metrics"

func startProduct(s settings, args ...string) (*exporter, error) {
	return startExporter(product, filepath.Join(s.tools, product), args...)
}

// startNodeExporter starts node_exporter with one collector.
func startNodeExporter(s settings, collector string, args ...string) (*exporter, error) {
	return startExporter("node_exporter "+collector, filepath.Join(s.tools, filepath.Base(nodeExporter)),
		append(args, "--collector.disable-defaults", "--collector."+collector)...)
}

func startExporter(name, path string, args ...string) (*exporter, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	cmd := exec.Command(path, append(args, "--web.listen-address="+address)...)
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e := &exporter{name: name, cmd: cmd, url: "http://" + address, client: &http.Client{
		Transport: &http.Transport{DisableCompression: true},
	}}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		_, err := e.get("/", "")
		if err == nil {
			return e, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not answer: %w\n%s", name, err, log.String())
		}
	}
}

// freeAddress returns an address on which nobody listens.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// stop ends the exporter.
func (e *exporter) stop() {
	e.client.CloseIdleConnections()
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait() // which says that it was killed
}

// get reads a page to its end and returns its length.
func (e *exporter) get(path, encoding string) (length int64, err error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, e.url+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	if encoding != "" {
		request.Header.Set("Accept-Encoding", encoding)
	}
	response, err := e.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return io.Copy(io.Discard, response.Body)
}

// scrape is a side: a scrape over a connection that is kept open, as Prometheus does. encoding is identity or gzip.
func (e *exporter) scrape(encoding string) side {
	return side{e.name + ", " + encoding, timed(func() error {
		_, err := e.get("/metrics", encoding)
		return err
	})}
}

// series returns how many samples of a metric the page has.
func (e *exporter) series(metric string) (int, error) {
	response, err := e.client.Get(e.url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	count := 0
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if line := lines.Text(); !strings.HasPrefix(line, "#") && strings.HasPrefix(line, metric) {
			count++
		}
	}
	return count, lines.Err()
}

// resident returns the exporter's resident memory, in bytes.
func (e *exporter) resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// command is a side: a program that runs to its end, its output thrown away.
func command(name string, args ...string) side {
	return side{strings.Join(append([]string{name}, args...), " "), timed(func() error {
		return exec.Command(name, args...).Run()
	})}
}

// gopsutilSide is a side: one call of the library, in a process that has called it before.
func gopsutilSide() (side, error) {
	w, err := startHelper(0, "gopsutil")
	if err != nil {
		return side{}, err
	}
	return side{"gopsutil ConnectionsWithoutUids", w.sample}, nil
}

// serveGopsutil is the other end of gopsutilSide.
func serveGopsutil(in io.Reader, out io.Writer) error {
	return answer(in, out, timed(func() error {
		_, err := gopsutil.ConnectionsWithoutUids("inet")
		return err
	}))
}
