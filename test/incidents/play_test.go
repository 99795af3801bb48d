package incidents

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// warmUp is how long nothing happens at first: 10 minutes on a real host. PortVanished only knows ports that it has seen for
// more than 5 minutes.
const warmUp = 10 * time.Minute / speed

// world is all that takes part.
type world struct {
	host.Report
	dir        string // of the test's files, which everybody may enter
	self       string // the test binary
	exporter   string // the program
	started    time.Time
	monitoring *monitoring
	receiver   *receiver
	failed     []error // what belongs to no incident
}

// logf prints how far the play is.
func (w *world) logf(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "%3.0f s  %s\n", time.Since(w.started).Seconds(), fmt.Sprintf(format, arguments...))
}

// note keeps an error, after which the play goes on.
func (w *world) note(err error) {
	if err != nil {
		w.failed = append(w.failed, err)
	}
}

// play plays all acts and reports a check for each incident.
func play() error {
	dir, err := os.MkdirTemp("", "incidents")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := &world{dir: dir, self: filepath.Join(dir, "self"), exporter: filepath.Join(dir, "listen_exporter"), started: time.Now()}
	if err := errors.Join(
		os.Chmod(dir, 0o755), // nobody must find the program there
		host.Install(os.Args[0], w.self),
		host.Install(os.Getenv(host.Variable), w.exporter),
		provideTemplates(),
	); err != nil {
		return err
	}
	w.note(w.playAll())
	err = errors.Join(w.failed...)
	w.Check(host.Check{Name: "nothing else goes wrong", Run: func() error { return err }})
	if err != nil {
		w.showLogs()
	}
	w.End()
	return nil
}

// playAll plays the acts in front of a Prometheus and an Alertmanager.
func (w *world) playAll() (err error) {
	s := newScript(w)
	w.monitoring = &monitoring{dir: w.dir, targets: s.hosts()}
	w.receiver = new(receiver)
	if err := w.receiver.listen(); err != nil {
		return err
	}
	for _, h := range s.hosts() {
		if h.exporter.registry != "" {
			if err := h.exporter.declare(h.exporter.registry); err != nil {
				return err
			}
		}
		if err := h.boot(); err != nil {
			return err
		}
	}
	if err := w.monitoring.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.monitoring.stop()) }()
	w.logf("all hosts are up")
	healthy := &incident{host: s.web, name: "nothing happens"}
	if err := w.monitoring.seen(time.Now().Add(warmUp)); err != nil {
		return err
	}
	healthy.got = w.receiver.since(0)
	w.Check(healthy.check())

	for n, incidents := range s.acts() {
		stray := w.act(n+1, incidents)
		for _, i := range incidents {
			w.Check(i.check())
		}
		for _, a := range stray {
			w.note(fmt.Errorf("an alert that no incident of act %d brings: %s %s: %s", n+1, a.Labels["instance"], a.at(), a))
		}
	}
	return w.receiver.err
}

// showLogs reports the ends of all logs.
func (w *world) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		w.Note("%s:\n%s", filepath.Base(log), strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}
