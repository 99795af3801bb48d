package examples

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestTheRegistryOfTheNodesIsTheirPartOfTheExample takes from ports.yml what it declares for nodes. A cluster's registry
// knows no other hosts, so that the glob of all nodes falls away; that of the control plane stays.
func TestTheRegistryOfTheNodesIsTheirPartOfTheExample(t *testing.T) {
	type file struct{ Services, Reserved []map[string]any }
	var want, got file
	if err := yaml.Unmarshal([]byte(read(t, exampleRegistry)), &want); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(read(t, registryFile)), &got); err != nil {
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
		t.Errorf("%s is not what %s says of nodes: -want +got:\n%s", registryFile, exampleRegistry, diff)
	}
}

func TestTheRegistryOfTheNodesJudgesEveryNodeWhateverItsName(t *testing.T) {
	r := loadRegistry(t, registryFile)
	want := requiredOn(loadRegistry(t, exampleRegistry), testNode)
	for _, node := range []string{testNode, "ip-10-0-0-7.internal"} {
		if diff := cmp.Diff(want, requiredOn(r, node)); diff != "" {
			t.Errorf("on %s: -example +nodes':\n%s", node, diff)
		}
	}
}
