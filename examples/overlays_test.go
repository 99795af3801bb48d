//go:build linux

package examples

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// TestEachOverlayDiffersFromTheBaseOnlyInWhatItAdds removes from each overlay what it should add, and compares the rest.
func TestEachOverlayDiffersFromTheBaseOnlyInWhatItAdds(t *testing.T) {
	for name, remove := range map[string][]func(*testing.T, map[string]object){
		"plain":                  nil,
		"process-names":          {removeProcessNames},
		"registry":               {removeRegistry},
		"registry-process-names": {removeRegistry, removeProcessNames},
		"events":                 {removeEvents},
		"events-process-names":   {splitRights, removeProcessNames},
	} {
		t.Run(name, func(t *testing.T) {
			objects := buildOverlay(t, name)
			for _, f := range remove {
				f(t, objects)
			}
			if diff := cmp.Diff(decode(t, tools.Read(t, baseFile)), objects); diff != "" {
				t.Errorf("-base +overlay:\n%s", diff)
			}
		})
	}
}

// removeProcessNames checks the rights that process names take, and replaces them by those of the base.
func removeProcessNames(t *testing.T, objects map[string]object) {
	t.Helper()
	pod, base := at[object](t, objects["DaemonSet"], podPath), at[object](t, readManifests(t)["DaemonSet"], podPath)
	check(t, pod, map[string]string{
		"securityContext": asRoot,
		"containers.0.securityContext": `{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true,
			capabilities: {drop: [ALL], add: [SYS_PTRACE, DAC_READ_SEARCH]}, appArmorProfile: {type: Unconfined}}`,
	})
	pod["securityContext"] = base["securityContext"]
	at[object](t, pod, "containers.0")["securityContext"] = find(base, "containers.0.securityContext")
}

// asRoot is the security context of a pod with capabilities. A user other than root would have them, but none of them effective.
const asRoot = "{runAsNonRoot: false, runAsUser: 0, runAsGroup: 0, seccompProfile: {type: RuntimeDefault}}"

// removeEvents checks the flag and the rights that events take, and replaces them by those of the base. AppArmor and seccomp stay on.
func removeEvents(t *testing.T, objects map[string]object) {
	t.Helper()
	pod, base := at[object](t, objects["DaemonSet"], podPath), at[object](t, readManifests(t)["DaemonSet"], podPath)
	check(t, pod, map[string]string{
		"securityContext": asRoot,
		"containers.0.securityContext": `{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true,
			capabilities: {drop: [ALL], add: [BPF, PERFMON]}}`,
	})
	pod["securityContext"] = base["securityContext"]
	removeEventsFlag(t, pod)
	at[object](t, pod, "containers.0")["securityContext"] = find(base, "containers.0.securityContext")
}

func removeEventsFlag(t *testing.T, pod object) {
	t.Helper()
	container := at[object](t, pod, "containers.0")
	arguments := at[[]any](t, container, "args")
	last := len(arguments) - 1
	if arguments[last] != "--collector.events=on" {
		t.Fatalf("the last argument is %s, want --collector.events=on", arguments[last])
	}
	container["args"] = arguments[:last]
}

// splitRights checks that events and process names together have the capabilities of both, and leaves those of process names.
func splitRights(t *testing.T, objects map[string]object) {
	t.Helper()
	pod := at[object](t, objects["DaemonSet"], podPath)
	removeEventsFlag(t, pod)
	check(t, pod, map[string]string{
		"containers.0.securityContext.capabilities": "{drop: [ALL], add: [SYS_PTRACE, DAC_READ_SEARCH, BPF, PERFMON]}",
	})
	capabilities := at[object](t, pod, "containers.0.securityContext.capabilities")
	capabilities["add"] = at[[]any](t, capabilities, "add")[:2]
}

// removeRegistry checks that argument, mount, volume and ConfigMap of the registry fit together, and removes the registry.
func removeRegistry(t *testing.T, objects map[string]object) {
	t.Helper()
	configMap, container := objects["ConfigMap"], at[object](t, objects["DaemonSet"], podPath+".containers.0")
	if diff := cmp.Diff(object{filepath.Base(registryFile): tools.Read(t, registryFile)}, configMap["data"]); diff != "" {
		t.Errorf("the ConfigMap is not %s (-want +got):\n%s", registryFile, diff)
	}
	// A name that depends on the content would restart the pods.
	check(t, configMap, map[string]string{"metadata.name": "listen-exporter-registry", "metadata.namespace": "listen-exporter"})
	arguments := at[[]any](t, container, "args")
	last := len(arguments) - 1
	file, found := strings.CutPrefix(arguments[last].(string), "--registry.file=")
	if !found || filepath.Base(file) != filepath.Base(registryFile) || filepath.Dir(file) != find(container, "volumeMounts.1.mountPath") {
		t.Fatalf("the last argument is %s, want the --registry.file in the second mount", arguments[last])
	}
	container["args"] = arguments[:last]
	delete(objects, "ConfigMap")
}
