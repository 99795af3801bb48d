//go:build linux

package host

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Page is a metrics page, by metric name.
type Page map[string]*dto.MetricFamily

// Scrape fetches a metrics page.
func Scrape(url string) (Page, error) {
	text, err := Get(url)
	if err != nil {
		return nil, err
	}
	return ParsePage(text)
}

// ParsePage parses a metrics page. It fails if a Prometheus registry would: two series with the same labels are an error, and so are
// two families with the same name. It fails, too, unless the families of the listeners are byte for byte what promhttp would write.
func ParsePage(text string) (Page, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	page, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, family := range page {
		for _, m := range family.GetMetric() { // Prometheus drops empty labels
			m.Label = slices.DeleteFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == "" })
		}
	}
	families, err := prometheus.Gatherers{prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		return slices.Collect(maps.Values(page)), nil
	})}.Gather()
	if err != nil {
		return nil, err
	}
	var want strings.Builder
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "host_listen_") {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(&want, family); err != nil {
			return nil, err
		}
	}
	if !strings.Contains(text, want.String()) {
		return nil, fmt.Errorf("the page is not what promhttp would write: want a page with\n%s\ngot\n%s", want.String(), text)
	}
	return page, nil
}

// Rows returns a sorted line for each series of a metric: the values of these labels, - for an empty one, and its own value.
func (p Page) Rows(metric string, labels ...string) []string {
	var rows []string
	for _, m := range p[metric].GetMetric() {
		var row []string
		for _, name := range labels {
			value := "-"
			for _, label := range m.GetLabel() {
				if label.GetName() == name && label.GetValue() != "" {
					value = label.GetValue()
				}
			}
			row = append(row, value)
		}
		value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		rows = append(rows, strings.Join(append(row, strconv.FormatFloat(value, 'g', -1, 64)), " "))
	}
	slices.Sort(rows)
	return rows
}

// Succeeds returns an error unless every collector does.
func (p Page) Succeeds() error {
	rows := p.Rows("host_listen_collector_success", "collector")
	if len(rows) == 0 || slices.ContainsFunc(rows, func(row string) bool { return !strings.HasSuffix(row, " 1") }) {
		return fmt.Errorf("host_listen_collector_success is %q", rows)
	}
	return nil
}

// Listeners returns what ss shows in the network namespace of the process, in the form of [Page.Rows]: proto, address, port,
// process if wanted, and 1.
func Listeners(process bool) ([]string, error) {
	arguments := "-Htuln"
	if process {
		arguments += "p"
	}
	output, err := Output(limit, "ss", arguments)
	var rows []string
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.HasSuffix(fields[5], ":*") {
			continue
		}
		colon := strings.LastIndexByte(fields[4], ':')
		address := strings.Trim(fields[4][:colon], "[]")
		if address == "*" { // a socket on :: that takes IPv4 too
			address = "::"
		}
		row := []string{fields[0], address, fields[4][colon+1:]}
		if process {
			row = append(row, strings.Split(line, `"`)[1])
		}
		rows = append(rows, strings.Join(append(row, "1"), " "))
	}
	slices.Sort(rows)
	return rows, err
}
