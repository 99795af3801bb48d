package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"time"
)

// line is one series of a graph.
type line struct {
	name, color string
	negative    bool
	values      map[int64]float64
	last, most  float64
}

// lines returns the series of all queries, with their names and colours.
func (p *panel) lines() []line {
	var all []line
	for _, a := range p.answers {
		for _, s := range a.series {
			l := line{name: a.target.legend(s.labels), color: palette[len(all)%len(palette)], values: make(map[int64]float64), last: s.last(), most: math.Inf(-1)}
			var chosen struct{ FixedColor string }
			if p.overridden(l.name, "color", &chosen) {
				l.color = colors[chosen.FixedColor]
			}
			var transform string
			l.negative = p.overridden(l.name, "custom.transform", &transform) && transform == "negative-Y"
			for _, point := range s.points {
				l.values[point.at] = point.value
				l.most = max(l.most, point.value)
			}
			all = append(all, l)
		}
	}
	return all
}

// graph draws the lines of a time series, and its legend as a table below.
func (p *panel) graph(width, height int) string {
	all := p.lines()
	d := p.FieldConfig.Defaults
	legend := min(len(all), 5)*20 + 22
	height -= legend
	const left, bottom = 56, 18
	var times []int64
	for _, l := range all {
		for at := range l.values {
			times = append(times, at)
		}
	}
	slices.Sort(times)
	times = slices.Compact(times)
	stacked := d.Custom.Stacking.Mode == "normal"
	low, high := p.limits(all, times, stacked)
	x := func(at int64) float64 {
		return left + float64(at-p.from)/float64(p.to-p.from)*float64(width-left)
	}
	y := func(v float64) float64 { return float64(height-bottom) * (high - v) / (high - low) }

	var b strings.Builder
	fmt.Fprintf(&b, "<svg width='%d' height='%d' font-size='11' fill='#666'>", width, height)
	for n := range 4 {
		v := low + (high-low)*float64(n)/3
		fmt.Fprintf(&b, "<path d='M%d %.1fH%d' stroke='#e3e3e3'/><text x='%d' y='%.1f' text-anchor='end'>%s</text>", left, y(v), width, left-4, max(10, y(v)+4), format(v, d.Unit, d.Decimals))
		at := p.from + (p.to-p.from)*int64(n)/4
		fmt.Fprintf(&b, "<text x='%.1f' y='%d'>%s</text>", x(at), height-4, time.Unix(at, 0).UTC().Format(time.TimeOnly))
	}
	base := make(map[int64]float64)
	for _, l := range all {
		p.draw(&b, l, times, base, stacked, x, y)
	}
	if d.Custom.ThresholdsStyle.Mode != "off" {
		for _, s := range d.Thresholds.Steps {
			if s.Value != nil && *s.Value <= high {
				fmt.Fprintf(&b, "<path d='M%d %.1fH%d' stroke='%s' stroke-dasharray='6 4'/>", left, y(*s.Value), width, colors[s.Color])
			}
		}
	}
	b.WriteString("</svg><table><tr><th>Name<th class=num>Last *<th class=num>Max")
	slices.SortStableFunc(all, func(a, b line) int {
		switch {
		case a.most > b.most:
			return -1
		case a.most < b.most:
			return 1
		}
		return 0
	})
	for _, l := range all {
		fmt.Fprintf(&b, "<tr><td><i style='background:%s'></i>%s<td class=num>%s<td class=num>%s", l.color, html.EscapeString(l.name), format(l.last, d.Unit, d.Decimals), format(l.most, d.Unit, d.Decimals))
	}
	return b.String() + "</table>"
}

// limits are the smallest and the largest value that is drawn.
func (p *panel) limits(all []line, times []int64, stacked bool) (low, high float64) {
	for _, at := range times {
		sum := 0.0
		for _, l := range all {
			v := l.values[at]
			sum += v
			if l.negative {
				low = min(low, -v)
			} else {
				high = max(high, v)
			}
		}
		if stacked {
			high = max(high, sum)
		}
	}
	if high == low {
		high = low + 1
	}
	high *= 1.05
	if m := p.FieldConfig.Defaults.Max; m != nil {
		high = *m
	}
	return low, high
}

// scale turns a value into pixels.
type scale[T int64 | float64] func(T) float64

// draw draws one line, or the bars or the area of one series, above what is stacked below it.
func (p *panel) draw(b *strings.Builder, l line, times []int64, base map[int64]float64, stacked bool, x scale[int64], y scale[float64]) {
	custom := p.FieldConfig.Defaults.Custom
	if custom.DrawStyle == "bars" {
		wide := max(2, 0.4*(x(p.step)-x(0)))
		for at, v := range l.values {
			if l.negative {
				v = -v
			}
			fmt.Fprintf(b, "<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>", x(at)-wide/2, min(y(v), y(0)), wide, math.Abs(y(v)-y(0)), l.color)
		}
		return
	}
	var path, under strings.Builder
	drawing, previous := false, 0.0
	for _, at := range times {
		v, found := l.values[at]
		if !found {
			drawing = false
			continue
		}
		below := base[at]
		if stacked {
			v += below
			base[at] = v
		}
		switch {
		case !drawing:
			fmt.Fprintf(&path, "M%.1f %.1fh2", x(at), y(v))
		case custom.LineInterpolation == "stepAfter":
			fmt.Fprintf(&path, "L%.1f %.1fL%.1f %.1f", x(at), y(previous), x(at), y(v))
		default:
			fmt.Fprintf(&path, "L%.1f %.1f", x(at), y(v))
		}
		drawing, previous = true, v
		fmt.Fprintf(&under, "<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f'/>", x(at), y(v), x(p.step)-x(0)+0.3, max(0, y(below)-y(v)))
	}
	fmt.Fprintf(b, "<g fill='%s' fill-opacity='%.2f'>%s</g><path d='%s' fill='none' stroke='%s' stroke-width='1.5'/>",
		l.color, float64(custom.FillOpacity)/100, under.String(), path.String(), l.color)
}
