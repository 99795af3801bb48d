//go:build linux

package examples

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

type dashboard struct {
	Requires      []struct{ Type, ID string } `json:"__requires"`
	ID            *int
	UID, Title    string
	SchemaVersion int
	Panels        []panel
	Templating    struct{ List []variable }
	Links         []link
}

type panel struct {
	ID              int
	Type, Title     string
	Description     string
	Datasource      datasource
	GridPos         struct{ X, Y, W, H int }
	MaxDataPoints   int
	FieldConfig     fieldConfig
	Links           []link
	Targets         []target
	Transformations []transformation
	Panels          []panel // of a row that is collapsed
}

type fieldConfig struct {
	Defaults struct {
		Unit       string
		Thresholds struct {
			Mode  string
			Steps []struct{ Value *float64 }
		}
		Links []link
	}
	Overrides []struct {
		Matcher    struct{ ID, Options string }
		Properties []struct {
			ID    string
			Value json.RawMessage
		}
	}
}

type link struct{ Title, URL string }

type target struct {
	RefID          string
	Expr           string
	LegendFormat   string
	Format         string
	Datasource     datasource
	Instant, Range bool
}

type transformation struct {
	ID      string
	Options struct{ RenameByName map[string]string }
}

type datasource struct{ Type, UID string }

type variable struct {
	Name, Type, Definition string
	AllValue               string
	Multi, IncludeAll      bool
	Datasource             datasource
	Query                  any
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	d := &dashboard{}
	if err := json.Unmarshal([]byte(tools.Read(t, "grafana/listen_exporter.json")), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// panels yields the panels that are not rows.
func (d *dashboard) panels() iter.Seq[panel] {
	return func(yield func(panel) bool) {
		for _, p := range d.Panels {
			if p.Type != "row" && !yield(p) {
				return
			}
		}
	}
}

// queries yields each query with its panel.
func (d *dashboard) queries() iter.Seq2[panel, target] {
	return func(yield func(panel, target) bool) {
		for p := range d.panels() {
			for _, q := range p.Targets {
				if !yield(p, q) {
					return
				}
			}
		}
	}
}

// chosen is the data source that the user selects at the top of the dashboard.
var chosen = datasource{Type: "prometheus", UID: "${datasource}"}

func TestTheDashboardCanBeImported(t *testing.T) {
	d := readDashboard(t)
	if d.ID != nil || d.UID == "" || d.Title == "" {
		t.Errorf("id %v, uid %q, title %q: want no id, which the database gives, and the others", d.ID, d.UID, d.Title)
	}
	const grafana10 = 38
	if d.SchemaVersion < grafana10 {
		t.Errorf("schemaVersion %d, want at least %d", d.SchemaVersion, grafana10)
	}
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		switch v.Name {
		case "datasource":
			if v.Type != "datasource" || v.Query != "prometheus" {
				t.Errorf("the variable datasource is %+v", v)
			}
		default:
			if v.Type != "query" || v.Datasource != chosen || !v.Multi || !v.IncludeAll || !strings.HasPrefix(v.Definition, "label_values(") {
				t.Errorf("the variable %s is %+v, want several values of a label, from the chosen data source", v.Name, v)
			}
		}
		// All lists the few jobs, which are only the exporter's. For 5 000 hosts that would be too long.
		if want := map[string]string{"instance": ".+"}[v.Name]; v.AllValue != want {
			t.Errorf("the value of All of the variable %s is %q, want %q", v.Name, v.AllValue, want)
		}
	}
	if strings.Join(names, " ") != "datasource job instance" {
		t.Errorf("the variables are %v", names)
	}
	required, used := make(map[string]bool), make(map[string]bool)
	for _, r := range d.Requires {
		if r.Type == "panel" {
			required[r.ID] = true
		}
	}
	for p := range d.panels() {
		used[p.Type] = true
	}
	if diff := cmp.Diff(used, required); diff != "" {
		t.Errorf("__requires, -used +required:\n%s", diff)
	}
}

func TestEveryPanelSaysWhatItShows(t *testing.T) {
	ids, titles := make(map[int]bool), make(map[string]bool)
	for _, p := range readDashboard(t).Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("%q: the id %d is not its own", p.Title, p.ID)
		}
		ids[p.ID] = true
		if titles[p.Title] || p.Title == "" {
			t.Errorf("panel %d: the title %q is not its own", p.ID, p.Title)
		}
		titles[p.Title] = true
		if p.Type == "row" {
			if len(p.Panels) > 0 {
				t.Errorf("%q is collapsed: the panels in it are not checked", p.Title)
			}
			continue
		}
		if p.Description == "" || p.Datasource != chosen || len(p.Targets) == 0 {
			t.Errorf("%q: description %q, data source %v, %d queries", p.Title, p.Description, p.Datasource, len(p.Targets))
		}
		refs := make(map[string]bool)
		for _, q := range p.Targets {
			if q.Expr == "" || refs[q.RefID] || q.Datasource != chosen || q.Instant == q.Range {
				t.Errorf("%q: a query is %+v", p.Title, q)
			}
			refs[q.RefID] = true
			if !strings.Contains(q.Expr, `job=~"$job",instance=~"$instance"`) {
				t.Errorf("%q: %s ignores the chosen jobs and hosts", p.Title, q.Expr)
			}
			if q.LegendFormat == "" && (p.Type == "timeseries" || p.Type == "bargauge") {
				t.Errorf("%q: the query %s has no legend", p.Title, q.RefID)
			}
			if want := map[bool]string{true: "table", false: "time_series"}[p.Type == "table"]; q.Format != want {
				t.Errorf("%q: the query %s has the format %q, want %q", p.Title, q.RefID, q.Format, want)
			}
		}
	}
}

// units are the IDs of the Grafana units that the dashboard uses.
var units = []string{"none", "percentunit", "s", "bytes", "pps", "dateTimeAsIso"}

func TestEveryPanelHasAUnitAndThresholds(t *testing.T) {
	for p := range readDashboard(t).panels() {
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
	taken := make(map[cell]string)
	for _, p := range readDashboard(t).Panels {
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
