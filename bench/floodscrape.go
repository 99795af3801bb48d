package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// floodSlowdown is what a scrape may take during a flood, of its time during the same flood without events.
const floodSlowdown = 2.0

// eventsFloodScrapes compares scrapes during short floods, with events off and on in turns: the flood takes the processors either way.
func eventsFloodScrapes(s settings, out io.Writer) error {
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "A scrape during a flood: medians of %d rounds\n\n", s.rounds)
	_, _ = fmt.Fprint(w, "| program\t| ports\t| without events\t| with events\t| with / without\t| ratio of a round: median, quartiles\t| CPU with events\t|\n",
		"| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|\n")
	var missed error
	for _, ports := range []int{manyPorts, 1} {
		programs := s.programs()
		without := make([]time.Duration, s.rounds)
		with, ratios, used := make([][]time.Duration, len(programs)), make([][]float64, len(programs)), make([][]float64, len(programs))
		for round := range s.rounds {
			if without[round], _, err = floodScrape(s, product, "off", ports); err != nil {
				return err
			}
			for n, program := range programs {
				took, cpu, err := floodScrape(s, program, "on", ports)
				if err != nil {
					return err
				}
				with[n], used[n] = append(with[n], took), append(used[n], cpu)
				ratios[n] = append(ratios[n], float64(took)/float64(without[round]))
			}
		}
		slices.Sort(without)
		for n, program := range programs {
			slices.Sort(with[n])
			slices.Sort(ratios[n])
			slices.Sort(used[n])
			ratio := float64(median(with[n])) / float64(median(without))
			_, _ = fmt.Fprintf(w, "| %s\t| %d\t| %s\t| %s\t| %.2f\t| %.2f, %.2f to %.2f\t| %.0f %%\t|\n", program, floodProcesses*ports,
				short(median(without)), short(median(with[n])), ratio,
				median(ratios[n]), ratios[n][len(ratios[n])/4], ratios[n][3*len(ratios[n])/4], 100*median(used[n]))
			if program == product && ratio > floodSlowdown {
				missed = errors.Join(missed, fmt.Errorf("%d ports: a scrape takes %.2f times as long, want at most %g: %w",
					floodProcesses*ports, ratio, floodSlowdown, errMissed))
			}
		}
	}
	_, _ = fmt.Fprintln(w)
	return errors.Join(w.Flush(), missed)
}

// floodScrape returns the median of a program's scrapes during a flood, and which part of a processor it used.
func floodScrape(s settings, program, mode string, ports int) (took time.Duration, cpu float64, err error) {
	storms, err := startFlood(ports)
	if err != nil {
		return 0, 0, err
	}
	defer endStorms(storms)
	e, err := startExporter(program+", --collector.events="+mode, s.path(program), "--collector.netns=self", "--collector.events="+mode, "--log.events")
	if err != nil {
		return 0, 0, err
	}
	defer e.stop()
	scrape := e.scrape(identity).sample
	for range 5 { // the first look finds all holders
		if _, err := scrape(); err != nil {
			return 0, 0, err
		}
		time.Sleep(floodPause / 4)
	}
	before := e.cpuTime()
	made, samples, err := flooding(storms, time.Duration(s.size(3000, 300))*time.Millisecond, floodPause/time.Duration(s.size(2, 20)), scrape)
	if err != nil {
		return 0, 0, err
	}
	return median(samples), (e.cpuTime() - before).Seconds() / made.Took.Seconds(), nil
}
