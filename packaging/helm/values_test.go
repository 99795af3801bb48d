//go:build linux

package helm

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/docflags"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

func TestHelmLintsTheChartStrictlyWithAndWithoutEverything(t *testing.T) {
	for name, arguments := range map[string][]string{"defaults": nil, "everything": everything} {
		if output, err := helm(t, append([]string{"lint", "--strict", chart}, arguments...)...); err != nil {
			t.Errorf("%s: %v: %s", name, err, output)
		}
	}
}

func TestTheChartHasTheNewestVersionOfTheChangelog(t *testing.T) {
	newest := regexp.MustCompile(`(?m)^## ([0-9]\S*)`).FindStringSubmatch(tools.Read(t, "../../CHANGELOG.md"))
	if newest == nil {
		t.Fatal("CHANGELOG.md has no version")
	}
	var got struct {
		Version    string
		AppVersion string `yaml:"appVersion"`
	}
	tools.Decode(t, filepath.Join(chart, "Chart.yaml"), &got)
	if got.Version != newest[1] || got.AppVersion != newest[1] {
		t.Errorf("Chart.yaml has the versions %+v, want %s", got, newest[1])
	}
}

func TestEveryFlagThatTheChartNamesExists(t *testing.T) {
	flags := docflags.Real(t)
	err := filepath.WalkDir(chart, func(path string, entry os.DirEntry, err error) error {
		if entry.Name() == "files" { // copies, of what has a test next to it
			return filepath.SkipDir
		}
		if err == nil && !entry.IsDir() {
			for _, flag := range docflags.Unknown(tools.Read(t, path), flags) {
				t.Errorf("%s names %s, which is not a flag of listen_exporter", path, flag)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// schema is a part of values.schema.json, as far as the test reads it.
type schema struct {
	Properties           map[string]schema
	AdditionalProperties any
}

// TestTheSchemaHasTheKeysOfTheValues compares both ways: a value without a default is one that nobody finds.
func TestTheSchemaHasTheKeysOfTheValues(t *testing.T) {
	var s schema
	if err := json.Unmarshal([]byte(tools.Read(t, filepath.Join(chart, "values.schema.json"))), &s); err != nil {
		t.Fatal(err)
	}
	var values object
	tools.Decode(t, filepath.Join(chart, "values.yaml"), &values)
	delete(s.Properties, "global") // Helm adds it to the values of a chart that another chart depends on
	compareKeys(t, "the values", s, values)
}

func compareKeys(t *testing.T, path string, s schema, values object) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(values))); diff != "" {
		t.Errorf("keys of %s: -schema +values:\n%s", path, diff)
	}
	if s.AdditionalProperties != false {
		t.Errorf("the schema admits any key in %s", path)
	}
	for key, child := range s.Properties {
		if value, _ := values[key].(object); len(value) > 0 && child.Properties != nil { // {}: its keys are optional
			compareKeys(t, key, child, value)
		}
	}
}

func TestValuesThatWouldNotWorkAreRefusedByName(t *testing.T) {
	for _, test := range []struct {
		name, values string
		want         string // a pattern: Helm 3 writes a.b where Helm 4 writes /a/b
	}{
		{"unknown key", "shapes: nobody", `shapes`},
		{"unknown key below another", "image: {tga: latest}", `image\b.*tga`},
		{"unknown shape", "shape: root", `\bshape\b.*nobody.*process-names`},
		{"port as text", `port: "10190"`, `\bport\b.*string`},
		{"port too high", "port: 65536", `\bport\b`},
		{"port that needs a capability", "port: 443", `\bport\b.*1,?024`},
		{"a shape that does not exist", "shape: traffic", `\bshape\b.*nobody.*process-names.*events`},
		{"capabilities that would not be effective", "extraCapabilities: [NET_ADMIN]", `extraCapabilities is set, and shape is nobody: want another shape`},
		{"every capability", "{shape: events, extraCapabilities: [ALL]}", `extraCapabilities.0\b`},
		{"an address in place of an image", "image: {repository: 'https://example.org/x'}", `image.repository\b`},
		{"no image", "image: {repository: ''}", `image.repository\b`},
		{"a digest that is none", "image: {digest: 'sha256:1'}", `image.digest\b`},
		{"unknown key of a registry", "registry: {ports: {service: []}}", `registry.ports\b.*service`},
		{"two registries", "registry: {ports: {services: []}, existingConfigMap: mine}", `registry\.ports and registry\.existingConfigMap are both set: want one`},
		{"the name of a registry in place of its content", "registry: {ports: ports.yml}", `registry\.ports is no registry: .*want the content.*--set-file registry\.ports=`},
		{"a registry that is none", "registry: {ports: 'service: []'}", `registry\.ports is no registry: it has no services`},
		{"an empty registry", "registry: {ports: ''}", `registry.ports\b`},
		{"a probe without its web configuration", "webConfig: {probe: {scheme: HTTPS}}", `webConfig\.probe is set, and webConfig\.existingSecret is not: want both`},
		{"an interval in two places", "monitor: {kind: PodMonitor, endpoint: {interval: 1m}}", `monitor.endpoint\b.*interval`},
		{"both monitors", "monitor: {kind: [PodMonitor, ServiceMonitor]}", `monitor.kind\b`},
		{"alerts would be late", "monitor: {interval: 2m}", `monitor.interval\b`},
		{"an alert that is none", "prometheusRule: {enabled: true, disabled: [PortLost]}", `no alert PortLost: want names of alerts in files/rules\.yml`},
		{"a policy that admits nobody", "networkPolicy: {enabled: true}", `networkPolicy.from\b`},
		{"unknown action", "policies: {validationActions: [Refuse]}", `policies.validationActions.0\b`},
		{"an argument that is no flag", "extraArgs: [audit]", `extraArgs.0\b`},
		{"a memory limit in the form of Kubernetes", "goMemLimit: 190Mi", `\bgoMemLimit\b`},
	} {
		t.Run(test.name, func(t *testing.T) {
			output, err := helm(t, "template", chart, "--values="+valuesFile(t, test.values))
			if err == nil {
				t.Fatal("it was taken")
			}
			if !regexp.MustCompile(test.want).MatchString(output) {
				t.Errorf("the error is %q, want it to match %s", output, test.want)
			}
		})
	}
}

func valuesFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestTheReadmesValuesAreTaken renders the chart with all that README.md says to add.
func TestTheReadmesValuesAreTaken(t *testing.T) {
	var arguments []string
	for _, found := range regexp.MustCompile("(--set(?:-file)?) ([^ `\n]+)").FindAllStringSubmatch(tools.Read(t, filepath.Join(chart, "README.md")), -1) {
		value := strings.Replace(found[2], "=ports.yml", "="+registryFile, 1)
		if strings.HasPrefix(value, "image.repository=") {
			value += ",image.tag=v1"
		}
		arguments = append(arguments, found[1]+"="+value)
	}
	if len(arguments) < 8 {
		t.Fatalf("README.md has only %q", arguments)
	}
	objects := render(t, arguments...)
	for _, want := range []string{"ConfigMap listen-exporter-registry", "ConfigMap listen-exporter-dashboard", "PodMonitor listen-exporter", "PrometheusRule listen-exporter"} {
		if objects[want] == nil {
			t.Errorf("there is no %s", want)
		}
	}
	container, _ := container(t, objects)
	if image := container["image"]; image != "registry.example.org/listen_exporter:v1" {
		t.Errorf("the image is %v", image)
	}
}

// TestCheckFindsNoFaultWithTheChart gives the rendered chart to the program, as its README has users do with theirs.
func TestCheckFindsNoFaultWithTheChart(t *testing.T) {
	text, err := helm(t, append([]string{"template", chart}, everything...)...)
	if err != nil {
		t.Fatal(err, text)
	}
	cmd := exec.Command(program.Path(t), "check", "--manifests=-")
	cmd.Stdin = strings.NewReader(text)
	if output, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(output), "checked 1 workload ") {
		t.Errorf("%v, want the DaemonSet checked:\n%s", err, output)
	}
}

// TestARegistryInTheValuesIsTheFile gives a registry as values and as a file.
func TestARegistryInTheValuesIsTheFile(t *testing.T) {
	var registry, got object
	tools.Decode(t, registryFile, &registry)
	values, err := yaml.Marshal(object{"registry": object{"ports": registry}})
	if err != nil {
		t.Fatal(err)
	}
	configMap := render(t, "--values="+valuesFile(t, string(values)))["ConfigMap listen-exporter-registry"]
	text, _ := find(configMap, "data", "ports.yml").(string)
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(registry, got); diff != "" {
		t.Errorf("-file +values:\n%s", diff)
	}
}
