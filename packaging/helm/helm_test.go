//go:build linux

// Package helm contains the Helm chart. Its tests render it with the real helm. test/kubernetes gives the result to a real API
// server.
package helm

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/program"
)

const (
	chart      = "listen-exporter"
	kubernetes = "../../examples/kubernetes/"
	// registryFile is the registry of two overlays.
	registryFile = kubernetes + "overlays/registry/ports.yml"
)

// everything switches on all that is off by default, except the rights of process names.
var everything = []string{
	"--set=monitor.kind=PodMonitor", "--set=prometheusRule.enabled=true", "--set=dashboards.enabled=true",
	"--set=policies.portRange=true", "--set=policies.privilegedPorts=true", "--set-file=registry.ports=" + registryFile,
	"--set=networkPolicy.enabled=true", "--set=networkPolicy.from[0].namespaceSelector.matchLabels.team=monitoring",
	"--set=webConfig.existingSecret=web", "--set=netns=all",
}

func TestMain(m *testing.M) { program.Main(m) }

// object is a Kubernetes object, or a part of one.
type object = map[string]any

// look returns the path of a program. They take a minute to build, and only make test-helm does so.
func look(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("make test-helm runs it: needs %s on the PATH", name)
	}
	return path
}

// helm runs helm without the settings of the user.
func helm(t *testing.T, arguments ...string) (output string, err error) {
	t.Helper()
	cmd := exec.Command(look(t, "helm"), arguments...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "KUBECONFIG=/dev/null")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stderr.String(), err
	}
	if stderr.Len() > 0 {
		t.Errorf("%s warns: %s", cmd, &stderr)
	}
	return stdout.String(), nil
}

// render returns the objects of the release listen-exporter in the namespace of that name, by kind and name. Arguments that
// come later count more.
func render(t *testing.T, arguments ...string) map[string]object {
	t.Helper()
	text, err := helm(t, append([]string{"template", "listen-exporter", chart, "--namespace=listen-exporter"}, arguments...)...)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return decode(t, text)
}

// kustomize returns the objects that kubectl builds of a directory of examples/kubernetes.
func kustomize(t *testing.T, dir string) map[string]object {
	t.Helper()
	cmd := exec.Command(look(t, "kubectl"), "kustomize", kubernetes+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	built, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	return decode(t, string(built))
}

func decode(t *testing.T, text string) map[string]object {
	t.Helper()
	objects := make(map[string]object)
	for documents := yaml.NewDecoder(strings.NewReader(text)); ; {
		var o object
		if err := documents.Decode(&o); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if o == nil { // a template that is switched off
			continue
		}
		kind, _ := o["kind"].(string)
		name, _ := find(o, "metadata", "name").(string)
		if objects[kind+" "+name] != nil {
			t.Fatalf("there are two objects %s %s", kind, name)
		}
		objects[kind+" "+name] = o
	}
}

// find returns the part of an object at a path of keys, or nil.
func find(from any, keys ...string) any {
	for _, key := range keys {
		part, _ := from.(object)
		from = part[key]
	}
	return from
}

// container returns the only container of the DaemonSet, and its pod.
func container(t *testing.T, objects map[string]object) (container, pod object) {
	t.Helper()
	pod, _ = find(objects["DaemonSet listen-exporter"], "spec", "template", "spec").(object)
	containers, _ := pod["containers"].([]any)
	if len(containers) != 1 {
		t.Fatalf("the DaemonSet has %d containers, want 1", len(containers))
	}
	return containers[0].(object), pod
}

// withoutHelmsLabels removes, from every set of labels, those that Helm's conventions add.
func withoutHelmsLabels(objects map[string]object) map[string]object {
	for _, o := range objects {
		removeHelmsLabels(o)
	}
	return objects
}

func removeHelmsLabels(part any) {
	switch part := part.(type) {
	case object:
		for key, value := range part {
			if labels, ok := value.(object); ok && (key == "labels" || key == "matchLabels") {
				maps.DeleteFunc(labels, func(label string, _ any) bool {
					return label == "helm.sh/chart" || strings.HasPrefix(label, "app.kubernetes.io/") && label != "app.kubernetes.io/name"
				})
			}
			removeHelmsLabels(value)
		}
	case []any:
		for _, item := range part {
			removeHelmsLabels(item)
		}
	}
}
