package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// linear is how many times the cost of a host at the smallest size a host may cost at the largest.
const linear = 1.5

func report(out io.Writer, s settings, rules []rule, results []result) error {
	last := results[len(results)-1]
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	columns := func(cells ...string) { _, _ = fmt.Fprintf(w, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	line := func(count int) { _, _ = fmt.Fprintf(w, "|%s\n", strings.Repeat(" ---\t|", count)) }

	_, _ = fmt.Fprintf(w, "Each rule: the time of Prometheus' rule manager, and processor time by itself; medians of %d\n\n", s.rounds)
	head := []string{"rule"}
	for _, r := range results {
		head = append(head, fmt.Sprintf("%d hosts", r.hosts), "processor")
	}
	head = append(head, "series read", "samples read", "at most at once", "alerts")
	columns(head...)
	line(len(head))
	for n, one := range rules {
		cells := []string{"`" + one.name + "`"}
		for _, r := range results {
			cells = append(cells, short(r.managed[n]), short(r.touched[n].processor))
		}
		t := last.touched[n]
		columns(append(cells, fmt.Sprint(t.series), fmt.Sprint(t.samples), fmt.Sprint(t.peak), fmt.Sprint(last.alerts[n]))...)
	}
	for _, group := range groupsOf(rules) {
		cells := []string{"**group `" + group + "`**"}
		for _, r := range results {
			wall, processor := r.total(rules, group)
			cells = append(cells, "**"+short(wall)+"**", "**"+short(processor)+"**")
		}
		columns(append(cells, "", "", "", "")...)
	}
	_, _ = fmt.Fprintln(w)

	columns("hosts", "listeners", "series", "all rules", "processor", "processor a host", "memory of Prometheus", "with files")
	line(8)
	for _, r := range results {
		wall, processor := r.total(rules, "")
		columns(fmt.Sprint(r.hosts), fmt.Sprint(r.listeners), fmt.Sprint(r.series), short(wall), short(processor), short(r.each(rules)),
			fmt.Sprintf("%d MB", r.heap/1e6), fmt.Sprintf("%d MB", r.resident/1e6))
	}
	_, _ = fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	return errors.Join(demandShort(out, s.limit, rules, last), demandLinear(out, rules, results[0], last))
}

// groupsOf returns the groups in the order of the file.
func groupsOf(rules []rule) []string {
	var groups []string
	for _, one := range rules {
		if len(groups) == 0 || groups[len(groups)-1] != one.group {
			groups = append(groups, one.group)
		}
	}
	return groups
}

func demandShort(out io.Writer, limit time.Duration, rules []rule, r result) error {
	if limit == 0 {
		return nil
	}
	var missed error
	for _, group := range groupsOf(rules) {
		wall, _ := r.total(rules, group)
		verdict := "reached"
		if wall > limit {
			verdict = "MISSED"
			missed = errors.New("a group of rules takes too long")
		}
		_, _ = fmt.Fprintf(out, "group %s at %d hosts: %s, want at most %s: %s\n", group, r.hosts, short(wall), limit, verdict)
	}
	return missed
}

func demandLinear(out io.Writer, rules []rule, first, last result) error {
	if first.hosts == last.hosts {
		return nil
	}
	ratio := float64(last.each(rules)) / float64(first.each(rules))
	verdict := "reached"
	if ratio > linear {
		verdict = "MISSED"
	}
	_, err := fmt.Fprintf(out, "a host of %d / a host of %d = %.2f, want at most %g: %s\n", last.hosts, first.hosts, ratio, linear, verdict)
	if ratio > linear {
		err = errors.New("the cost is not linear in hosts")
	}
	return err
}

// total is what the rules of a group take, or without a name all rules, one after another.
func (r result) total(rules []rule, group string) (wall, processor time.Duration) {
	for n, one := range rules {
		if group == "" || group == one.group {
			wall += r.managed[n]
			processor += r.touched[n].processor
		}
	}
	return wall, processor
}

// each is the processor time for one host.
func (r result) each(rules []rule) time.Duration {
	_, processor := r.total(rules, "")
	return processor / time.Duration(r.hosts)
}

// short rounds to three digits.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}
