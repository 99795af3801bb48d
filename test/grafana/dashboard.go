//go:build linux

// Package grafana reads the shipped dashboards, and what Grafana knows of dashboards. It is only for tests.
package grafana

import (
	"encoding/json"
	"iter"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// Dashboard is what tests read of a dashboard.
type Dashboard struct {
	Requires      []struct{ Type, ID string } `json:"__requires"`
	ID            *int
	UID, Title    string
	SchemaVersion int
	Panels        []Panel
	Templating    struct{ List []Variable }
	Links         []Link

	// File is the path of the dashboard, and JSON its text.
	File, JSON string `json:"-"`
}

// Panel is a panel or a row.
type Panel struct {
	ID            int
	Type, Title   string
	Description   string
	Datasource    Datasource
	GridPos       struct{ X, Y, W, H int }
	MaxDataPoints int
	FieldConfig   FieldConfig
	Options       struct {
		SortBy []struct{ DisplayName string }
	}
	Links           []Link
	Targets         []Target
	Transformations []Transformation
	Collapsed       bool
	Panels          []Panel // of a row that is collapsed
}

// FieldConfig is how the values of a panel look.
type FieldConfig struct {
	Defaults struct {
		Unit       string
		NoValue    string
		Decimals   *int
		Thresholds struct {
			Mode  string
			Steps []struct {
				Color string
				Value *float64
			}
		}
		Links []Link
	}
	Overrides []struct {
		Matcher    struct{ ID, Options string }
		Properties []struct {
			ID    string
			Value json.RawMessage
		}
	}
}

// Link is a link of a dashboard, a panel or a value.
type Link struct{ Title, URL string }

// Target is a query.
type Target struct {
	RefID          string
	Expr           string
	LegendFormat   string
	Format         string
	Datasource     Datasource
	Instant, Range bool
}

// Transformation changes the columns of a table.
type Transformation struct {
	ID      string
	Options struct {
		ExcludeByName map[string]bool
		IndexByName   map[string]int
		RenameByName  map[string]string
	}
}

// Datasource is where a query goes.
type Datasource struct{ Type, UID string }

// Variable is what the user chooses at the top of the dashboard.
type Variable struct {
	Name, Label       string
	Type, Definition  string
	AllValue, Regex   string
	Multi, IncludeAll bool
	Datasource        Datasource
	Query             any
	Current           struct{ Value any }
}

// Dashboards reads all dashboards that are shipped.
func Dashboards(t testing.TB) (all []*Dashboard) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(host.Root, "examples/grafana/*.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("the dashboards are %v, %v", files, err)
	}
	for _, file := range files {
		d := &Dashboard{File: file, JSON: tools.Read(t, file)}
		if err := json.Unmarshal([]byte(d.JSON), d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, d)
	}
	return all
}

// AtFirst yields the panels that a user sees before any row is opened, without the rows.
func (d *Dashboard) AtFirst() iter.Seq[Panel] {
	return func(yield func(Panel) bool) {
		for _, p := range d.Panels {
			if p.Type != "row" && !yield(p) {
				return
			}
		}
	}
}

// All yields all panels, and those of the rows, without the rows.
func (d *Dashboard) All() iter.Seq[Panel] {
	return func(yield func(Panel) bool) {
		for _, p := range d.Panels {
			if p.Type != "row" && !yield(p) {
				return
			}
			for _, inside := range p.Panels {
				if !yield(inside) {
					return
				}
			}
		}
	}
}

// Queries yields each query with its panel.
func (d *Dashboard) Queries() iter.Seq2[Panel, Target] {
	return func(yield func(Panel, Target) bool) {
		for p := range d.All() {
			for _, q := range p.Targets {
				if !yield(p, q) {
					return
				}
			}
		}
	}
}

// Everything has the values of the variables when the user has chosen nothing: every job and host, the main namespace, every port
// and process.
var Everything = map[string]string{"job": ".+", "instance": ".+", "netns": "()", "port": ".*", "process": ".*"}

// Interpolate replaces the variables of a query, and those that Grafana sets: how many seconds the dashboard shows, and the
// duration of which a rate is taken.
func Interpolate(t testing.TB, expr string, chosen map[string]string, seconds, rate string) string {
	t.Helper()
	const group = "\x00" // $1 of label_replace
	replacements := []string{"$1", group, "$__rate_interval", rate, "$__range_s", seconds}
	for name, value := range chosen {
		replacements = append(replacements, `"$`+name+`"`, `"`+value+`"`)
	}
	expr = strings.NewReplacer(replacements...).Replace(expr)
	if left := regexp.MustCompile(`\$\w+`).FindString(expr); left != "" {
		t.Errorf("%s: the test has no value for %s", expr, left)
	}
	return strings.ReplaceAll(expr, group, "$1")
}
