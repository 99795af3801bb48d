//go:build linux

package helm

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

var update = flag.Bool("update", false, "copy into the chart what it has of the repository")

// TestTheChartIsTheOverlays compares the shapes of the chart with the overlays, object for object. A namespace is the one thing
// that only an overlay has: Helm wants it before it installs.
func TestTheChartIsTheOverlays(t *testing.T) {
	registry := "--set-file=registry.ports=" + registryFile
	for dir, arguments := range map[string][]string{
		"overlays/plain":                  nil,
		"overlays/registry":               {registry},
		"overlays/process-names":          {"--set=shape=process-names"},
		"overlays/registry-process-names": {registry, "--set=shape=process-names"},
		"overlays/events":                 {"--set=shape=events"},
		"overlays/events-process-names":   {"--set=shape=events-process-names"},
	} {
		t.Run(dir, func(t *testing.T) {
			want := kustomize(t, dir)
			got := withoutHelmsLabels(render(t, append(arguments, "--set=image.tag=latest")...))
			delete(want, "Namespace listen-exporter")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-overlay +chart:\n%s", diff)
			}
		})
	}
}

// rules is the file of the chart that rules.jsonnet makes.
const rules = "files/rules.yml"

// jsonnet returns what a file of jsonnet makes, as text.
func jsonnet(t *testing.T, arguments ...string) string {
	t.Helper()
	cmd := exec.Command(tools.Look(t, "jsonnet"), append([]string{"--string"}, arguments...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	return string(output)
}

func TestTheChartsRulesAreThoseOfTheMixin(t *testing.T) {
	if diff := cmp.Diff(jsonnet(t, "rules.jsonnet"), tools.Read(t, filepath.Join(chart, rules))); diff != "" {
		t.Errorf("%s differs from the mixin; make rules writes it: -mixin +file:\n%s", rules, diff)
	}
}

// TestAValueOfTheRulesIsAFieldOfTheMixin compares what both make of the same values. TestTheChartHasTheOtherExamples does so for the
// defaults.
func TestAValueOfTheRulesIsAFieldOfTheMixin(t *testing.T) {
	o := render(t, "--values="+valuesFile(t, `prometheusRule:
  enabled: true
  alertLabels: {team: net, severity: page}
  expectedPorts: {tcp: "22|25", udp: ""}
  clusterLabel: env
  replicaLabels: [a, b]
  runbookURL: https://wiki.example.org/ports
`))["PrometheusRule listen-exporter"]
	const config = `{
		alertLabels: { team: 'net', severity: 'page' }, expectedPorts: { tcp: '22|25', udp: '' }, clusterLabels: ['env'],
		replicaLabels: ['a', 'b'], runbookURLPattern: 'https://wiki.example.org/ports#%s',
	}`
	var want object
	if err := yaml.Unmarshal([]byte(jsonnet(t, "--tla-code", "config="+config, "../../alerts/rules.jsonnet")), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want["groups"], find(o, "spec", "groups")); diff != "" {
		t.Errorf("-mixin +chart:\n%s", diff)
	}
}

// TestTheChartHasTheOtherExamples compares what is off by default.
func TestTheChartHasTheOtherExamples(t *testing.T) {
	all := withoutHelmsLabels(render(t, everything...))
	for _, dir := range []string{"prometheus-operator", "policies"} {
		for name, want := range kustomize(t, dir) {
			if diff := cmp.Diff(want, all[name]); diff != "" {
				t.Errorf("%s of %s: -example +chart:\n%s", name, dir, diff)
			}
		}
	}
}

// TestTheChartsFilesAreCopies: helm reads no file outside a chart. make generate writes them.
func TestTheChartsFilesAreCopies(t *testing.T) {
	copies := map[string]string{
		"LICENSE":                              tools.Read(t, "../../LICENSE"),
		"files/policies/port-range.yaml":       tools.Read(t, kubernetes+"policies/port-range.yaml"),
		"files/policies/privileged-ports.yaml": tools.Read(t, kubernetes+"policies/privileged-ports.yaml"),
	}
	for _, file := range dashboards(t) {
		var compact bytes.Buffer // one line, as nobody reads a copy
		if err := json.Compact(&compact, []byte(tools.Read(t, file))); err != nil {
			t.Fatal(err)
		}
		copies["files/dashboards/"+filepath.Base(file)] = compact.String() + "\n"
	}
	for file, want := range copies {
		file = filepath.Join(chart, file)
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != want {
			t.Errorf("%s differs from its original (%v): make generate writes it", file, err)
		}
	}
	err := filepath.WalkDir(filepath.Join(chart, "files"), func(path string, entry os.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, chart+"/"); err == nil && !entry.IsDir() && copies[name] == "" && name != rules {
			t.Errorf("%s is a copy of nothing: remove it", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func dashboards(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../examples/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboard: %v", err)
	}
	return files
}

// TestEachDashboardArrives, and is small enough for kubectl apply, which repeats an object in an annotation.
func TestEachDashboardArrives(t *testing.T) {
	want, got := make(map[string]any), make(map[string]any)
	parse := func(text string) (dashboard any) {
		if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
			t.Fatal(err)
		}
		return dashboard
	}
	for _, file := range dashboards(t) {
		want[filepath.Base(file)] = parse(tools.Read(t, file))
	}
	for name, o := range render(t, everything...) {
		data, _ := o["data"].(object)
		for file, text := range data {
			if !strings.HasSuffix(file, ".json") {
				continue
			}
			got[file] = parse(text.(string))
			// As a string of JSON, each quote takes one byte more.
			if size := len(text.(string)) + strings.Count(text.(string), `"`); size > 250_000 {
				t.Errorf("%s takes %d bytes, want at most 250 000", name, size)
			}
			if diff := cmp.Diff("1", find(o, "metadata", "labels", "grafana_dashboard")); diff != "" {
				t.Errorf("the label of %s: -want +got:\n%s", name, diff)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-files +chart:\n%s", diff)
	}
}
