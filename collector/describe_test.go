//go:build linux

package collector

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

var descForm = regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`)

// parts returns the name and the labels of a description.
func parts(d *prometheus.Desc) (name string, labels []string) {
	match := descForm.FindStringSubmatch(d.String())
	return match[1], strings.FieldsFunc(match[2], func(r rune) bool { return r == ',' })
}

// described returns the labels of each family that a collector describes.
func described(c prometheus.Collector) map[string][]string {
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); c.Describe(descs) }()
	families := make(map[string][]string)
	for d := range descs {
		name, labels := parts(d)
		families[name] = labels
	}
	return families
}

func TestWhatIsCollectedIsDescribed(t *testing.T) {
	for _, snapshot := range []func() *inventory.Snapshot{example, judgedExample, leasedExample} {
		c := newCollector(snapshot)
		families := described(c)
		metrics := make(chan prometheus.Metric)
		go func() { defer close(metrics); c.Collect(metrics) }()
		for metric := range metrics {
			name, labels := parts(metric.Desc())
			for _, label := range labels {
				if !slices.Contains(families[name], label) {
					t.Errorf("%s has the label %s: only %v are described", name, label, families[name])
				}
			}
		}
	}
}

func TestCollectorsOfOneFamilyEachAreTheCollector(t *testing.T) {
	c := newCollector(judgedExample)
	all := described(c)
	for _, one := range c.ByFamily() {
		family := described(one)
		if len(family) != 1 {
			t.Errorf("one collector describes %v", family)
		}
		for name := range family {
			delete(all, name)
		}
	}
	if len(all) > 0 {
		t.Errorf("no collector describes %v", all)
	}
}

func TestCollectWaitsForLessThanAScrapeTimeout(t *testing.T) {
	c := New(func(ctx context.Context) *inventory.Snapshot {
		if deadline, has := ctx.Deadline(); !has || time.Until(deadline) > 10*time.Second {
			t.Errorf("the deadline of the snapshot is %v", deadline)
		}
		return new(inventory.Snapshot)
	}, nil)
	metrics := make(chan prometheus.Metric, 100)
	c.Collect(metrics)
}
