// Command panels draws a Grafana dashboard without Grafana: it runs each panel's query against a Prometheus, and writes one
// page of plain pictures, laid out as the dashboard is. It shows whether titles, units, legends and thresholds read well,
// which queries have no answer, how many series each returns, and how long that took.
//
//	go run ./.ci/panels -prometheus http://localhost:9090 -range 1h -out dashboard.html
//
// It fails if a query is refused, and with -strict also if one has no answer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// settings are what a run can be told.
type settings struct {
	dashboard, prometheus, out string
	only                       *regexp.Regexp
	job, instance              string
	span, scrape               time.Duration
	end                        int64
	strict                     bool
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "panels:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("panels", flag.ContinueOnError)
	flags.StringVar(&s.dashboard, "dashboard", "examples/grafana/listen_exporter.json", "the dashboard")
	flags.StringVar(&s.prometheus, "prometheus", "http://localhost:9090", "the Prometheus to ask")
	flags.StringVar(&s.out, "out", "", "the page to write; none without it")
	flags.StringVar(&s.job, "job", "listen_exporter", "the value of $job, a regular expression")
	flags.StringVar(&s.instance, "instance", ".+", "the value of $instance, a regular expression")
	flags.DurationVar(&s.span, "range", time.Hour, "the dashboard's time range")
	flags.DurationVar(&s.scrape, "scrape", 15*time.Second, "the scrape interval of the data source")
	flags.Int64Var(&s.end, "end", time.Now().Unix(), "the end of the time range, in seconds since 1970")
	flags.Func("only", "a regular expression: the panels whose titles match (default all)", func(text string) (err error) {
		s.only, err = regexp.Compile(text)
		return err
	})
	flags.BoolVar(&s.strict, "strict", false, "fail if a query has no answer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d, err := readDashboard(s.dashboard)
	if err != nil {
		return err
	}
	p := server{address: s.prometheus}
	var faults []error
	for n := range d.Panels {
		if s.only != nil && !s.only.MatchString(d.Panels[n].Title) {
			continue
		}
		if err := s.ask(&p, &d.Panels[n], out); err != nil {
			faults = append(faults, err)
		}
	}
	if s.out != "" {
		faults = append(faults, os.WriteFile(s.out, []byte(page(d)), 0o644))
	}
	return errors.Join(faults...)
}

// maxDataPoints is how many points Grafana asks for in a panel that does not say: about its width in pixels.
const maxDataPoints = 600

// ask runs the queries of a panel, and prints a line for each.
func (s settings) ask(p *server, panel *panel, out io.Writer) error {
	points := maxDataPoints
	if panel.MaxDataPoints > 0 {
		points = panel.MaxDataPoints
	}
	least := s.scrape
	if given, err := time.ParseDuration(panel.Interval); err == nil {
		least = max(least, given)
	}
	step := max(least, s.span/time.Duration(points)).Round(time.Second)
	var faults []error
	for _, t := range panel.Targets {
		expr := s.interpolate(t.Expr, step)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		start := time.Now()
		var found []series
		var err error
		if t.Instant {
			found, err = p.query(ctx, expr, s.end)
		} else {
			found, err = p.queryRange(ctx, expr, s.end-int64(s.span.Seconds()), s.end, step)
		}
		cancel()
		took := time.Since(start)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("%q: %w", panel.Title, err))
		case len(found) == 0 && s.strict:
			faults = append(faults, fmt.Errorf("%q: no answer to %s", panel.Title, expr))
		}
		if _, err := fmt.Fprintf(out, "%7.3f s %6d series  %s %s\n", took.Seconds(), len(found), panel.Title, t.RefID); err != nil {
			return err
		}
		panel.answers = append(panel.answers, answer{t, found, err})
	}
	panel.from, panel.to = s.end-int64(s.span.Seconds()), s.end
	panel.step = int64(step.Seconds())
	return errors.Join(faults...)
}

// interpolate puts values in place of the dashboard's variables.
func (s settings) interpolate(expr string, step time.Duration) string {
	values := map[string]string{
		"job": s.job, "instance": s.instance,
		"__interval":      seconds(step),
		"__interval_ms":   strconv.FormatInt(step.Milliseconds(), 10),
		"__rate_interval": seconds(max(step+s.scrape, 4*s.scrape)),
		"__range":         seconds(s.span),
		"__range_s":       strconv.Itoa(int(s.span.Seconds())),
	}
	return regexp.MustCompile(`\$[a-z_]+`).ReplaceAllStringFunc(expr, func(name string) string {
		if value, found := values[strings.TrimPrefix(name, "$")]; found {
			return value
		}
		return name
	})
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) + "s" }
