package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// side is one of the things that a figure compares.
type side struct {
	name   string
	sample func() (time.Duration, error)
}

// result has the samples of a side.
type result struct {
	name    string
	samples []time.Duration // sorted
}

func (r result) median() time.Duration { return median(r.samples) }

// median returns the median of sorted samples, of two in the middle the lower one.
func median[T cmp.Ordered](sorted []T) T { return sorted[(len(sorted)-1)/2] }

// inTurns samples the sides in turns, A B A B, so that other load on the machine disturbs each of them equally. It does not
// count the first round.
func inTurns(rounds int, sides ...side) ([]result, error) {
	results := make([]result, len(sides))
	for round := range rounds + 1 {
		for n, s := range sides {
			took, err := s.sample()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			results[n].name = s.name
			if round > 0 {
				results[n].samples = append(results[n].samples, took)
			}
		}
	}
	for _, r := range results {
		slices.Sort(r.samples)
	}
	return results, nil
}

// batch makes one sample of many: their median.
func batch(size int, sample func() (time.Duration, error)) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		samples := make([]time.Duration, size)
		for n := range samples {
			var err error
			if samples[n], err = sample(); err != nil {
				return 0, err
			}
		}
		slices.Sort(samples)
		return median(samples), nil
	}
}

// batched makes a side of which one sample is the median of many.
func batched(s side, size int) side { return side{s.name, batch(size, s.sample)} }

// timed returns how long f takes.
func timed(f func() error) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		err := f()
		return time.Since(start), err
	}
}

// ratio is the median of one side divided by that of another, and what it must be.
type ratio struct {
	of, to   result
	want     float64
	atLeast  bool // else at most
	noDemand bool
}

func (r ratio) value() float64 { return float64(r.of.median()) / float64(r.to.median()) }

func (r ratio) reached() bool {
	return r.noDemand || r.atLeast == (r.value() >= r.want)
}

func (r ratio) String() string {
	text := fmt.Sprintf("%s / %s = %.3g", r.of.name, r.to.name, r.value())
	switch {
	case r.noDemand:
		return text
	case r.atLeast:
		text += fmt.Sprintf(", want at least %g", r.want)
	default:
		text += fmt.Sprintf(", want at most %g", r.want)
	}
	if !r.reached() {
		return text + ": MISSED"
	}
	return text + ": reached"
}

// report prints the samples and the ratios. The error is errMissed if a ratio was missed.
func report(out io.Writer, title string, results []result, ratios ...ratio) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "%s\n\n| side\t| median\t| lowest\t| highest\t| runs\t|\n| ---\t| ---\t| ---\t| ---\t| ---\t|\n", title)
	for _, r := range results {
		_, _ = fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %d\t|\n",
			r.name, short(r.median()), short(r.samples[0]), short(r.samples[len(r.samples)-1]), len(r.samples))
	}
	_, _ = fmt.Fprintln(w)
	missed := 0
	for _, r := range ratios {
		_, _ = fmt.Fprintln(w, r)
		if !r.reached() {
			missed++
		}
	}
	_, _ = fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%s: %d of %d ratios: %w", title, missed, len(ratios), errMissed)
	}
	return nil
}

// short rounds to three digits.
func short(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
