//go:build linux

package incidents

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// warmUp is how long nothing happens at first: longer than until a port is settled.
const warmUp = settled + time.Minute/speed

// world is all that takes part.
type world struct {
	host.Report
	dir        string // of the test's files, which everybody may enter
	self       string // the test binary
	exporter   string // the program
	started    time.Time
	monitoring *monitoring
	receiver   *receiver
}

// logf prints how far the play is.
func (w *world) logf(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "%3.0f s  %s\n", time.Since(w.started).Seconds(), fmt.Sprintf(format, arguments...))
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
	err = w.playAll()
	w.Check(host.Check{Name: "nothing else goes wrong", Run: func() error { return err }})
	if err != nil {
		w.showLogs()
	}
	w.End()
	return nil
}

// isFull reports whether all incidents are played.
func isFull() bool { return os.Getenv(fullVariable) != "" }

// chosen returns the stages that are played now.
func chosen(all []*stage) ([]*stage, error) {
	pattern, err := regexp.Compile("^(" + os.Getenv(stagesVariable) + ")$")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s *stage) bool {
		if os.Getenv(stagesVariable) != "" {
			return !pattern.MatchString(s.name)
		}
		return s.full && !isFull()
	}), nil
}

// playAll plays the stages in front of both engines and an Alertmanager.
func (w *world) playAll() (err error) {
	stages, err := chosen(w.stages())
	if err != nil {
		return err
	}
	w.monitoring = &monitoring{dir: w.dir, engines: []*engine{{program: "prometheus", port: 9090}, {program: "prometheus3", port: 9091, ruler: true}}}
	w.receiver = new(receiver)
	if err := w.receiver.listen(); err != nil {
		return err
	}
	for _, s := range stages {
		for _, h := range s.hosts {
			if err := h.exporter.declare(h.exporter.registry); err != nil {
				return err
			}
			if err := h.boot(); err != nil {
				return err
			}
		}
		w.monitoring.hosts = append(w.monitoring.hosts, s.hosts...)
	}
	if err := w.monitoring.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.monitoring.stop()) }()
	w.logf("%d hosts are up", len(w.monitoring.hosts))
	if err := w.monitoring.seen(time.Now(), w.monitoring.hosts); err != nil {
		return err
	}
	known := time.Now().Add(grace) // a slow machine has the first host scraped long before the last
	if err := w.monitoring.seen(time.Now().Add(warmUp), w.monitoring.hosts); err != nil {
		return err
	}
	early := w.receiver.since(0)
	var unasked []alert
	for _, a := range early {
		if a.StartsAt.After(known) {
			unasked = append(unasked, a)
		}
	}
	w.Check(host.Check{Name: "nothing happens", Run: host.Same(nil, unasked)})

	var group sync.WaitGroup
	errs := make([]error, len(stages))
	for n, s := range stages {
		if !s.last {
			group.Go(func() { errs[n] = s.play(w) })
		}
	}
	group.Wait()
	for n, s := range stages {
		if s.last {
			errs[n] = s.play(w)
		}
	}
	for _, s := range stages {
		for _, a := range s.acts {
			for _, i := range a.incidents {
				w.Check(i.check(w.monitoring.engines))
			}
		}
	}
	for _, a := range w.receiver.since(len(early)) {
		if !slices.ContainsFunc(stages, func(s *stage) bool { return s.owns(a) }) {
			errs = append(errs, fmt.Errorf("an alert that is about no host: %s %v", a, a.Labels))
		}
	}
	return errors.Join(append(errs, w.receiver.error())...)
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
