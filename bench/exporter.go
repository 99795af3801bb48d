package main

import (
	"bytes"
	"errors"
	"fmt"
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
	buffer bytes.Buffer // the last page, see get
}

// programs returns the names of the product and, if there is one to compare with, of the version before it.
func (s settings) programs() []string {
	if s.before == "" {
		return []string{product}
	}
	return []string{product, before}
}

// path returns that of one of the programs.
func (s settings) path(program string) string {
	if program == before {
		return s.before
	}
	return filepath.Join(s.tools, product)
}

// startProduct starts the product as root.
func startProduct(s settings, args ...string) (*exporter, error) {
	return startExporter(product, s.path(product), args...)
}

// startAsNobody starts one of the programs with no privilege at all.
func startAsNobody(s settings, program string, args ...string) (*exporter, error) {
	return startExporter(program+" as nobody", "setpriv", append([]string{
		"--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
		s.path(program),
	}, args...)...)
}

// startReporting starts one of the programs, which must report so many listeners.
func startReporting(s settings, program string, listeners int, args ...string) (*exporter, error) {
	e, err := startExporter(program, s.path(program), args...)
	if err != nil {
		return nil, err
	}
	p, err := e.page()
	if got := p.count("host_listen_port"); err == nil && got != listeners {
		err = fmt.Errorf("%s reports %d listeners, want %d", program, got, listeners)
	}
	return e, err
}

// startExporter starts an exporter and waits until it answers.
func startExporter(name, path string, args ...string) (*exporter, error) {
	e, err := launch(name, path, args...)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		_, err := e.get(prometheus3, identity)
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

// scrape is a scrape by the newer Prometheus as a side.
func (e *exporter) scrape(encoding string) side {
	s := e.scrapeAs(prometheus3, encoding)
	s.name = e.name + ", " + encoding
	return s
}

// page is the text of a scrape.
type page string

func (e *exporter) page() (page, error) {
	text, err := e.get(prometheus3, identity)
	return page(text), err
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

// samples returns how many there are.
func (p page) samples() (n int) {
	for line := range strings.Lines(string(p)) {
		if line[0] != '#' && line != "\n" {
			n++
		}
	}
	return n
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
func (e *exporter) resident() (float64, error) { return e.memory("VmRSS:") }

// memory returns one of the exporter's sizes in /proc/PID/status, in MB.
func (e *exporter) memory(name string) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kibibytes float64
		if text, found := strings.CutPrefix(line, name); found {
			_, err := fmt.Sscan(text, &kibibytes)
			return kibibytes * 1024 / 1e6, err
		}
	}
	return 0, errors.New("no " + name)
}

// command is a side: a program that runs to its end, its output thrown away.
func command(name string, args ...string) side {
	return side{strings.Join(append([]string{name}, args...), " "), timed(func() error {
		return exec.Command(name, args...).Run()
	})}
}
