package main

import (
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
)

// startTimeout is how long an exporter may take until it answers.
const startTimeout = 30 * time.Second

// exporter is an exporter in a process of its own.
type exporter struct {
	name   string
	cmd    *exec.Cmd
	log    *bytes.Buffer // to be read once it has ended
	client *http.Client
	url    string
}

// startProduct starts the product as root.
func startProduct(s settings, args ...string) (*exporter, error) {
	return startExporter(product, filepath.Join(s.tools, product), args...)
}

// startProductAsNobody starts it with no privilege at all.
func startProductAsNobody(s settings, args ...string) (*exporter, error) {
	return startExporter(product+" as nobody", "setpriv", append([]string{
		"--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
		filepath.Join(s.tools, product),
	}, args...)...)
}

// startOurs starts the product, which must report so many listeners.
func startOurs(s settings, listeners int, args ...string) (*exporter, error) {
	ours, err := startProduct(s, args...)
	if err != nil {
		return nil, err
	}
	p, err := ours.page()
	if got := p.count("host_listen_port"); err == nil && got != listeners {
		err = fmt.Errorf("the product reports %d listeners, want %d", got, listeners)
	}
	return ours, err
}

// startExporter starts an exporter and waits until it answers.
func startExporter(name, path string, args ...string) (*exporter, error) {
	e, err := launch(name, path, args...)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		err := e.get("identity", io.Discard)
		if err == nil {
			return e, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not answer: %w\n%s", name, err, e.log)
		}
	}
}

// launch starts an exporter.
func launch(name, path string, args ...string) (*exporter, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	log := new(bytes.Buffer)
	cmd := exec.Command(path, append(args, "--web.listen-address="+address)...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &exporter{name: name, cmd: cmd, log: log, url: "http://" + address, client: &http.Client{
		Transport: &http.Transport{DisableCompression: true},
	}}, nil
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
	_ = e.cmd.Wait() // returns that it was killed
}

// get scrapes over a connection that is kept open, as Prometheus does. encoding is identity or gzip.
func (e *exporter) get(encoding string, to io.Writer) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, e.url+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Accept-Encoding", encoding)
	response, err := e.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /metrics: %s", response.Status)
	}
	_, err = io.Copy(to, response.Body)
	return err
}

// scrape is a scrape as a side.
func (e *exporter) scrape(encoding string) side {
	return side{e.name + ", " + encoding, timed(func() error { return e.get(encoding, io.Discard) })}
}

// page is the text of a scrape.
type page string

func (e *exporter) page() (page, error) {
	var text strings.Builder
	err := e.get("identity", &text)
	return page(text.String()), err
}

// count returns how many samples of a metric have all of these labels, each written as on the page.
func (p page) count(metric string, labels ...string) (samples int) {
lines:
	for line := range strings.Lines(string(p)) {
		if !strings.HasPrefix(line, metric+"{") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(line, label) {
				continue lines
			}
		}
		samples++
	}
	return samples
}

// value returns the value of a sample, named as on the page.
func (p page) value(sample string) (float64, error) {
	for line := range strings.Lines(string(p)) {
		if value, found := strings.CutPrefix(line, sample+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no %s on the page", sample)
}

// resident returns the exporter's resident memory, in MB.
func (e *exporter) resident() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kibibytes, err := strconv.ParseFloat(fields[1], 64)
			return kibibytes * 1024 / 1e6, err
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
