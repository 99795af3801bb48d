package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

const (
	// unusedLimit is what leases may cost who does not use them, of what the program cost without.
	unusedLimit   = 1.02
	unusedRest    = 30 * time.Second
	unusedScrapes = 20
	unusedStarts  = 7 // of which the median is one sample
)

// leasesUnused compares the start and the memory of the product with those of a version that has no leases, in pairs.
func leasesUnused(s settings, out io.Writer) error {
	if s.before == "" {
		_, err := fmt.Fprintf(out, "leases-unused compares with a version without leases: want -before\n\n")
		return err
	}
	open, err := openListeners(fewListeners)
	if err != nil {
		return err
	}
	defer open.hold()
	names := []string{"from the start to the first complete answer, ms", "resident memory at rest after 30 s, MB", "after 20 scrapes, MB"}
	samples := make([]map[string][]float64, len(names))
	for n := range samples {
		samples[n] = make(map[string][]float64)
	}
	for round := range s.size(2*s.rounds+1, 1) + 1 { // the first does not count
		rest := time.Second
		if round > 0 && !s.small {
			rest = unusedRest
		}
		pair := s.programs()
		if round%2 == 0 {
			slices.Reverse(pair)
		}
		figures, err := unusedPair(s, pair, rest)
		if err != nil {
			return err
		}
		for program, values := range figures {
			for n, value := range values {
				if round > 0 {
					samples[n][program] = append(samples[n][program], value)
				}
			}
		}
	}
	missed := 0
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "Without leases, %d pairs\n\n| \t| before\t| now\t| now / before: median\t| quartiles\t|\n| ---\t| ---\t| ---\t| ---\t| ---\t|\n", len(samples[0][product]))
	for n, name := range names {
		ratios := make([]float64, len(samples[n][product]))
		for i := range ratios {
			ratios[i] = samples[n][product][i] / samples[n][before][i]
		}
		for _, values := range [][]float64{ratios, samples[n][product], samples[n][before]} {
			slices.Sort(values)
		}
		if median(ratios) > unusedLimit {
			missed++
		}
		_, _ = fmt.Fprintf(w, "| %s\t| %.1f\t| %.1f\t| %.3f\t| %.3f to %.3f\t|\n", name, median(samples[n][before]), median(samples[n][product]),
			median(ratios), ratios[len(ratios)/4], ratios[len(ratios)*3/4])
	}
	_, _ = fmt.Fprintln(w)
	if err := w.Flush(); err != nil || missed == 0 {
		return err
	}
	return fmt.Errorf("%d of %d medians, want at most %g: %w", missed, len(names), unusedLimit, errMissed)
}

// unusedPair returns the figures of two programs. They rest at the same time.
func unusedPair(s settings, pair []string, rest time.Duration) (figures map[string][]float64, err error) {
	starts := make(map[string][]float64)
	for range s.size(unusedStarts, 1) {
		for _, program := range pair {
			took, _, err := startOnce(program, s.path(program), fewListeners+1)
			if err != nil {
				return nil, err
			}
			starts[program] = append(starts[program], float64(took.Microseconds())/1000)
		}
	}
	figures = make(map[string][]float64)
	running := make(map[string]*exporter)
	defer func() {
		for _, e := range running {
			e.stop()
		}
	}()
	for _, program := range pair {
		e, _, err := startComplete(program, s.path(program), fewListeners+1+len(running))
		if err != nil {
			return nil, err
		}
		running[program] = e
		slices.Sort(starts[program])
		figures[program] = []float64{median(starts[program])}
	}
	time.Sleep(rest)
	for _, program := range pair {
		for _, scrapes := range []int{0, unusedScrapes} {
			for range scrapes {
				if _, err := running[program].page(); err != nil {
					return nil, err
				}
			}
			resident, err := running[program].resident()
			if err != nil {
				return nil, err
			}
			figures[program] = append(figures[program], resident)
		}
	}
	return figures, nil
}
