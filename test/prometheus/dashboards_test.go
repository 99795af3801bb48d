//go:build linux

package prometheus

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/grafana"
	"github.com/listen-exporter/listen_exporter/test/host"
)

// checkDashboards runs each query of the dashboards and of their variables, as Grafana does when the user has chosen nothing.
func checkDashboards(t *testing.T) {
	for _, d := range grafana.Dashboards(t) {
		answered := make(map[string]bool)
		for p, q := range d.Queries() {
			expr := grafana.Interpolate(t, q.Expr, grafana.Everything, "3600", "1m")
			// VictoriaMetrics would round the times to steps, before the first scrape.
			parameters := url.Values{"query": {expr}, "nocache": {"1"}}
			path := "query?"
			if q.Range {
				end := time.Now().Unix() + 1 // whole seconds: the first scrape may be of this one
				path = "query_range?"
				parameters.Add("start", fmt.Sprint(end-3600))
				parameters.Add("end", fmt.Sprint(end))
				parameters.Add("step", "60")
			}
			var data struct{ Result []any }
			if err := ask(path+parameters.Encode(), &data); err != nil {
				t.Errorf("%s, %q: %v", d.Title, p.Title, err)
			}
			answered[p.Title] = answered[p.Title] || len(data.Result) > 0
		}
		// The others need what goes wrong, time to pass, or a registry; the tests of the examples have that.
		for _, title := range map[string][]string{
			"listen-exporter": {
				"Hosts down", "Gone ports", "Flapping ports", "Queues full or losing", "Reachable from outside", "Listeners by scope", "Listeners",
				"Ports on the most hosts", "Listening now", "Programs",
			},
			"listen-exporter-health": {
				"Hosts up", "Failed reads", "Versions and sources", "Hosts up and down", "Duration of a read", "Interval between looks",
				"Resident memory", "Samples of a scrape",
			},
		}[d.UID] {
			if !answered[title] {
				t.Errorf("%s, %q has no answer", d.Title, title)
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				checkVariable(t, d, v)
			}
		}
	}
}

// checkVariable asks for the values of a variable, and what they are for a host with two programs that listen.
func checkVariable(t *testing.T, d *grafana.Dashboard, v grafana.Variable) {
	t.Helper()
	definition := grafana.Interpolate(t, v.Definition, grafana.Everything, "3600", "1m")
	var values []string
	if found := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(definition); found != nil {
		if err := ask("label/"+found[2]+"/values?"+url.Values{"match[]": {found[1]}}.Encode(), &values); err != nil {
			t.Errorf("%s, variable %s: %v", d.Title, v.Name, err)
		}
	} else {
		expr := strings.TrimSuffix(strings.TrimPrefix(definition, "query_result("), ")")
		series, err := query(expr)
		if err != nil {
			t.Errorf("%s, variable %s: %v", d.Title, v.Name, err)
		}
		// Grafana writes each series as text, from which the expression takes what is shown and what is chosen. JavaScript calls
		// groups in another way.
		expression := regexp.MustCompile(strings.ReplaceAll(strings.Trim(v.Regex, "/"), "(?<", "(?P<"))
		for _, s := range series {
			var labels []string
			for _, name := range slices.Sorted(maps.Keys(s.labels)) {
				labels = append(labels, fmt.Sprintf("%s=%q", name, s.labels[name]))
			}
			for _, found := range expression.FindAllStringSubmatch(strings.Join(labels, ", "), -1) {
				values = append(values, found[1]+": "+found[2])
			}
		}
		slices.Sort(values)
	}
	for name, want := range map[string]string{"job": "default", "netns": "all: .*", "port": "7001", "process": "prometheus.test"} {
		if v.Name == name && !slices.Contains(values, want) {
			t.Errorf("%s: the values of the variable %s are %q, without %q", d.Title, v.Name, values, want)
		}
	}
	if v.Name == "netns" && !slices.Contains(values, "main: "+grafana.Everything[v.Name]) {
		t.Errorf("%s: the values of the variable %s are %q", d.Title, v.Name, values)
	}
}

// ask decodes the data of an answer of Prometheus.
func ask(path string, data any) error {
	answer, err := host.Get("http://" + prometheusAddress + "/api/v1/" + path)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(answer), &struct{ Data any }{data})
}
