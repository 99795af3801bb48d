package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// The flood: so many listeners a second, closed at once, from so many processes.
const (
	floodRate      = 100_000
	floodProcesses = 4
	// floodPause is how often there is a scrape.
	floodPause = 200 * time.Millisecond
)

// flood returns how long the flood is.
func (s settings) flood() time.Duration { return time.Duration(s.size(30_000, 300)) * time.Millisecond }

// eventsFlood floods the exporter with listeners, with events off and on.
func eventsFlood(s settings, out io.Writer) error {
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "A flood of listeners that close at once, from %d processes, for %s: want %d a second\n\n",
		floodProcesses, s.flood(), floodRate)
	_, _ = fmt.Fprint(w, "| --collector.events\t| GOMAXPROCS\t| ports\t| listeners\t| a second\t| opened, closed\t| lost\t| of all events\t| memory before, most\t",
		"| CPU of the exporter\t| scrape before, during, longest\t| series before, after\t|\n", strings.Repeat("| ---\t", 12)+"|\n")
	var missed error
	for _, row := range []struct {
		mode         string
		procs, ports int // GOMAXPROCS, and the ports of each process
	}{{"off", 1, manyPorts}, {"on", 2, manyPorts}, {"on", 1, manyPorts}, {"off", 1, 1}, {"on", 2, 1}} {
		err := floodRow(s, w, row.mode, row.procs, row.ports)
		if err != nil && !errors.Is(err, errMissed) {
			return err
		}
		missed = errors.Join(missed, err)
	}
	_, _ = fmt.Fprintln(w)
	return errors.Join(w.Flush(), missed)
}

func floodRow(s settings, out io.Writer, mode string, procs, ports int) error {
	storms, err := startFlood(ports)
	if err != nil {
		return err
	}
	defer endStorms(storms)
	e, err := startEvents(s, mode, "--log.events", "--runtime.gomaxprocs="+strconv.Itoa(procs))
	if err != nil {
		return err
	}
	defer e.stop()
	scrape := e.scrape(identity).sample
	var quiet []time.Duration
	for range s.size(50, 5) {
		took, err := scrape()
		if err != nil {
			return err
		}
		quiet = append(quiet, took)
		time.Sleep(floodPause / 4)
	}
	before, first, err := e.tally(s.settled())
	if err != nil {
		return err
	}
	resident, err := e.resident()
	if err != nil {
		return err
	}
	used := e.cpuTime()
	made, flooded, err := flooding(storms, s.flood(), floodPause/time.Duration(s.size(1, 10)), scrape)
	if err != nil {
		return err
	}
	used = e.cpuTime() - used
	counted, last, err := e.tally(s.settled())
	if err != nil {
		return err
	}
	counted = counted.minus(before)
	most, err := e.memory("VmHWM:")
	if err != nil {
		return err
	}
	slices.Sort(quiet)
	events := float64(2 * made.Made)
	_, _ = fmt.Fprintf(out, "| %s\t| %d\t| %d\t| %d\t| %.0f\t| %.0f, %.0f\t| %.0f\t| %.2f %%\t| %.1f MB, %.1f MB\t| %.0f %%\t| %s, %s, %s\t| %d, %d\t|\n",
		mode, procs, len(storms)*ports, made.Made, made.rate(), counted.opened, counted.closed, counted.lost, 100*counted.lost/events, resident, most,
		100*used.Seconds()/made.Took.Seconds(), short(median(quiet)), short(median(flooded)), short(flooded[len(flooded)-1]),
		first.samples(), last.samples())
	if mode != "on" {
		return nil
	}
	// Each event is counted or lost. An event of which the opening was lost may be neither.
	if sum := counted.opened + counted.closed + counted.lost; sum < events || counted.opened > float64(made.Made) || counted.closed > float64(made.Made) {
		return fmt.Errorf("GOMAXPROCS %d: %.0f events are counted or lost, want %.0f: %w", procs, sum, events, errMissed)
	}
	return nil
}

// startFlood starts the processes of a flood, each with so many ports.
func startFlood(ports int) (storms []*storm, err error) {
	storms, err = startStorms(floodProcesses, lifetimes{}, "tcp")
	for _, one := range storms {
		one.ports = ports
	}
	return storms, err
}

// flooding has the storms flood for so long, and samples each pause meanwhile. The samples are sorted.
func flooding(storms []*storm, length, pause time.Duration, sample func() (time.Duration, error)) (made gale, samples []time.Duration, err error) {
	done := make(chan error, 1)
	go func() {
		rate := floodRate / floodProcesses
		var failed error
		made, failed = blow(storms, rate*int(length/time.Millisecond)/1000, rate)
		done <- failed
	}()
	for {
		select {
		case err := <-done:
			slices.Sort(samples)
			return made, samples, err
		case <-time.After(pause):
			took, err := sample()
			if err != nil {
				err = errors.Join(err, <-done)
				return made, nil, err
			}
			samples = append(samples, took)
		}
	}
}

// soakRows is in how many rows a soak is shown.
const soakRows = 12

// eventsSoak has storms blow for as long as it is to take.
func eventsSoak(s settings, out io.Writer) error {
	length := s.length
	if s.small {
		length = 2 * time.Second
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	storms, err := startStorms(stormProcesses, lifetimes{shortest, longest}, "tcp", "tcp", "tcp", "udp")
	if err != nil {
		return err
	}
	defer endStorms(storms)
	e, err := startEvents(s, "on", "--log.events")
	if err != nil {
		return err
	}
	defer e.stop()
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "A storm for %s, a scrape each second\n\n", length)
	_, _ = fmt.Fprint(w, "| after\t| listeners\t| opened, closed\t| lost\t| open files\t| goroutines\t| resident memory\t| heap in use\t| series\t|\n",
		"| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|\n")
	const rate = 250 // of each process
	first, _, err := e.tally(s.settled())
	if err != nil {
		return err
	}
	made := 0
	row := func(after time.Duration) error {
		counted, p, err := e.tally(s.settled())
		if err != nil {
			return err
		}
		counted = counted.minus(first)
		files, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(e.cmd.Process.Pid), "fd"))
		if err != nil {
			return err
		}
		resident, err := e.resident()
		if err != nil {
			return err
		}
		goroutines, _ := p.value("go_goroutines")
		heap, _ := p.value("go_memstats_heap_inuse_bytes")
		_, err = fmt.Fprintf(w, "| %s\t| %d\t| %.0f, %.0f\t| %.0f\t| %d\t| %.0f\t| %.1f MB\t| %.1f MB\t| %d\t|\n", after.Round(time.Second), made,
			counted.opened, counted.closed, counted.lost, len(files), goroutines, resident, heap/1e6, p.samples())
		return errors.Join(err, w.Flush())
	}
	begin := time.Now()
	if err := row(0); err != nil {
		return err
	}
	for shown := 1; shown <= soakRows; {
		g, err := blow(storms, rate, rate) // a second
		if err != nil {
			return err
		}
		made += g.Made
		if _, err := e.page(); err != nil {
			return err
		}
		if after := time.Since(begin); after >= length*time.Duration(shown)/soakRows {
			if err := row(after); err != nil {
				return err
			}
			shown = int(after*soakRows/length) + 1
		}
	}
	_, err = fmt.Fprintln(out)
	return err
}
