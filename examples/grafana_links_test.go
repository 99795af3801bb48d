//go:build linux

package examples

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/grafana"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// TestColumnsAndOverridesAreOfFieldsThatExist: Grafana ignores a name that no field has.
func TestColumnsAndOverridesAreOfFieldsThatExist(t *testing.T) {
	grouped := regexp.MustCompile(`^(?:(?:topk|bottomk)\(\d+, )?(?:1000 \* \()?(?:max|count) by \(([^)]*)\)`)
	for p := range panels(t) {
		fields := make(map[string]bool)
		for _, q := range p.Targets {
			fields[q.LegendFormat] = true
			if values := legendValues[q.LegendFormat]; values != nil {
				for _, value := range values {
					fields[value] = true
				}
			}
		}
		if p.Type == "table" {
			found := grouped.FindStringSubmatch(p.Targets[0].Expr)
			if found == nil || len(p.Transformations) != 1 || p.Transformations[0].ID != "organize" {
				t.Errorf("%q: the columns of %s are unknown, or not organized", p.Title, p.Targets[0].Expr)
				continue
			}
			names := p.Transformations[0].Options.RenameByName
			columns := slices.Sorted(maps.Keys(names))
			labels := slices.Sorted(slices.Values(strings.Split(found[1], ", ")))
			if diff := cmp.Diff(labels, slices.DeleteFunc(columns, func(c string) bool { return c == "Value" })); diff != "" {
				t.Errorf("%q, -labels of the answer +columns:\n%s", p.Title, diff)
			}
			for _, name := range names {
				fields[name] = true
			}
		}
		for _, o := range p.FieldConfig.Overrides {
			if o.Matcher.ID != "byName" || !fields[o.Matcher.Options] {
				t.Errorf("%q: an override is for %q", p.Title, o.Matcher.Options)
			}
		}
	}
}

// legendValues are the values of legends that are a label with few values.
var legendValues = map[string][]string{
	"{{scope}}":  {"any", "public", "private", "link-local", "loopback", "multicast"},
	"{{reason}}": {"unregistered", "reserved", "bind", "process"},
}

// TestLinksLeadSomewhere looks up the anchors of runbook links, and the variables in addresses.
func TestLinksLeadSomewhere(t *testing.T) {
	const runbook = "https://github.com/listen-exporter/listen_exporter/blob/main/alerts/README.md"
	known := []string{"datasource:queryparam", "job:queryparam", "instance:queryparam", "netns:queryparam", "__url_time_range", "__value.raw", "__field.labels.instance"}
	headings := regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(tools.Read(t, "../alerts/README.md"), -1)
	var alerts []string
	for _, heading := range headings {
		alerts = append(alerts, strings.ToLower(heading[1]))
	}
	// A link to a dashboard passes on or sets variables that it has.
	variables := make(map[string][]string)
	for _, d := range grafana.Dashboards(t) {
		for _, v := range d.Templating.List {
			variables["/d/"+d.UID] = append(variables["/d/"+d.UID], v.Name)
		}
	}
	check := func(where string, links []grafana.Link) {
		for _, l := range links {
			address, anchor, found := strings.Cut(l.URL, "#")
			if found && (address != runbook || !slices.Contains(alerts, anchor) || !strings.EqualFold(l.Title, "Runbook: "+anchor)) {
				t.Errorf("%s: the link %+v leads to no alert of the runbook", where, l)
			}
			for _, name := range regexp.MustCompile(`\${([^}]*)}`).FindAllStringSubmatch(l.URL, -1) {
				if !slices.Contains(known, name[1]) {
					t.Errorf("%s: the test does not know %s in %s", where, name[0], l.URL)
				}
			}
			dashboard, query, _ := strings.Cut(l.URL, "?")
			for _, name := range regexp.MustCompile(`(\w+):queryparam|var-(\w+)=`).FindAllStringSubmatch(query, -1) {
				if !slices.Contains(variables[dashboard], name[1]+name[2]) {
					t.Errorf("%s: the dashboard of %s has no variable %s", where, l.URL, name[0])
				}
			}
			if !strings.HasPrefix(address, runbook) && !strings.HasPrefix(address, "http://${") && (variables[dashboard] == nil || query == "") {
				t.Errorf("%s: the link leads to %s", where, l.URL)
			}
		}
	}
	for _, d := range grafana.Dashboards(t) {
		check(d.Title, d.Links)
		if !slices.ContainsFunc(d.Links, func(l grafana.Link) bool { return strings.HasPrefix(l.URL, "/d/") }) {
			t.Errorf("%s has no link to the other dashboard", d.Title)
		}
	}
	for p := range panels(t) {
		check(p.Title, p.Links)
		check(p.Title, p.FieldConfig.Defaults.Links)
		for _, o := range p.FieldConfig.Overrides {
			for _, property := range o.Properties {
				var links []grafana.Link
				if property.ID == "links" {
					if err := json.Unmarshal(property.Value, &links); err != nil {
						t.Errorf("%q: %v", p.Title, err)
					}
				}
				check(p.Title, links)
			}
		}
	}
}
