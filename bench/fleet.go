package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"go.yaml.in/yaml/v3"
)

// rulesFile has the rules that are measured, unless LISTEN_EXPORTER_RULES names others, such as those of an older version.
const rulesFile = "../alerts/listen_exporter.rules.yml"

// What the rules must reach: the time of a group at the largest fleet, and by how much a host there may cost more than a host of
// the smallest. The group that reads every listener is evaluated less often.
const (
	groupLimit   = 2 * time.Second
	standIn      = "listen_exporter_stand_in"
	standInLimit = 6 * time.Second
	linear       = 1.5
)

// cost is what one evaluation of a rule costs: processor time with garbage collection, samples read, and samples in memory at once.
type cost struct {
	processor             time.Duration
	samples, peak, alerts int
}

type rule struct {
	group, name, expr string
	records           bool
	costs             []cost // by the size of the fleet
}

// fleetRules evaluates the shipped rules by Prometheus' own engine over two hours of a fleet, in Prometheus' own database.
func fleetRules(s settings, out io.Writer) error {
	sizes := []int{500, 1667, 5000}
	if s.small {
		sizes = []int{20, 40}
	}
	text, rules, err := readRules()
	if err != nil {
		return err
	}
	for _, hosts := range sizes {
		if err := measureFleet(s, hosts, text, rules); err != nil {
			return fmt.Errorf("%d hosts: %w", hosts, err)
		}
	}
	return reportFleet(out, sizes, rules)
}

func readRules() (string, []*rule, error) {
	text, err := os.ReadFile(cmp.Or(os.Getenv("LISTEN_EXPORTER_RULES"), rulesFile))
	if err != nil {
		return "", nil, err
	}
	var content struct {
		Groups []struct {
			Name  string
			Rules []struct{ Alert, Record, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &content); err != nil {
		return "", nil, fmt.Errorf("%s: %w", rulesFile, err)
	}
	var rules []*rule
	for _, group := range content.Groups {
		for _, r := range group.Rules {
			rules = append(rules, &rule{group: group.Name, name: r.Alert + r.Record, expr: r.Expr, records: r.Record != ""})
		}
	}
	return string(text), rules, nil
}

// measureFleet evaluates each rule at the end of the data of so many hosts.
func measureFleet(s settings, hosts int, text string, rules []*rule) error {
	f := fleet{hosts: hosts, end: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	data, err := f.open(dir, text)
	if err != nil {
		return err
	}
	defer func() { _ = data.Close() }()
	fmt.Fprintf(os.Stderr, "%d hosts: %d series\n", hosts, data.Head().NumSeries())
	runtime.GC()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: 2 * time.Minute}) // Prometheus' defaults
	for _, r := range rules {
		var all []cost
		for range min(s.rounds, 3) {
			c, answer, err := evaluate(engine, data, r.expr, f.end)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			if r.records && len(all) == 0 {
				if err := record(data, r.name, answer, f.end); err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
			}
			all = append(all, c)
		}
		slices.SortFunc(all, func(a, b cost) int { return int(a.processor - b.processor) })
		r.costs = append(r.costs, all[(len(all)-1)/2])
	}
	return nil
}

func evaluate(engine *promql.Engine, data storage.Queryable, expr string, at time.Time) (c cost, answer promql.Vector, err error) {
	before, err := processorTime()
	if err != nil {
		return c, nil, err
	}
	query, err := engine.NewInstantQuery(context.Background(), data, promql.NewPrometheusQueryOpts(false, 0), expr, at)
	if err != nil {
		return c, nil, err
	}
	defer query.Close()
	answer, err = query.Exec(context.Background()).Vector()
	if err != nil {
		return c, nil, err
	}
	after, err := processorTime()
	stats := query.Stats().Samples
	return cost{after - before, int(stats.TotalSamples), stats.PeakSamples, len(answer)}, answer, err
}

// processorTime returns what all threads of this process have used so far.
func processorTime() (time.Duration, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}

func reportFleet(out io.Writer, sizes []int, rules []*rule) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintf(w, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	head := []string{"rule"}
	for _, hosts := range sizes {
		head = append(head, fmt.Sprintf("%d hosts", hosts))
	}
	row(append(head, "samples read", "at most at once", "answers")...)
	row(slices.Repeat([]string{"---"}, len(head)+3)...)
	all := make([]time.Duration, len(sizes))
	var groups []string
	last := make(map[string]time.Duration) // each group at the largest fleet
	for _, r := range rules {
		cells := []string{"`" + r.name + "`"}
		for n, c := range r.costs {
			cells = append(cells, short(c.processor).String())
			all[n] += c.processor
		}
		c := r.costs[len(sizes)-1]
		row(append(cells, fmt.Sprint(c.samples), fmt.Sprint(c.peak), fmt.Sprint(c.alerts))...)
		if !slices.Contains(groups, r.group) {
			groups = append(groups, r.group)
		}
		last[r.group] += c.processor
	}
	total, each := []string{"**all**"}, []string{"a host"}
	for n, hosts := range sizes {
		total = append(total, "**"+short(all[n]).String()+"**")
		each = append(each, short(all[n]/time.Duration(hosts)).String())
	}
	row(append(total, "", "", "")...)
	row(append(each, "", "", "")...)
	if err := w.Flush(); err != nil {
		return err
	}

	var missed error
	verdict := func(reached bool) string {
		if reached {
			return "reached"
		}
		missed = errMissed
		return "MISSED"
	}
	_, _ = fmt.Fprintln(out)
	for _, group := range groups {
		limit := groupLimit
		if group == standIn {
			limit = standInLimit
		}
		_, _ = fmt.Fprintf(out, "group %s at %d hosts: %v, want at most %v: %s\n",
			group, sizes[len(sizes)-1], short(last[group]), limit, verdict(last[group] <= limit))
	}
	largest := float64(all[len(all)-1]) / float64(sizes[len(sizes)-1])
	growth := largest / (float64(all[0]) / float64(sizes[0]))
	_, _ = fmt.Fprintf(out, "a host of %d / a host of %d = %.2f, want at most %g: %s\n\n",
		sizes[len(sizes)-1], sizes[0], growth, linear, verdict(growth <= linear))
	return missed
}
