package examples

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"listen_exporter/internal/registry"
)

// registryInConfigMap returns the registry of configMapFile, and what its file is called.
func registryInConfigMap(t *testing.T) (name, text string) {
	t.Helper()
	data := readManifests(t).configMap.Data
	if len(data) != 1 {
		t.Fatalf("%s has %d files, want 1", configMapFile, len(data))
	}
	for name, text = range data {
		if _, err := registry.Parse(name, []byte(text)); err != nil {
			t.Fatalf("%s holds faults:\n%v", configMapFile, err)
		}
	}
	return name, text
}

// TestTheConfigMapIsTheNodesPartOfTheExampleRegistry takes from ports.yml what it declares for nodes. A cluster's registry
// knows no other hosts, so that the glob of all nodes falls away; that of the control plane stays.
func TestTheConfigMapIsTheNodesPartOfTheExampleRegistry(t *testing.T) {
	type file struct{ Services, Reserved []map[string]any }
	var want, got file
	if err := yaml.Unmarshal([]byte(read(t, exampleRegistry)), &want); err != nil {
		t.Fatal(err)
	}
	_, text := registryInConfigMap(t)
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	has := func(service map[string]any, host string) bool {
		globs, some := service["hosts"].([]any)
		return !some || slices.Contains(globs, any(host))
	}
	want.Services = slices.DeleteFunc(want.Services, func(s map[string]any) bool { return !has(s, "node-*") && !has(s, "control-*") })
	for _, s := range want.Services {
		if has(s, "node-*") {
			delete(s, "hosts")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not what %s says of nodes: -ports.yml +ConfigMap:\n%s", configMapFile, exampleRegistry, diff)
	}
}

func TestTheConfigMapJudgesEveryNodeWhateverItsName(t *testing.T) {
	name, text := registryInConfigMap(t)
	r, err := registry.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := requiredOn(loadRegistry(t, exampleRegistry), testNode)
	for _, node := range []string{testNode, "ip-10-0-0-7.internal"} {
		if diff := cmp.Diff(want, requiredOn(r, node)); diff != "" {
			t.Errorf("on %s: -ports.yml +ConfigMap:\n%s", node, diff)
		}
	}
}

// TestTheDaemonSetsRegistryIsTheFileOfTheConfigMap holds argument, mount, volume and ConfigMap together.
func TestTheDaemonSetsRegistryIsTheFileOfTheConfigMap(t *testing.T) {
	m := readManifests(t)
	pod := m.daemonSet.Spec.Template.Spec
	var file string
	for _, argument := range offeredArguments(t) {
		if path, found := strings.CutPrefix(argument, "--registry.file="); found {
			file = path
		}
	}
	name, _ := registryInConfigMap(t)
	if filepath.Base(file) != name {
		t.Errorf("--registry.file=%s is not the file %s of the ConfigMap", file, name)
	}
	mount := slices.IndexFunc(pod.Containers[0].VolumeMounts, func(v volumeMount) bool { return v.MountPath == filepath.Dir(file) })
	if mount < 0 {
		t.Fatalf("nothing is mounted at %s", filepath.Dir(file))
	}
	volumeName := pod.Containers[0].VolumeMounts[mount].Name
	i := slices.IndexFunc(pod.Volumes, func(v volume) bool { return v.Name == volumeName })
	if i < 0 || pod.Volumes[i].ConfigMap.Name != m.configMap.Metadata.Name {
		t.Errorf("what is mounted at %s is not the ConfigMap %s", filepath.Dir(file), m.configMap.Metadata.Name)
	}
}
