//go:build linux

package pictures

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/grafana"
)

//go:embed dashboard.html.tmpl
var dashboardTemplate string

// drawing is a dashboard as it is drawn.
type drawing struct {
	Title, Range string
	Open         string      // the row that is open
	Variables    [][2]string // name and value
	Boxes        []box
	Rows         []string
}

// box is a panel as it is drawn.
type box struct {
	grafana.Panel
	Value  string // of a single one
	Colour string
	Spark  string // points of a polyline, of 100 by 30
	Header []string
	Cells  [][]cell
	Areas  []area
	Scale  []string // of the axis, from the top
	Times  []string
}

type cell struct{ Text, Colour string }

// area is one of the series that lie on each other in a graph.
type area struct{ Name, Colour, Points, Last, Max string }

// colours are those of Grafana's names that the dashboards use.
var colours = map[string]string{
	"red": "#f2495c", "orange": "#ff9830", "yellow": "#fade2a", "green": "#73bf69", "blue": "#5794f2", "purple": "#b877d9", "text": "#d8d9da",
}

// draw asks for all that the dashboard shows when it is opened. It is a drawing of our own: Grafana is not at hand.
func draw(t *testing.T, d *grafana.Dashboard, m *monitoring) drawing {
	t.Helper()
	now := time.Now()
	drawn := drawing{Title: d.Title, Range: fmt.Sprintf("Last %.0f minutes", shown.Minutes())}
	for _, v := range d.Templating.List {
		value := map[string]string{"datasource": "Prometheus", "netns": "main"}[v.Name]
		drawn.Variables = append(drawn.Variables, [2]string{v.Label, cmp.Or(value, "All")})
	}
	for _, p := range d.Panels {
		if p.Type == "row" && !p.Collapsed {
			drawn.Open = p.Title
		}
		if p.Type == "row" && p.Collapsed {
			drawn.Rows = append(drawn.Rows, fmt.Sprintf("%s (%d panels)", p.Title, len(p.Panels)))
		}
	}
	for p := range d.AtFirst() {
		b := box{Panel: p, Colour: colours["text"]}
		result := m.ask(t, p.Targets[0], now)
		switch p.Type {
		case "stat":
			b.single(result)
		case "table":
			b.table(result)
		case "timeseries":
			b.graph(result, now)
		default:
			t.Errorf("%q: nothing draws a panel of the type %s", p.Title, p.Type)
		}
		drawn.Boxes = append(drawn.Boxes, b)
	}
	return drawn
}

func (b *box) single(result []answer) {
	if len(result) == 0 {
		b.Value = cmp.Or(b.FieldConfig.Defaults.NoValue, "No data")
		return
	}
	samples := result[0].Values
	if samples == nil {
		samples = [][2]any{result[0].Value}
	}
	last, highest := number(samples[len(samples)-1]), 1.0
	b.Value = fmt.Sprint(last)
	for _, step := range b.FieldConfig.Defaults.Thresholds.Steps {
		if step.Value == nil || last >= *step.Value {
			b.Colour = colours[step.Color]
		}
	}
	for _, s := range samples {
		highest = max(highest, number(s))
	}
	var points strings.Builder
	if len(samples) > 1 {
		first, length := samples[0][0].(float64), shown.Seconds()
		for _, s := range samples {
			fmt.Fprintf(&points, "%.1f,%.1f ", 100*(s[0].(float64)-first)/length, 30-28*number(s)/highest)
		}
	}
	b.Spark = points.String()
}

// table applies what organizes the columns, the order and the units.
func (b *box) table(result []answer) {
	organize := b.Transformations[0].Options
	names := slices.SortedFunc(maps.Keys(organize.IndexByName), func(a, b string) int {
		return organize.IndexByName[a] - organize.IndexByName[b]
	})
	for _, name := range names {
		b.Header = append(b.Header, organize.RenameByName[name])
	}
	sorted := slices.Index(b.Header, b.Options.SortBy[0].DisplayName)
	slices.SortStableFunc(result, func(x, y answer) int { // by the number, or by the text
		if names[sorted] == "Value" {
			return cmp.Compare(number(x.Value), number(y.Value))
		}
		return cmp.Compare(x.Metric[names[sorted]], y.Metric[names[sorted]])
	})
	for _, series := range result {
		var cells []cell
		for n, name := range names {
			c := cell{Text: series.Metric[name]}
			if name == "Value" {
				c.Text = unit(b.unit(b.Header[n]), number(series.Value))
			}
			cells = append(cells, c)
		}
		b.Cells = append(b.Cells, cells)
	}
	if len(result) == 0 {
		b.Value = b.FieldConfig.Defaults.NoValue
	}
}

// unit returns the unit of a column.
func (b *box) unit(column string) (name string) {
	for _, o := range b.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if o.Matcher.Options == column && property.ID == "unit" {
				_ = json.Unmarshal(property.Value, &name)
			}
		}
	}
	return name
}

// unit writes a number with its unit, as Grafana does: 90 s are 1.50 mins.
func unit(name string, value float64) string {
	if name != "s" {
		return fmt.Sprint(value)
	}
	if value < 60 {
		return fmt.Sprintf("%.0f s", value)
	}
	return fmt.Sprintf("%.3g mins", value/60)
}

// graph puts the series on each other, each as steps.
func (b *box) graph(result []answer, end time.Time) {
	const width, height = 1000.0, 300.0
	var steps []float64
	for at := end.Add(-shown).Unix(); at <= end.Unix(); at += int64(scrapeInterval.Seconds()) {
		steps = append(steps, float64(at))
	}
	values := make([][]float64, len(result))
	below := make([]float64, len(steps)) // the sum of the series so far
	highest := 1.0
	for n, series := range result {
		values[n] = make([]float64, len(steps))
		for _, sample := range series.Values {
			if i := slices.Index(steps, sample[0].(float64)); i >= 0 {
				values[n][i] = number(sample)
				below[i] += number(sample)
				highest = max(highest, below[i])
			}
		}
	}
	top := math.Ceil(highest/5) * 5
	clear(below)
	x := func(i int) float64 { return width * float64(i) / float64(len(steps)-1) }
	y := func(value float64) float64 { return height * (1 - value/top) }
	for n, series := range result {
		stairs := func() (points []string) {
			for i, value := range below {
				if i > 0 {
					points = append(points, fmt.Sprintf("%.0f,%.0f", x(i), y(below[i-1])))
				}
				points = append(points, fmt.Sprintf("%.0f,%.0f", x(i), y(value)))
			}
			return points
		}
		down := stairs()
		slices.Reverse(down)
		for i := range below {
			below[i] += values[n][i]
		}
		up := stairs()
		name := series.Metric[strings.Trim(b.Targets[0].LegendFormat, "{}")]
		b.Areas = append(b.Areas, area{
			Name: name, Colour: b.colour(name), Points: strings.Join(append(up, down...), " "),
			Last: fmt.Sprint(values[n][len(steps)-1]), Max: fmt.Sprint(slices.Max(values[n])),
		})
	}
	for n := 5.0; n >= 0; n-- {
		b.Scale = append(b.Scale, fmt.Sprint(top*n/5))
	}
	for n := range 5 {
		b.Times = append(b.Times, end.Add(-shown*time.Duration(4-n)/4).UTC().Format("15:04"))
	}
}

// colour returns the colour of a series.
func (b *box) colour(series string) string {
	for _, o := range b.FieldConfig.Overrides {
		for _, property := range o.Properties {
			var value struct{ FixedColor string }
			if o.Matcher.Options == series && property.ID == "color" && json.Unmarshal(property.Value, &value) == nil {
				return colours[value.FixedColor]
			}
		}
	}
	return colours["blue"]
}

// html returns the drawing as a document.
func (d drawing) html(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	if err := template.Must(template.New("dashboard").Funcs(template.FuncMap{
		"css":   func(s string) template.CSS { return template.CSS(s) },
		"place": func(at, length int) template.CSS { return template.CSS(fmt.Sprintf("%d / span %d", at+1, length)) },
	}).Parse(dashboardTemplate)).Execute(&text, d); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
