package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/holder"
)

const (
	// stormListeners is how many a process opens, and stormProcesses how many do at once.
	stormListeners = 10_000
	stormProcesses = 8
)

// settled returns for how long nothing is counted any more until all has been.
func (s settings) settled() time.Duration { return time.Duration(s.size(500, 100)) * time.Millisecond }

// startEvents starts the product in this network namespace, with events on unless the mode says otherwise.
func startEvents(s settings, mode string, args ...string) (*exporter, error) {
	e, err := startExporter("--collector.events="+mode, s.path(product),
		append([]string{"--collector.netns=self", "--collector.events=" + mode}, args...)...)
	if err != nil || mode != "on" {
		return e, err
	}
	p, err := e.page()
	if err != nil {
		return nil, err
	}
	if success, err := p.value(`host_listen_collector_success{collector="event"}`); err != nil || success != 1 {
		e.stop()
		return nil, fmt.Errorf("events cannot be used here: %w\n%s", err, e.log)
	}
	return e, nil
}

// tally is what the exporter has counted.
type tally struct{ opened, closed, lost float64 }

// tallyOf returns the counts of a page, for TCP and UDP together. Without events nothing counts what is lost.
func tallyOf(p page) (t tally, err error) {
	for _, proto := range []string{"tcp", "udp"} {
		opened, err := p.value(`host_listen_opened_total{proto="` + proto + `"}`)
		if err != nil {
			return t, err
		}
		closed, err := p.value(`host_listen_closed_total{proto="` + proto + `"}`)
		if err != nil {
			return t, err
		}
		t.opened, t.closed = t.opened+opened, t.closed+closed
	}
	t.lost, _ = p.value("host_listen_events_lost_total")
	return t, nil
}

// tally returns what is counted once it does not change any more.
func (e *exporter) tally(settled time.Duration) (last tally, p page, err error) {
	for same := time.Now(); time.Since(same) < settled; time.Sleep(settled / 10) {
		if p, err = e.page(); err != nil {
			return last, p, err
		}
		now, err := tallyOf(p)
		if err != nil {
			return last, p, err
		}
		if now != last {
			last, same = now, time.Now()
		}
	}
	return last, p, nil
}

func (t tally) minus(before tally) tally {
	return tally{t.opened - before.opened, t.closed - before.closed, t.lost - before.lost}
}

// witness counts the events of each process by the programs in the kernel themselves.
type witness struct {
	source *event.Source
	done   chan error
	mu     sync.Mutex
	seen   map[uint32]*seenOf
}

// seenOf is what was seen of a process: its listeners that opened and closed, and those that had its name.
type seenOf struct {
	opened, closed, named int
	comm                  string // what its name must be
}

// watchStorms begins to count the events of storms.
func watchStorms(storms []*storm) (*witness, error) {
	w := &witness{done: make(chan error, 1), seen: make(map[uint32]*seenOf)}
	for _, s := range storms {
		w.seen[uint32(s.cmd.Process.Pid)] = &seenOf{comm: s.comm}
	}
	var err error
	if w.source, err = event.Open(func() (string, error) { return holder.FindCgroup2("/proc", "/sys") }); err != nil {
		return nil, err
	}
	go func() {
		var events []event.Event
		for {
			events, err = w.source.Read(events[:0])
			if err != nil {
				if errors.Is(err, os.ErrClosed) {
					err = nil
				}
				w.done <- err
				return
			}
			w.mu.Lock()
			for _, e := range events {
				w.count(e)
			}
			w.mu.Unlock()
		}
	}()
	return w, nil
}

func (w *witness) count(e event.Event) {
	of := w.seen[e.PID]
	switch {
	case of == nil:
		return
	case e.Kind == event.Opened:
		of.opened++
	default:
		of.closed++
	}
	if e.Comm == of.comm {
		of.named++
	}
}

// end ends the watch and returns all that was seen, and how many events were lost.
func (w *witness) end(settled time.Duration) (all seenOf, lost uint64, err error) {
	time.Sleep(settled)
	lost, err = w.source.Lost()
	if err := errors.Join(err, w.source.Close(), <-w.done); err != nil {
		return all, lost, err
	}
	for of := range maps.Values(w.seen) {
		all.opened, all.closed, all.named = all.opened+of.opened, all.closed+of.closed, all.named+of.named
	}
	return all, lost, nil
}

// trailed returns how many lines of the log name one of these processes, and how many lines there are of listeners in all.
func (e *exporter) trailed(storms []*storm) (named, lines int) {
	for line := range strings.Lines(e.log.String()) {
		if !strings.Contains(line, "listener opened") && !strings.Contains(line, "listener closed") {
			continue
		}
		lines++
		if slices.ContainsFunc(storms, func(s *storm) bool {
			return strings.Contains(line, s.comm) && strings.Contains(line, fmt.Sprintf("pid=%d", s.cmd.Process.Pid))
		}) {
			named++
		}
	}
	return named, lines
}

// eventsStorm compares what a storm made with what the exporter counted, and with what the kernel's programs report.
func eventsStorm(s settings, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "A storm of listeners, each open for %s to %s\n\n", shortest, longest)
	_, _ = fmt.Fprint(w, "| protocol\t| processes\t| listeners\t| a second\t| open for: least, median, most\t| counted: opened, closed, lost\t",
		"| reported: opened, closed, lost\t| with PID and name\t| lines in the trail: with PID and name, all\t| series\t|\n",
		"| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|\n")
	var missed error
	for _, row := range []struct {
		proto     string
		processes int
	}{{"tcp", 1}, {"tcp", stormProcesses}, {"udp", 1}, {"udp", stormProcesses}} {
		err := stormRow(s, w, row.proto, row.processes)
		if err != nil && !errors.Is(err, errMissed) {
			return err
		}
		missed = errors.Join(missed, err)
	}
	_, _ = fmt.Fprintln(w)
	return errors.Join(w.Flush(), missed)
}

func stormRow(s settings, out io.Writer, proto string, processes int) error {
	storms, err := startStorms(processes, lifetimes{shortest, longest}, proto)
	if err != nil {
		return err
	}
	defer endStorms(storms)
	e, err := startEvents(s, "on", "--log.events")
	if err != nil {
		return err
	}
	defer e.stop()
	watch, err := watchStorms(storms)
	if err != nil {
		return err
	}
	before, _, err := e.tally(s.settled())
	if err != nil {
		return err
	}
	made, err := blow(storms, s.size(stormListeners, 200), 0)
	if err != nil {
		return err
	}
	counted, p, err := e.tally(s.settled())
	if err != nil {
		return err
	}
	counted = counted.minus(before)
	reported, lost, err := watch.end(s.settled())
	if err != nil {
		return err
	}
	e.stop()
	named, lines := e.trailed(storms)
	_, _ = fmt.Fprintf(out, "| %s\t| %d\t| %d\t| %.0f\t| %s, %s, %s\t| %.0f, %.0f, %.0f\t| %d, %d, %d\t| %d\t| %d, %d\t| %d\t|\n",
		proto, processes, made.Made, made.rate(), short(made.Shortest), short(made.Median), short(made.Longest),
		counted.opened, counted.closed, counted.lost, reported.opened, reported.closed, lost, reported.named, named, lines, p.samples())
	n := made.Made
	if counted != (tally{float64(n), float64(n), 0}) || reported != (seenOf{opened: n, closed: n, named: 2 * n}) || lost > 0 {
		return fmt.Errorf("%s, %d processes: counted %v, reported %v, want %d of each and none lost: %w", proto, processes, counted, reported, n, errMissed)
	}
	return nil
}

// eventsMemory compares the resident memory with events off and on, and of an older version.
func eventsMemory(s settings, out io.Writer) error {
	const scrapesBefore = 20
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	type version struct {
		name          string
		start         func() (*exporter, error)
		first, second []float64
	}
	versions := []*version{
		{name: "--collector.events=off", start: func() (*exporter, error) { return startEvents(s, "off") }},
		{name: "--collector.events=on", start: func() (*exporter, error) { return startEvents(s, "on") }},
	}
	if s.before != "" {
		versions = append(versions, &version{name: before, start: func() (*exporter, error) {
			return startExporter(before, s.before, "--collector.netns=self")
		}})
	}
	for range s.rounds {
		for _, v := range versions {
			e, err := v.start()
			if err != nil {
				return err
			}
			at := [2]float64{}
			for n, scrapes := range []int{0, scrapesBefore} {
				for range scrapes {
					if _, err := e.page(); err != nil {
						return err
					}
				}
				if at[n], err = e.resident(); err != nil {
					return err
				}
			}
			e.stop()
			v.first, v.second = append(v.first, at[0]), append(v.second, at[1])
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "Resident memory, 100 listeners, in MB: median of %d, lowest, highest\n\n| program\t| after the start\t| after %d scrapes\t|\n| ---\t| ---\t| ---\t|\n",
		s.rounds, scrapesBefore)
	for _, v := range versions {
		_, _ = fmt.Fprintf(w, "| %s\t| %s\t| %s\t|\n", v.name, spread(v.first), spread(v.second))
	}
	_, _ = fmt.Fprintln(w)
	return w.Flush()
}

// spread returns the median, the lowest and the highest of samples.
func spread(samples []float64) string {
	slices.Sort(samples)
	return fmt.Sprintf("%.1f, %.1f, %.1f", median(samples), samples[0], samples[len(samples)-1])
}
