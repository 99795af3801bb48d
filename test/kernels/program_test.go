//go:build linux

package kernels

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// patience is how long the program may take for what an idle machine does at once: an emulated one is slow.
const patience = 30 * time.Second

// nobody is the user who runs the program, without any capability.
const nobody = 65534

// program is the real program, running.
type program struct {
	source string // --collector.source
	port   int    // where it serves, on 127.0.0.1
	log    string // the file with its stderr
	*host.Process
}

// startProgram starts the program, after changes of its command, and waits until it has read the sockets for the first time.
func startProgram(source string, port int, changes ...func(*exec.Cmd)) (*program, error) {
	p := &program{source: source, port: port, log: filepath.Join("/tmp", strconv.Itoa(port)+".log")}
	stderr, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stderr.Close() }()
	cmd := command("--collector.source="+source, "--web.listen-address=127.0.0.1:"+strconv.Itoa(port))
	cmd.Stderr = stderr
	for _, change := range changes {
		change(cmd)
	}
	if p.Process, err = host.Start(cmd); err != nil {
		return nil, err
	}
	if err := host.Await(patience, func() error {
		_, err := host.Get(p.url() + "/-/ready")
		return err
	}); err != nil {
		p.Kill()
		return nil, fmt.Errorf("the program with the source %s does not become ready: %w\n%s", source, err, p.logged())
	}
	return p, nil
}

// command returns the program with arguments, as nobody.
func command(arguments ...string) *exec.Cmd {
	cmd := exec.Command(programFile, arguments...)
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// listener is the program's own.
func (p *program) listener() listener {
	return listener{
		network: "tcp", address: "127.0.0.1:" + strconv.Itoa(p.port), scope: "loopback", reach: "user",
		options: options{backlog: 1 << 20}, // Go takes all that somaxconn allows
	}
}

// logged returns what the program has written to stderr.
func (p *program) logged() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (p *program) url() string { return "http://127.0.0.1:" + strconv.Itoa(p.port) }

func (p *program) scrape() (page, error) {
	scraped, err := host.Scrape(p.url() + "/metrics")
	return page{scraped}, err
}

// runToEnd runs the program, which must end by itself, and returns its exit status and stderr.
func runToEnd(arguments ...string) (status int, stderr string, err error) {
	cmd := command(arguments...)
	var text bytes.Buffer
	cmd.Stderr = &text
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = nil
	}
	return cmd.ProcessState.ExitCode(), text.String(), err
}

// page is a metrics page of the program.
type page struct{ host.Page }

// of returns the samples of some metrics, sorted: the name, the labels of [listener.labels], and the value.
func (p page) of(names ...string) []string {
	var samples []string
	for _, name := range names {
		for _, row := range p.Rows(name, "proto", "address", "port", "family", "range", "scope") {
			samples = append(samples, name+" "+row)
		}
	}
	slices.Sort(samples)
	return samples
}

// value returns the value of a listener's metric.
func (p page) value(name string, l listener) (float64, error) {
	for _, sample := range p.of(name) {
		if text, ok := strings.CutPrefix(sample, name+" "+l.labels()+" "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("there is no %s of %s", name, l.labels())
}
