//go:build linux

package examples

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// podPath is where a DaemonSet has its pod.
const podPath = "spec.template.spec"

func TestTheDaemonSetRunsAsNobodyWithNothingButTheHostsNamespacesItsCgroupsARegistryAndAStateFile(t *testing.T) {
	pod := at[object](t, readManifests(t)["DaemonSet"], podPath)
	checkKeys(t, object{"pod": pod}, "pod", "automountServiceAccountToken", "containers", "dnsPolicy", "enableServiceLinks", "hostNetwork",
		"hostPID", "nodeSelector", "priorityClassName", "securityContext", "serviceAccountName", "tolerations", "volumes")
	checkKeys(t, pod, "containers.0", "args", "env", "image", "imagePullPolicy", "livenessProbe", "name", "ports", "readinessProbe",
		"resources", "securityContext", "volumeMounts")
	check(t, pod, map[string]string{
		"hostNetwork":                  "true",
		"hostPID":                      "true",
		"automountServiceAccountToken": "false",
		"securityContext":              "{runAsNonRoot: true, runAsUser: 65534, runAsGroup: 65534, seccompProfile: {type: RuntimeDefault}}",
		"containers.1":                 "null",
		"containers.0.securityContext": "{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}",
		// The ConfigMap is optional, so that nobody needs a registry. With a subPath, its file would never change.
		"volumes": `
- {name: cgroup, hostPath: {path: /sys/fs/cgroup, type: Directory}}
- {name: registry, configMap: {name: listen-exporter-registry, optional: true}}
- {name: state, emptyDir: {sizeLimit: 80Mi}}`,
		"containers.0.volumeMounts": `
- {name: cgroup, mountPath: /host/sys/fs/cgroup, readOnly: true}
- {name: registry, mountPath: /etc/listen_exporter, readOnly: true}
- {name: state, mountPath: /var/lib/listen_exporter}`,
	})
}

func TestTheDaemonSetReachesEveryNode(t *testing.T) {
	m := readManifests(t)
	check(t, m["DaemonSet"], map[string]string{
		podPath + ".tolerations":       "[{operator: Exists}]",
		podPath + ".nodeSelector":      "{kubernetes.io/os: linux}",
		podPath + ".priorityClassName": at[string](t, m["PriorityClass"], "metadata.name"),
		"spec.updateStrategy":          "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 10%}}",
	})
	// Above the default of 0. Users may give no value above the two system classes.
	check(t, m["PriorityClass"], map[string]string{"value": "1000000", "globalDefault": "null"})
}

func TestTheManifestsFitTogether(t *testing.T) {
	m := readManifests(t)
	namespace := at[string](t, m["Namespace"], "metadata.name")
	for _, kind := range []string{"ServiceAccount", "DaemonSet", "PodMonitor"} {
		check(t, m[kind], map[string]string{"metadata.namespace": namespace})
	}
	check(t, m["ServiceAccount"], map[string]string{"automountServiceAccountToken": "false"})
	check(t, m["DaemonSet"], map[string]string{podPath + ".serviceAccountName": at[string](t, m["ServiceAccount"], "metadata.name")})
	// Pod Security refuses host namespaces at the levels baseline and restricted.
	if level := at[object](t, m["Namespace"], "metadata.labels")["pod-security.kubernetes.io/enforce"]; level != "privileged" {
		t.Errorf("the namespace enforces %v, want privileged", level)
	}
	labels := fmt.Sprint(find(m["DaemonSet"], "spec.template.metadata.labels"))
	for _, kind := range []string{"DaemonSet", "PodMonitor"} {
		if selected := fmt.Sprint(find(m[kind], "spec.selector.matchLabels")); selected != labels {
			t.Errorf("the %s selects %s, want the labels of the pods, %s", kind, selected, labels)
		}
	}
	check(t, m["PodMonitor"], map[string]string{
		"spec.podMetricsEndpoints.0.port": at[string](t, m["DaemonSet"], podPath+".containers.0.ports.0.name"),
		"spec.podMetricsEndpoints.1":      "null",
	})
}

// TestAnAlertOnANodeNamesAnAddressThatCanBeTyped: the instance is NODE:PORT, with the exporter's own port.
func TestAnAlertOnANodeNamesAnAddressThatCanBeTyped(t *testing.T) {
	m := readManifests(t)
	port := at[int](t, m["DaemonSet"], podPath+".containers.0.ports.0.containerPort")
	check(t, m["PodMonitor"], map[string]string{"spec.podMetricsEndpoints.0.relabelings.0": fmt.Sprintf(
		"{action: replace, sourceLabels: [__meta_kubernetes_pod_node_name], regex: (.+), replacement: '$1:%d', targetLabel: instance}", port,
	)})
}

func TestTheDaemonSetLeavesRoomBelowItsMemoryLimit(t *testing.T) {
	container := at[object](t, readManifests(t)["DaemonSet"], podPath+".containers.0")
	for _, key := range []string{"cpu", "memory"} {
		at[string](t, container, "resources.requests."+key)
	}
	var soft, hard int
	if _, err := fmt.Sscanf(at[string](t, container, "resources.limits.memory"), "%dMi", &hard); err != nil {
		t.Fatal(err)
	}
	for _, variable := range at[[]any](t, container, "env") {
		if find(variable, "name") == "GOMEMLIMIT" {
			if _, err := fmt.Sscanf(at[string](t, variable, "value"), "%dMiB", &soft); err != nil {
				t.Fatal(err)
			}
		}
	}
	if soft == 0 || soft*100 > hard*95 {
		t.Errorf("GOMEMLIMIT is %d MiB, want it set and at least 5%% below the limit of %d Mi", soft, hard)
	}
}

// testNode is the name of the test's node.
const testNode = "node-1"

// daemonSetArguments returns the container's arguments, and more that are offered, for the node testNode with the address
// 127.0.0.1, a free port, the host's cgroups, and the registry of the overlays.
func daemonSetArguments(t *testing.T, more ...string) []string {
	t.Helper()
	container := at[object](t, readManifests(t)["DaemonSet"], podPath+".containers.0")
	var own []string
	for _, argument := range at[[]any](t, container, "args") {
		own = append(own, argument.(string))
	}
	arguments := strings.Join(append(own, more...), "\n")
	node := map[any]string{"status.hostIP": "127.0.0.1", "spec.nodeName": testNode}
	for _, variable := range at[[]any](t, container, "env") {
		if value, known := node[find(variable, "valueFrom.fieldRef.fieldPath")]; known {
			arguments = strings.ReplaceAll(arguments, "$("+at[string](t, variable, "name")+")", value)
		}
	}
	port := ":" + strconv.Itoa(at[int](t, container, "ports.0.containerPort"))
	if !strings.Contains(arguments, port) || !strings.Contains(arguments, "=/host/") || strings.Contains(arguments, "$(") {
		t.Fatalf("the arguments are %q, want the container's port %s, a mount below /host/, and only variables that it defines", arguments, port)
	}
	return strings.Fields(strings.NewReplacer(
		port, ":0", "=/host/", "=/", "=/etc/listen_exporter/", "="+filepath.Dir(registryFile)+"/",
		"=/var/lib/listen_exporter/", "="+t.TempDir()+"/",
	).Replace(arguments))
}

// TestTheDaemonSetsArgumentsAndProbesWork runs the exporter with the container's arguments, and with those that the manifest offers
// in comments too. test/containers runs whole pods.
func TestTheDaemonSetsArgumentsAndProbesWork(t *testing.T) {
	m := readManifests(t)
	container := at[object](t, m["DaemonSet"], podPath+".containers.0")
	var offered []string
	for _, found := range regexp.MustCompile(`(?m)^ +# - (--\S+)$`).FindAllStringSubmatch(tools.Read(t, baseFile), -1) {
		offered = append(offered, found[1])
	}
	if len(offered) < 2 {
		t.Errorf("the arguments offered in comments are %q, want more", offered)
	}
	for _, arguments := range [][]string{daemonSetArguments(t), daemonSetArguments(t, offered...)} {
		e := program.Launch(t, exec.Command(program.Path(t), arguments...)).Listen()
		for name, path := range map[string]string{"livenessProbe": "/-/healthy", "readinessProbe": "/-/ready"} {
			check(t, container, map[string]string{name + ".httpGet": "{path: " + path + ", port: " + at[string](t, container, "ports.0.name") + "}"})
			e.Await(name, func() bool { return e.Get(path).Status == http.StatusOK }) // not ready before the first read
		}
		page := e.Get(at[string](t, m["PodMonitor"], "spec.podMetricsEndpoints.0.path")).Body
		if !strings.Contains(page, "\nhost_listen_port{") {
			t.Errorf("the PodMonitor's path shows no host_listen_port:\n%s", page)
		}
		judged := strings.Contains(page, `host_listen_service_up{port="10250",proto="tcp",service_name="kubelet"}`)
		if want := strings.Contains(strings.Join(arguments, " "), "--registry.file="); judged != want {
			t.Errorf("the kubelet is looked for: %v, want %v\n%s", judged, want, page)
		}
	}
}
