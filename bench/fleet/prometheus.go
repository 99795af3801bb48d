package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// patience is how long Prometheus may take to start, to answer, or to end.
const patience = 2 * time.Minute

// server is a running Prometheus.
type server struct {
	cmd     *exec.Cmd
	ended   chan error
	log     bytes.Buffer
	address string
	client  http.Client
}

// startPrometheus runs Prometheus over a database, with rules or without.
func startPrometheus(s settings, dir, data, ruleFile string) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	// Every 15 seconds, as in examples/prometheus/prometheus.yml. JSON is YAML.
	config := map[string]any{"global": map[string]string{"evaluation_interval": "15s"}}
	if ruleFile != "" {
		if ruleFile, err = filepath.Abs(ruleFile); err != nil {
			return nil, err
		}
		config["rule_files"] = []string{ruleFile}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	p := &server{address: "http://" + address, ended: make(chan error, 1), client: http.Client{Timeout: patience}}
	p.cmd = exec.Command(s.prometheus, "--config.file="+file, "--storage.tsdb.path="+data, "--web.listen-address="+address,
		"--storage.tsdb.retention.time=1d", "--log.level=warn")
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		response, err := p.client.Get(p.address + "/-/ready")
		if err == nil {
			err = response.Body.Close()
			if err == nil && response.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		if time.Now().After(deadline) || len(p.ended) > 0 {
			return nil, errors.Join(fmt.Errorf("prometheus is not ready: %w", err), p.stop())
		}
	}
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func (p *server) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		if err != nil {
			return fmt.Errorf("prometheus: %w\n%s", err, &p.log)
		}
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("prometheus did not end: %w\n%s", <-p.ended, &p.log)
	}
}

// get asks the API, and decodes the data of its answer.
func (p *server) get(path string, parameters url.Values, data any) error {
	response, err := p.client.PostForm(p.address+"/api/v1/"+path, parameters)
	if parameters == nil {
		response, err = p.client.Get(p.address + "/api/v1/" + path)
	}
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

var memory = regexp.MustCompile(`(?m)^(RssAnon|VmRSS):\s*(\d+) kB$`)

// memory returns what the process has for itself, and that with what it has mapped, in bytes.
func (p *server) memory() (heap, resident int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for _, found := range memory.FindAllSubmatch(text, -1) {
		kilobytes, err := strconv.ParseInt(string(found[2]), 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if string(found[1]) == "RssAnon" {
			heap = kilobytes * 1024
		} else {
			resident = kilobytes * 1024
		}
	}
	return heap, resident, nil
}

// processorTime returns what all threads have used so far: the first number of schedstat, in nanoseconds.
func (p *server) processorTime() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		var used int64
		if _, err := fmt.Sscan(string(text), &used); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		total += time.Duration(used)
	}
	return total, nil
}
