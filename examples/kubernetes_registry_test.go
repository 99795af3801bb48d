//go:build linux

package examples

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// TestTheRegistryOfTheNodesIsTheirPartOfTheExample compares it with the nodes' services in ports.yml. A cluster's registry is
// only for nodes, so it does not have the glob that matches all nodes; the one for the control plane stays.
func TestTheRegistryOfTheNodesIsTheirPartOfTheExample(t *testing.T) {
	type file struct{ Services, Reserved []map[string]any }
	var want, got file
	tools.Decode(t, exampleRegistry, &want)
	tools.Decode(t, registryFile, &got)
	has := func(service map[string]any, host string) bool {
		globs, some := service["hosts"].([]any)
		return !some || slices.Contains(globs, any(host))
	}
	want.Services = slices.DeleteFunc(want.Services, func(s map[string]any) bool { return !has(s, "node-*") && !has(s, "control-*") })
	want.Reserved = slices.DeleteFunc(want.Reserved, func(r map[string]any) bool { return r["hosts"] != nil })
	for _, s := range want.Services {
		if has(s, "node-*") {
			delete(s, "hosts")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s does not have the nodes' services of %s: -want +got:\n%s", registryFile, exampleRegistry, diff)
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
