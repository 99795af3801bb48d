//go:build linux

package examples

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/grafana"
)

// chosen is the data source that the user selects at the top of the dashboard.
var chosen = grafana.Datasource{Type: "prometheus", UID: "${datasource}"}

// TestTheDashboardsAreOfGrafanasTypes finds fields that Grafana does not have, values that it does not know, and what it misses.
func TestTheDashboardsAreOfGrafanasTypes(t *testing.T) {
	schema := grafana.LoadSchema(t)
	for _, d := range grafana.Dashboards(t) {
		faults, err := schema.Check(d.JSON)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range faults {
			t.Errorf("%s: %s", d.Title, fault)
		}
	}
	d := grafana.Dashboards(t)[0]
	for change, want := range map[[2]string]string{
		{`"expr":`, `"query":`}:                                   `lacks the field "expr"`,
		{`"graphMode": "area"`, `"graphMode": "fancy"`}:           `is "fancy", want one of`,
		{`"decimals": 0`, `"decimals": "0"`}:                      `is 0, want`,
		{`"cellHeight":`, `"rowHeight":`}:                         `has the field "rowHeight"`,
		{`"lineInterpolation":`, `"lineInterpolatoin":`}:          `has the field "lineInterpolatoin"`,
		{`"type": "timeseries"`, `"type": "timeserie"`}:           `does not know: timeserie.Options`,
		{`"schemaVersion": 38`, `"schemaVersion": 38, "rows": 0`}: `has the field "rows"`,
	} {
		faults, err := schema.Check(strings.Replace(d.JSON, change[0], change[1], 1))
		if err != nil || !strings.Contains(strings.Join(faults, "\n"), want) {
			t.Errorf("with %s for %s: faults %q, %v; want one that %s", change[1], change[0], faults, err, want)
		}
	}
}

func TestTheDashboardsCanBeImported(t *testing.T) {
	uids := make(map[string]bool)
	for _, d := range grafana.Dashboards(t) {
		if d.ID != nil || d.UID == "" || d.Title == "" || uids[d.UID] {
			t.Errorf("id %v, uid %q, title %q: want no id, which the database gives, and the others", d.ID, d.UID, d.Title)
		}
		uids[d.UID] = true
		const grafana10 = 38
		if d.SchemaVersion < grafana10 {
			t.Errorf("%s: schemaVersion %d, want at least %d", d.Title, d.SchemaVersion, grafana10)
		}
		required, used := make(map[string]bool), make(map[string]bool)
		for _, r := range d.Requires {
			if r.Type == "panel" {
				required[r.ID] = true
			}
		}
		for p := range d.All() {
			used[p.Type] = true
		}
		if diff := cmp.Diff(used, required); diff != "" {
			t.Errorf("%s: __requires, -used +required:\n%s", d.Title, diff)
		}
	}
}

// TestADashboardOpensWithFewQueries counts those of the panels and those of the variables.
func TestADashboardOpensWithFewQueries(t *testing.T) {
	for _, d := range grafana.Dashboards(t) {
		queries := 0
		for p := range d.AtFirst() {
			queries += len(p.Targets)
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				queries++
			}
		}
		if queries > 15 {
			t.Errorf("%s: %d queries run when it is opened, want at most 15", d.Title, queries)
		}
	}
}

// TestTheUserChoosesHostsPortsProcessesAndNamespaces: each variable has values, and each query heeds those that are about its series.
func TestTheUserChoosesHostsPortsProcessesAndNamespaces(t *testing.T) {
	want := map[string]string{
		"listen-exporter": "datasource job instance netns port process", "listen-exporter-health": "datasource job instance",
	}
	for _, d := range grafana.Dashboards(t) {
		var names []string
		for _, v := range d.Templating.List {
			names = append(names, v.Name)
			switch {
			case v.Name == "datasource":
				if v.Type != "datasource" || v.Query != "prometheus" {
					t.Errorf("%s: the variable datasource is %+v", d.Title, v)
				}
			case v.Name == "netns":
				// One value, because Grafana escapes several: () is a regular expression for a label that is absent.
				if v.Type != "query" || v.Datasource != chosen || v.Multi || v.IncludeAll || v.Current.Value != grafana.Everything[v.Name] {
					t.Errorf("%s: the variable netns is %+v", d.Title, v)
				}
			case v.Type != "query" || v.Datasource != chosen || !v.Multi || !v.IncludeAll || !strings.HasPrefix(v.Definition, "label_values("):
				t.Errorf("%s: the variable %s is %+v, want several values of a label, from the chosen data source", d.Title, v.Name, v)
			// All lists the few jobs, which are only the exporter's. For 5 000 hosts that would be too long. A series without a
			// port or a process is one of all.
			case v.AllValue != map[string]string{"instance": ".+", "port": ".*", "process": ".*"}[v.Name]:
				t.Errorf("%s: the value of All of the variable %s is %q", d.Title, v.Name, v.AllValue)
			}
		}
		if got := strings.Join(names, " "); got != want[d.UID] {
			t.Errorf("%s: the variables are %s, want %s", d.Title, got, want[d.UID])
		}
		for p, q := range d.Queries() {
			for _, found := range regexp.MustCompile(`\b(\w+){([^}]*)}`).FindAllStringSubmatch(q.Expr, -1) {
				if need := selector(found[1]); !strings.Contains(found[2], need) {
					t.Errorf("%s, %q: %s ignores what the user chose; want %s", d.Title, p.Title, found[0], need)
				}
			}
		}
	}
}

// selector returns how a metric is selected by what the user chose.
func selector(metric string) string {
	if metric == "host_listen_service_info" { // it is joined by job and host
		return ""
	}
	all := `job=~"$job",instance=~"$instance"`
	remembered := strings.HasSuffix(metric, "_gone_timestamp_seconds") || metric == "host_listen_port_flapping"
	if regexp.MustCompile(`^host_listen_port(_|$)`).MatchString(metric) && !remembered {
		all += `,netns=~"$netns"`
	}
	if regexp.MustCompile(`^(host_listen_(port|service|lease_info|lease_overstayed)(_.+)?|ALERTS)$`).MatchString(metric) {
		all += `,port=~"$port"`
	}
	if remembered || metric == "host_listen_port_holder_info" || metric == "host_listen_service_down_start_timestamp_seconds" {
		all += `,process=~"$process"`
	}
	return all
}

func TestEveryPanelSaysWhatItShows(t *testing.T) {
	for _, d := range grafana.Dashboards(t) {
		ids, titles := make(map[int]bool), make(map[string]bool)
		own := func(p grafana.Panel) {
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s, %q: the id %d is not its own", d.Title, p.Title, p.ID)
			}
			ids[p.ID] = true
			if titles[p.Title] || p.Title == "" {
				t.Errorf("%s, panel %d: the title %q is not its own", d.Title, p.ID, p.Title)
			}
			titles[p.Title] = true
		}
		for n, p := range d.Panels {
			if p.Type == "row" {
				own(p)
				if p.Collapsed != (n > 0) || p.Collapsed != (len(p.Panels) > 0) {
					t.Errorf("%s, %q: want the first row open, and the others collapsed with their panels", d.Title, p.Title)
				}
			}
		}
		for p := range d.All() {
			own(p)
			if p.Description == "" || p.Datasource != chosen || len(p.Targets) == 0 {
				t.Errorf("%q: description %q, data source %v, %d queries", p.Title, p.Description, p.Datasource, len(p.Targets))
			}
			refs := make(map[string]bool)
			for _, q := range p.Targets {
				if q.Expr == "" || refs[q.RefID] || q.Datasource != chosen || q.Instant == q.Range {
					t.Errorf("%q: a query is %+v", p.Title, q)
				}
				refs[q.RefID] = true
				if q.LegendFormat == "" && (p.Type == "timeseries" || p.Type == "bargauge") {
					t.Errorf("%q: the query %s has no legend", p.Title, q.RefID)
				}
				if want := map[bool]string{true: "table", false: "time_series"}[p.Type == "table"]; q.Format != want {
					t.Errorf("%q: the query %s has the format %q, want %q", p.Title, q.RefID, q.Format, want)
				}
			}
		}
	}
}

// units are the IDs of the Grafana units that the dashboards use.
var units = []string{"none", "percentunit", "s", "bytes", "pps", "cps", "dateTimeAsIso"}

func TestEveryPanelHasAUnitAndThresholds(t *testing.T) {
	for p := range panels(t) {
		used := []string{p.FieldConfig.Defaults.Unit}
		for _, o := range p.FieldConfig.Overrides {
			for _, property := range o.Properties {
				var unit string
				if property.ID == "unit" && json.Unmarshal(property.Value, &unit) == nil {
					used = append(used, unit)
				}
			}
		}
		for _, unit := range used {
			if !slices.Contains(units, unit) {
				t.Errorf("%q: the unit %q is none of %v", p.Title, unit, units)
			}
		}
		thresholds := p.FieldConfig.Defaults.Thresholds
		if thresholds.Mode != "absolute" || len(thresholds.Steps) == 0 {
			t.Errorf("%q: the thresholds are %+v", p.Title, thresholds)
		}
		for n, step := range thresholds.Steps {
			// The first step begins at minus infinity, for which JSON has no number.
			if (n == 0) != (step.Value == nil) || n > 1 && *step.Value <= *thresholds.Steps[n-1].Value {
				t.Errorf("%q: step %d of the thresholds is %+v", p.Title, n, step)
			}
		}
	}
}

func TestNoPanelCoversAnother(t *testing.T) {
	type cell struct{ x, y int }
	free := func(panels []grafana.Panel) {
		taken := make(map[cell]string)
		for _, p := range panels {
			g := p.GridPos
			if g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
				t.Errorf("%q: %+v is not within the 24 columns", p.Title, g)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other := taken[cell{x, y}]; other != "" {
						t.Fatalf("%q covers %q at column %d, line %d", p.Title, other, x, y)
					}
					taken[cell{x, y}] = p.Title
				}
			}
		}
	}
	for _, d := range grafana.Dashboards(t) {
		free(d.Panels)
		for _, p := range d.Panels {
			free(p.Panels)
		}
	}
}
