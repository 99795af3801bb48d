package incidents

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// silentPanels are the panels that need not have data in this run, each with the reason.
var silentPanels = map[string]string{}

// panel is a panel of the dashboard.
type panel struct {
	Title   string
	Targets []struct{ RefID, Expr string }
	Panels  []panel // of a row
}

// readPanels returns all panels of the dashboard that have queries.
func readPanels() ([]panel, error) {
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		return nil, err
	}
	var all panel
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", dashboardFile, err)
	}
	return all.flat(), nil
}

// flat returns the panels in a panel, however deep, that have queries.
func (p panel) flat() []panel {
	var all []panel
	if len(p.Targets) > 0 {
		all = append(all, p)
	}
	for _, inner := range p.Panels {
		all = append(all, inner.flat()...)
	}
	return all
}

// variable finds a variable of the dashboard: $job, ${job}, ${job:regex}. "$1" is a group of label_replace.
var variable = regexp.MustCompile(`\$(?:\{([A-Za-z_]\w*)(?::\w+)?\}|([A-Za-z_]\w*))`)

// interpolate puts values in place of the variables, as Grafana does: all jobs, all hosts, and the time of the run. What is a
// duration is as much shorter as in the rules.
func interpolate(expr string, length time.Duration) (string, error) {
	values := map[string]string{
		"job": ".+", "instance": ".+",
		"__rate_interval": promDuration(5 * time.Minute / speed), "__interval": promDuration(time.Minute / speed),
		"__interval_ms": strconv.Itoa(int(time.Minute / speed / time.Millisecond)),
		"__range":       promDuration(length), "__range_s": strconv.Itoa(int(length.Seconds())),
	}
	var unknown error
	// Theirs are durations of the run already.
	text := variable.ReplaceAllStringFunc(quicken(expr), func(found string) string {
		name := strings.Join(variable.FindStringSubmatch(found)[1:], "")
		value, ok := values[name]
		if !ok {
			unknown = fmt.Errorf("no value is known for %s", found)
		}
		return value
	})
	return text, unknown
}

// runPanels runs each query of the dashboard over the time of the run: all must have had data.
func (w *world) runPanels() error {
	panels, err := readPanels()
	if err != nil {
		return err
	}
	end := time.Now()
	for _, p := range panels {
		for _, target := range p.Targets {
			r := row{what: "panel " + p.Title, where: "query " + target.RefID, expected: "data"}
			if reason := silentPanels[p.Title]; reason != "" {
				r.expected = "nothing: " + reason
			}
			expr, err := interpolate(target.Expr, end.Sub(w.watchman.started).Truncate(time.Second))
			series := 0
			if err == nil {
				series, err = queryRange(expr, w.watchman.started, end)
			}
			switch {
			case err != nil:
				r.actual = "error: " + err.Error()
			case series == 0:
				r.actual, r.passed = "nothing", silentPanels[p.Title] != ""
			default:
				r.actual, r.passed = fmt.Sprintf("%d series", series), silentPanels[p.Title] == ""
			}
			w.rows = append(w.rows, r)
		}
	}
	if len(panels) == 0 {
		return fmt.Errorf("%s has no panels", dashboardFile)
	}
	return nil
}

// queryRange evaluates an expression at each second of the run, and returns how many series have had data.
func queryRange(expression string, start, end time.Time) (series int, err error) {
	var data struct{ Result []any }
	values := url.Values{
		"query": {expression}, "step": {"1"},
		"start": {strconv.FormatInt(start.Unix(), 10)}, "end": {strconv.FormatInt(end.Unix(), 10)},
	}
	err = api("query_range?"+values.Encode(), &data)
	return len(data.Result), err
}

func TestEveryQueryOfTheDashboardCanBeInterpolated(t *testing.T) {
	panels, err := readPanels()
	if err != nil {
		t.Fatal(err)
	}
	if len(panels) == 0 {
		t.Error("there are no panels")
	}
	titles := make(map[string]bool)
	for _, p := range panels {
		titles[p.Title] = true
		for _, target := range p.Targets {
			if _, err := interpolate(target.Expr, time.Minute); err != nil {
				t.Errorf("%q: %v in %s", p.Title, err, target.Expr)
			}
		}
	}
	for title := range silentPanels {
		if !titles[title] {
			t.Errorf("the dashboard has no panel %q, which need not have data", title)
		}
	}
}

func TestVariablesOfTheDashboardAreReplaced(t *testing.T) {
	for _, tc := range []struct{ name, expr, want string }{
		{"plain", `up{job=~"$job",instance=~"$instance"}`, `up{job=~".+",instance=~".+"}`},
		{"in braces", `up{job=~"${job}",instance=~"${instance:regex}"}`, `up{job=~".+",instance=~".+"}`},
		{"durations", `rate(x[$__rate_interval]) > $__range_s`, `rate(x[15s]) > 90`},
		{"a subquery", `x[$__range:$__interval]`, `x[90s:3s]`},
		{"a window of its own", `x[1h:1m]`, `x[180s:3s]`},
		{"a group", `label_replace(x, "proto", "$1", "collector", "(.+)")`, `label_replace(x, "proto", "$1", "collector", "(.+)")`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := interpolate(tc.expr, 90*time.Second)
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
		})
	}
	if _, err := interpolate("$nothing", time.Minute); err == nil {
		t.Error("an unknown variable is no error")
	}
}
