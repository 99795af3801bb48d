//go:build linux

package examples

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// TestAFleetIsNotDrawnListenerByListener: 5 000 hosts with 60 listeners each are 300 000 series. No answer may have as many,
// and no graph may ask for all of them at hundreds of points: Prometheus refuses to load more than 50 million samples.
func TestAFleetIsNotDrawnListenerByListener(t *testing.T) {
	ranked := regexp.MustCompile(`^(?:topk|bottomk)\((?:10|20|100|200|500|1000), `)
	grouped := regexp.MustCompile(`^(?:sum|count|avg|max)(?: by \(([^)]*)\) )?\(`)
	perListener := regexp.MustCompile(`\bhost_listen_(?:port|port_sockets|port_registered|port_holder_info|port_drops_total|port_receive_\w+|port_accept_\w+|service_up)\{`)
	few := []string{"alertname", "collector", "process", "proto", "port", "reason", "scope", "service_name", "source", "version"}
	for p, q := range queries(t) {
		if found := grouped.FindStringSubmatch(q.Expr); found != nil {
			for label := range strings.SplitSeq(found[1], ", ") {
				if label != "" && !slices.Contains(few, label) {
					t.Errorf("%q: %s groups by %s, which has as many values as the fleet has hosts", p.Title, q.Expr, label)
				}
			}
		} else if !ranked.MatchString(q.Expr) {
			t.Errorf("%q: %s neither ranks nor groups", p.Title, q.Expr)
		}
		if q.Range && perListener.MatchString(q.Expr) && (p.MaxDataPoints == 0 || p.MaxDataPoints > 60) {
			t.Errorf("%q reads every listener at %d points (0: as many as it is wide)", p.Title, p.MaxDataPoints)
		}
	}
}

// TestTheDashboardsKnowEveryAlert compares the alerts in its queries with the rules.
func TestTheDashboardsKnowEveryAlert(t *testing.T) {
	var want []string
	for _, found := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(tools.Read(t, rulesFile), -1) {
		want = append(want, found[1])
	}
	slices.Sort(want)
	for p, q := range queries(t) {
		found := regexp.MustCompile(`ALERTS{.*alertname=~"([^"]*)"`).FindStringSubmatch(q.Expr)
		if found == nil {
			continue
		}
		if diff := cmp.Diff(want, slices.Sorted(slices.Values(strings.Split(found[1], "|")))); diff != "" {
			t.Errorf("%q, -rules +dashboard:\n%s", p.Title, diff)
		}
	}
}
