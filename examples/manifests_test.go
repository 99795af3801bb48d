//go:build linux

package examples

import (
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	baseFile       = "kubernetes/base/daemonset.yaml"
	podMonitorFile = "kubernetes/prometheus-operator/podmonitor.yaml"
	// registryFile is the content of the ConfigMap of two overlays.
	registryFile = "kubernetes/overlays/registry/ports.yml"
)

// object is a Kubernetes object, or a part of one.
type object = map[string]any

// decode returns the objects of a text by kind. There must be one of each.
func decode(t *testing.T, texts ...string) map[string]object {
	t.Helper()
	objects := make(map[string]object)
	for _, text := range texts {
		for documents := yaml.NewDecoder(strings.NewReader(text)); ; {
			var o object
			if err := documents.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			kind := at[string](t, o, "kind")
			if objects[kind] != nil {
				t.Fatalf("there are several objects of the kind %s", kind)
			}
			objects[kind] = o
		}
	}
	return objects
}

// readManifests returns the objects of baseFile and podMonitorFile.
func readManifests(t *testing.T) map[string]object {
	t.Helper()
	return decode(t, tools.Read(t, baseFile), tools.Read(t, podMonitorFile))
}

// buildOverlay returns the objects that kubectl builds of an overlay.
func buildOverlay(t *testing.T, name string) map[string]object {
	t.Helper()
	cmd := exec.Command(tools.Look(t, "kubectl"), "kustomize", "kubernetes/overlays/"+name)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	built, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	return decode(t, string(built))
}

// find returns the part of an object at a path of keys and indexes, such as spec.containers.0, or nil.
func find(from any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch part := from.(type) {
		case object:
			from = part[key]
		case []any:
			index, err := strconv.Atoi(key)
			if err != nil || index >= len(part) {
				return nil
			}
			from = part[index]
		default:
			return nil
		}
	}
	return from
}

// at returns the part of an object at a path, which must have the type T.
func at[T any](t *testing.T, from any, path string) T {
	t.Helper()
	part, ok := find(from, path).(T)
	if !ok {
		t.Fatalf("%s is %v, want a %T", path, find(from, path), part)
	}
	return part
}

// check compares parts of an object with what they should be, in YAML by path. "null" is a part that should not be there.
func check(t *testing.T, from any, parts map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(parts)) {
		var want any
		if err := yaml.Unmarshal([]byte(parts[path]), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, find(from, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// checkKeys compares the keys of a part of an object: a misspelled key would have no effect.
func checkKeys(t *testing.T, from any, path string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(at[object](t, from, path)))); diff != "" {
		t.Errorf("keys of %s (-want +got):\n%s", path, diff)
	}
}
