//go:build linux

package prometheus

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// content is a page, or what a server made of one.
type content struct {
	series   map[string]float64 // by name and labels
	families map[string]string  // type and help, by name
}

func newContent() content { return content{make(map[string]float64), make(map[string]string)} }

// steady are the metrics whose values two scrapes in a row agree in. Of the others only the series are compared.
var steady = regexp.MustCompile(`^(host_listen|listen_exporter)_`)

// moving are those of them that a scrape changes.
var moving = regexp.MustCompile(`^host_listen_(time_seconds|collector_duration_seconds|watch_interval_seconds)$`)

// add adds a sample. Labels that servers add of their own are left out.
func (c content) add(name string, labels map[string]string, value float64) {
	var series strings.Builder
	series.WriteString(name)
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		value := labels[label]
		if q, err := strconv.ParseFloat(value, 64); label == "quantile" && err == nil {
			value = strconv.FormatFloat(q, 'g', -1, 64) // some write 1 as 1.0
		}
		if label != "__name__" && label != "job" && label != "instance" && value != "" {
			fmt.Fprintf(&series, " %s=%q", label, value)
		}
	}
	if !steady.MatchString(name) || moving.MatchString(name) {
		value = 0
	}
	c.series[series.String()] = value
}

// addSummary adds the samples that a summary has in a text.
func (c content) addSummary(name string, labels map[string]string, quantiles []float64) {
	for _, q := range quantiles {
		with := maps.Clone(labels)
		with["quantile"] = strconv.FormatFloat(q, 'g', -1, 64)
		c.add(name, with, 0)
	}
	c.add(name+"_sum", labels, 0)
	c.add(name+"_count", labels, 0)
}

// compare returns an error unless the server has every series of the page with its value, every family with its type and help, and
// nothing else.
func (c content) compare(page content) error {
	about := gocmp.Comparer(func(a, b float64) bool { return a == b || math.Abs(a-b) < 1e-9*math.Abs(a) })
	if diff := gocmp.Diff(page.series, c.series, about); diff != "" {
		return fmt.Errorf("series (-page +server):\n%s", diff)
	}
	if diff := gocmp.Diff(page.families, c.families); diff != "" {
		return fmt.Errorf("types and help (-page +server):\n%s", diff)
	}
	return nil
}

// parse returns the content of a page.
func parse(t *testing.T, page string) content {
	t.Helper()
	parsed, err := host.ParsePage(page)
	if err != nil {
		t.Fatal(err)
	}
	all := newContent()
	for name, f := range parsed {
		all.families[name] = strings.ToLower(f.GetType().String()) + ": " + f.GetHelp()
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, label := range m.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			switch f.GetType() {
			case dto.MetricType_GAUGE, dto.MetricType_COUNTER:
				all.add(name, labels, m.GetGauge().GetValue()+m.GetCounter().GetValue())
			case dto.MetricType_SUMMARY:
				var quantiles []float64
				for _, q := range m.GetSummary().GetQuantile() {
					quantiles = append(quantiles, q.GetQuantile())
				}
				all.addSummary(name, labels, quantiles)
			default:
				t.Fatalf("%s is a %s, which this test does not know yet", name, f.GetType())
			}
		}
	}
	return all
}

// ofJob returns what the server has stored of the last scrape of a job.
func ofJob(job string) (content, error) {
	all := newContent()
	series, err := query(`{job="` + job + `", __name__!~"up|scrape_.+"}`)
	if err != nil {
		return all, err
	}
	for _, s := range series {
		value, err := strconv.ParseFloat(s.value, 64)
		if err != nil {
			return all, err
		}
		all.add(s.labels["__name__"], s.labels, value)
	}
	answer, err := host.Get("http://" + prometheusAddress + "/api/v1/metadata?" + url.Values{"limit": {"10000"}}.Encode())
	if err != nil {
		return all, err
	}
	var metadata struct {
		Data map[string][]struct{ Type, Help string }
	}
	if err := json.Unmarshal([]byte(answer), &metadata); err != nil {
		return all, err
	}
	for name, found := range metadata.Data {
		for _, m := range found { // more than one where jobs do not agree; some have a unit only in protobuf
			if said := m.Type + ": " + m.Help; all.families[name] != said {
				all.families[name] += said
			}
		}
	}
	return all, nil
}
