//go:build linux

package examples

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	rulesFile          = "../alerts/listen_exporter.rules.yml"
	prometheusRuleFile = "kubernetes/prometheus-operator/prometheusrule.yaml"
)

var update = flag.Bool("update", false, "rewrite "+prometheusRuleFile)

// TestThePrometheusRuleIsTheRuleFile compares the object's spec with the rules. After a change of the rules, run
// go test ./examples -run PrometheusRule -update.
func TestThePrometheusRuleIsTheRuleFile(t *testing.T) {
	head, _, found := strings.Cut(tools.Read(t, prometheusRuleFile), "\nspec:\n")
	_, groups, foundGroups := strings.Cut(tools.Read(t, rulesFile), "\ngroups:\n")
	if !found || !foundGroups {
		t.Fatalf("no spec in %s, or no groups in %s", prometheusRuleFile, rulesFile)
	}
	var want strings.Builder
	want.WriteString(head + "\nspec:\n  groups:\n")
	for line := range strings.Lines(groups) {
		if strings.TrimSpace(line) != "" {
			want.WriteString("  ")
		}
		want.WriteString(line)
	}
	if *update {
		if err := os.WriteFile(prometheusRuleFile, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want.String(), tools.Read(t, prometheusRuleFile)); diff != "" {
		t.Errorf("%s is not %s: -want +got:\n%s", prometheusRuleFile, rulesFile, diff)
	}
}
