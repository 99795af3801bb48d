package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// What a start on an idle host may take, until the first complete answer, and what memory it may take then, in MB.
const (
	startLimit  = 100 * time.Millisecond
	memoryLimit = 16
)

// startUp measures from the exec of a program to its first complete answer.
func startUp(s settings, out io.Writer) error {
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	var sides []side
	memory := make(map[string][]float64)
	for _, program := range s.programs() {
		sides = append(sides, side{program, func() (time.Duration, error) {
			took, resident, err := startOnce(program, s.path(program), fewListeners+1)
			memory[program] = append(memory[program], resident)
			return took, err
		}})
	}
	results, err := inTurns(s.rounds*3, sides...)
	if err != nil {
		return err
	}
	ratios := []ratio{{of: results[0], to: result{"100 ms", []time.Duration{startLimit}}, want: 1}}
	missed := report(out, "From the start to the first complete answer, 100 listeners", results, ratios...)
	for _, program := range s.programs() {
		info, err := os.Stat(s.path(program))
		if err != nil {
			return err
		}
		slices.Sort(memory[program])
		resident := median(memory[program])
		_, _ = fmt.Fprintf(out, "%s: binary %.1f MB, resident memory after the first answer %.1f MB\n", program, float64(info.Size())/1e6, resident)
		if program == product && resident > memoryLimit {
			missed = errors.Join(missed, fmt.Errorf("%w: resident memory, want at most %d MB", errMissed, memoryLimit))
		}
	}
	_, _ = fmt.Fprintln(out)
	return missed
}

// startOnce starts a program until an answer is complete, and ends it.
func startOnce(name, path string, listeners int) (took time.Duration, resident float64, err error) {
	e, took, err := startComplete(name, path, listeners)
	if err != nil {
		return 0, 0, err
	}
	defer e.stop()
	resident, err = e.resident()
	return took, resident, err
}

// startComplete starts a program and scrapes until an answer is complete: it has so many listeners, all their holders, and no failed read.
func startComplete(name, path string, listeners int) (e *exporter, took time.Duration, err error) {
	begin := time.Now()
	if e, err = launch(name, path); err != nil {
		return nil, 0, err
	}
	for ; ; time.Sleep(time.Millisecond) {
		p, err := e.page()
		took = time.Since(begin)
		if err == nil && p.count("host_listen_port") == listeners && p.count("host_listen_port_holder_info") >= listeners &&
			!strings.Contains(string(p), "\nhost_listen_collector_success{collector=\"holder\"} 0\n") {
			return e, took, nil
		}
		if took > startTimeout {
			e.stop()
			return nil, 0, fmt.Errorf("%s has no complete answer: %w", name, err)
		}
	}
}
