package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// dashboard is as much of Grafana's JSON as is drawn.
type dashboard struct {
	Title  string
	Panels []panel
}

type panel struct {
	Type, Title, Description, Interval string
	MaxDataPoints                      int
	GridPos                            struct{ X, Y, W, H int }
	FieldConfig                        struct {
		Defaults  field
		Overrides []override
	}
	Transformations []transformation
	Targets         []target
	Options         struct {
		SortBy []struct {
			DisplayName string
			Desc        bool
		}
	}

	answers        []answer
	from, to, step int64
}

type target struct {
	RefID, Expr, LegendFormat string
	Instant                   bool
}

// answer is what Prometheus said to a target.
type answer struct {
	target target
	series []series
	err    error
}

type field struct {
	Unit, NoValue string
	Decimals      *int
	Min, Max      *float64
	Thresholds    thresholds
	Custom        struct {
		DrawStyle, LineInterpolation string
		FillOpacity                  int
		Stacking                     struct{ Mode string }
		ThresholdsStyle              struct{ Mode string }
	}
}

type thresholds struct{ Steps []step }

type step struct {
	Color string
	Value *float64
}

// color is that of the highest step that a value has reached.
func (t thresholds) color(v float64) string {
	name := "text"
	for _, s := range t.Steps {
		if s.Value == nil || v >= *s.Value {
			name = s.Color
		}
	}
	return colors[name]
}

type override struct {
	Matcher    struct{ ID, Options string }
	Properties []struct {
		ID    string
		Value json.RawMessage
	}
}

type transformation struct {
	ID      string
	Options struct {
		ExcludeByName map[string]bool
		IndexByName   map[string]int
		RenameByName  map[string]string
	}
}

// overridden decodes a property that the dashboard sets for the field of this name.
func (p *panel) overridden(name, property string, into any) bool {
	for _, o := range p.FieldConfig.Overrides {
		for _, prop := range o.Properties {
			if o.Matcher.ID == "byName" && o.Matcher.Options == name && prop.ID == property {
				return json.Unmarshal(prop.Value, into) == nil
			}
		}
	}
	return false
}

func readDashboard(file string) (*dashboard, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := &dashboard{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// colors are Grafana's names, on a light page.
var colors = map[string]string{
	"green": "#37872d", "red": "#c4162a", "dark-red": "#7a0c18", "orange": "#e0700b", "yellow": "#c9a000", "blue": "#1f60c4",
	"purple": "#8f3bb8", "text": "#24292e",
}

// palette is for lines whose colour is not chosen.
var palette = []string{
	"#37872d", "#e0b400", "#1f60c4", "#e0700b", "#c4162a", "#8f3bb8", "#3d9a9a", "#7a5c3a", "#5794f2", "#ff7383", "#96d98d", "#6d6d6d",
}
