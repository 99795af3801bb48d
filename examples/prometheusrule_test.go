package examples

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	rulesFile          = "../alerts/listen_exporter.rules.yml"
	prometheusRuleFile = "kubernetes/prometheus-operator/prometheusrule.yaml"
)

var update = flag.Bool("update", false, "write "+prometheusRuleFile+" anew")

// TestThePrometheusRuleIsTheRuleFile holds the object, from its spec on, equal to the rules that it is made of. After a change
// of these: go test ./examples -run PrometheusRule -update.
func TestThePrometheusRuleIsTheRuleFile(t *testing.T) {
	head, _, found := strings.Cut(read(t, prometheusRuleFile), "\nspec:\n")
	_, groups, foundGroups := strings.Cut(read(t, rulesFile), "\ngroups:\n")
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
	if diff := cmp.Diff(want.String(), read(t, prometheusRuleFile)); diff != "" {
		t.Errorf("%s is not %s: -want +got:\n%s", prometheusRuleFile, rulesFile, diff)
	}
}
