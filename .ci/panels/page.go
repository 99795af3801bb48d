package main

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The size of a cell of the dashboard's grid of 24 columns, and the gap between panels, in pixels.
const (
	cellWidth  = 62
	cellHeight = 38
	gap        = 8
)

// page is the dashboard as one HTML page.
func page(d *dashboard) string {
	var b strings.Builder
	height := 0
	for n := range d.Panels {
		p := &d.Panels[n]
		g := p.GridPos
		height = max(height, (g.Y+g.H)*cellHeight)
		class := "panel"
		if p.Type == "row" {
			class = "row"
		}
		width, tall := g.W*cellWidth-gap, g.H*cellHeight-gap
		fmt.Fprintf(&b, "<div class=%q style='left:%dpx;top:%dpx;width:%dpx;height:%dpx' title='%s'><h2>%s</h2>%s</div>\n",
			class, g.X*cellWidth, g.Y*cellHeight, width, tall, html.EscapeString(p.Description), html.EscapeString(p.Title), p.body(width-16, tall-34))
	}
	return fmt.Sprintf(`<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>%s</title><style>
body{margin:8px;background:#f4f5f5;font:12px/1.4 sans-serif;color:#24292e}
.board{position:relative;width:%dpx;height:%dpx}
.panel{position:absolute;background:#fff;border:1px solid #d8d9da;box-sizing:border-box;padding:4px 8px;overflow:hidden}
.row{position:absolute}.row h2{font-size:15px}
h2{font-size:13px;margin:0 0 4px;font-weight:600;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
table{border-collapse:collapse;width:100%%}td,th{text-align:left;padding:2px 6px;border-bottom:1px solid #e7e7e7;white-space:nowrap}
.big{font-size:34px;font-weight:600;text-align:center;line-height:80px}.none{text-align:center;color:#777;line-height:60px}
i{display:inline-block;width:14px;height:4px;margin-right:6px;vertical-align:middle}.num{text-align:right}
.bar{height:16px}.error{color:#c4162a}
</style><div class="board">%s</div></html>`, html.EscapeString(d.Title), 24*cellWidth, height, b.String())
}

func (p *panel) body(width, height int) string {
	total := 0
	for _, a := range p.answers {
		if a.err != nil {
			return "<p class=error>" + html.EscapeString(a.err.Error()) + "</p>"
		}
		total += len(a.series)
	}
	if total == 0 && p.Type != "row" {
		return "<p class=none>" + html.EscapeString(cmp.Or(p.FieldConfig.Defaults.NoValue, "No data")) + "</p>"
	}
	switch p.Type {
	case "stat":
		v := p.answers[0].series[0].last()
		d := p.FieldConfig.Defaults
		return fmt.Sprintf("<p class=big style='margin:0;color:%s'>%s</p>", d.Thresholds.color(v), format(v, d.Unit, d.Decimals))
	case "bargauge":
		return p.bars(width)
	case "table":
		return p.table()
	case "timeseries":
		return p.graph(width, height)
	}
	return ""
}

func (p *panel) bars(width int) string {
	var b strings.Builder
	d := p.FieldConfig.Defaults
	all := p.answers[0].series
	top := 0.0
	for _, s := range all {
		top = max(top, s.last())
	}
	if d.Max != nil {
		top = *d.Max
	}
	b.WriteString("<table>")
	for _, s := range all {
		fmt.Fprintf(&b, "<tr><td>%s<td style='width:60%%'><div class=bar style='width:%.0fpx;background:%s'></div><td class=num>%s", html.EscapeString(p.answers[0].target.legend(s.labels)),
			float64(width)*0.6*s.last()/max(top, math.SmallestNonzeroFloat64), d.Thresholds.color(s.last()), format(s.last(), d.Unit, d.Decimals))
	}
	return b.String() + "</table>"
}

// table has the columns that the transformation "organize" leaves over, in its order and with its names.
func (p *panel) table() string {
	organize := transformation{}
	for _, t := range p.Transformations {
		if t.ID == "organize" {
			organize = t
		}
	}
	o := organize.Options
	var columns []string
	for name := range maps.Keys(o.RenameByName) {
		if !o.ExcludeByName[name] {
			columns = append(columns, name)
		}
	}
	slices.SortFunc(columns, func(a, b string) int { return cmp.Compare(o.IndexByName[a], o.IndexByName[b]) })
	all := p.answers[0].series
	key := func(s series, name string) string {
		if name == "Value" {
			return fmt.Sprintf("%030.6f", s.last())
		}
		if n, err := strconv.Atoi(s.labels[name]); err == nil {
			return fmt.Sprintf("%030d", n)
		}
		return s.labels[name]
	}
	for _, by := range p.Options.SortBy {
		for name, shown := range o.RenameByName {
			if shown != by.DisplayName {
				continue
			}
			slices.SortStableFunc(all, func(a, b series) int {
				order := cmp.Compare(key(a, name), key(b, name))
				if by.Desc {
					return -order
				}
				return order
			})
		}
	}
	var b strings.Builder
	b.WriteString("<table><tr>")
	for _, name := range columns {
		b.WriteString("<th>" + html.EscapeString(o.RenameByName[name]))
	}
	for _, s := range all {
		b.WriteString("<tr>")
		for _, name := range columns {
			if name != "Value" {
				b.WriteString("<td>" + html.EscapeString(s.labels[name]))
				continue
			}
			unit := p.FieldConfig.Defaults.Unit
			p.overridden(o.RenameByName["Value"], "unit", &unit)
			fmt.Fprintf(&b, "<td style='color:%s'>%s", p.FieldConfig.Defaults.Thresholds.color(s.last()), format(s.last(), unit, nil))
		}
	}
	return b.String() + "</table>"
}

var legendLabel = regexp.MustCompile(`{{(\w+)}}`)

// legend is the name of a series.
func (t target) legend(labels map[string]string) string {
	return legendLabel.ReplaceAllStringFunc(t.LegendFormat, func(name string) string { return labels[strings.Trim(name, "{}")] })
}

// format writes a value in one of Grafana's units.
func format(v float64, unit string, decimals *int) string {
	digits := func(v float64) string {
		places := 2
		if math.Abs(v) >= 100 || v == math.Trunc(v) {
			places = 0
		}
		if decimals != nil {
			places = *decimals
		}
		return strconv.FormatFloat(v, 'f', places, 64)
	}
	switch unit {
	case "percentunit":
		return digits(100*v) + "%"
	case "dateTimeAsIso":
		return time.UnixMilli(int64(v)).UTC().Format(time.DateTime)
	case "pps":
		return digits(v) + " p/s"
	case "bytes":
		return scaled(v, digits, 1024, " B", " KiB", " MiB", " GiB")
	case "s":
		switch {
		case v == 0:
			return "0 s"
		case v < 1e-3:
			return digits(v*1e6) + " µs"
		case v < 1:
			return digits(v*1e3) + " ms"
		case v >= 3600:
			return digits(v/3600) + " hour"
		case v >= 60:
			return digits(v/60) + " min"
		}
		return digits(v) + " s"
	}
	return digits(v)
}

func scaled(v float64, digits func(float64) string, base float64, units ...string) string {
	n := 0
	for ; math.Abs(v) >= base && n < len(units)-1; n++ {
		v /= base
	}
	return digits(v) + units[n]
}
