package examples

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// podPath is where a DaemonSet has its pod.
const podPath = "spec.template.spec"

func TestTheDaemonSetRunsAsNobodyWithNothingButTheHostsNamespacesItsCgroupsAndARegistry(t *testing.T) {
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
- {name: registry, configMap: {name: listen-exporter-registry, optional: true}}`,
		"containers.0.volumeMounts": `
- {name: cgroup, mountPath: /host/sys/fs/cgroup, readOnly: true}
- {name: registry, mountPath: /etc/listen_exporter, readOnly: true}`,
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

const (
	// hostRoot is where a test mounts what the container has at its root.
	hostRoot = "/mnt"
	// testNode is the name of the test's node.
	testNode = "node-1"
)

// daemonSetArguments returns the container's arguments, and more that are offered, for the node testNode with the address
// 127.0.0.1, a free port, and the container's mounts below hostRoot.
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
	for _, mount := range mountPaths(t) {
		arguments = strings.ReplaceAll(arguments, "="+mount+"/", "="+hostRoot+mount+"/")
	}
	port := ":" + strconv.Itoa(at[int](t, container, "ports.0.containerPort"))
	if !strings.Contains(arguments, port) || !strings.Contains(arguments, "=/host/") || strings.Contains(arguments, "$(") {
		t.Fatalf("the arguments are %q, want the container's port %s, a mount below /host/, and only variables that it defines", arguments, port)
	}
	arguments = strings.ReplaceAll(arguments, "=/host/", "="+hostRoot+"/host/")
	return strings.Fields(strings.ReplaceAll(arguments, port, ":0"))
}

// mountPaths returns where the container mounts the cgroups and the registry.
func mountPaths(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, mount := range at[[]any](t, readManifests(t)["DaemonSet"], podPath+".containers.0.volumeMounts") {
		paths = append(paths, at[string](t, mount, "mountPath"))
	}
	return paths
}

func TestTheDaemonSetsProbesAreAnswered(t *testing.T) {
	m := readManifests(t)
	container := at[object](t, m["DaemonSet"], podPath+".containers.0")
	e := program.Launch(t, exec.Command(program.Path(t), daemonSetArguments(t)...)).Listen()
	for name, path := range map[string]string{"livenessProbe": "/-/healthy", "readinessProbe": "/-/ready"} {
		check(t, container, map[string]string{name + ".httpGet": "{path: " + path + ", port: " + at[string](t, container, "ports.0.name") + "}"})
		e.Await(name, func() bool { return e.Get(path).Status == http.StatusOK }) // not ready before the first read
	}
	if page := e.Get(at[string](t, m["PodMonitor"], "spec.podMetricsEndpoints.0.path")).Body; !strings.Contains(page, "\nhost_listen_port{") {
		t.Errorf("the PodMonitor's path shows no host_listen_port:\n%s", page)
	}
}

// TestTheDaemonSetsShapeReadsTheHost runs the binary as the container does: as nobody, without capabilities, in a mount
// namespace with its own /proc of the host's processes, and with the host's cgroups read-only below hostRoot. It runs once more
// with the arguments that the manifest offers in comments.
func TestTheDaemonSetsShapeReadsTheHost(t *testing.T) {
	unshare, setpriv := tools.Look(t, "unshare"), tools.Look(t, "setpriv")
	binary := program.Path(t)
	if err := os.Chmod(filepath.Dir(binary), 0o755); err != nil { // for nobody
		t.Fatal(err)
	}
	configMap := t.TempDir()
	write(t, filepath.Join(configMap, filepath.Base(registryFile)), tools.Read(t, registryFile))
	cgroup, registry := hostRoot+mountPaths(t)[0], hostRoot+mountPaths(t)[1]
	ownMounts := []string{
		"--mount", "--propagation=private", "sh", "-euc",
		`mount -t proc -o nosuid,nodev,noexec proc /proc
		mount -t tmpfs tmpfs ` + hostRoot + `
		mkdir -p ` + cgroup + ` ` + registry + `
		mount --rbind /sys/fs/cgroup ` + cgroup + `
		mount -o remount,bind,ro ` + cgroup + `
		mount --bind ` + configMap + ` ` + registry + `
		mount -o remount,bind,ro ` + registry + `
		exec "$@"`, "sh",
	}
	if output, err := exec.Command(unshare, append(ownMounts, "true")...).CombinedOutput(); err != nil {
		t.Skipf("needs root for its own mounts: %v: %s", err, output)
	}
	var offered []string
	for _, found := range regexp.MustCompile(`(?m)^ +# - (--\S+)$`).FindAllStringSubmatch(tools.Read(t, baseFile), -1) {
		offered = append(offered, found[1])
	}
	if len(offered) < 2 {
		t.Errorf("the arguments offered in comments are %q, want more", offered)
	}
	for name, arguments := range map[string][]string{
		"as it is":                       daemonSetArguments(t),
		"with the arguments in comments": daemonSetArguments(t, offered...),
	} {
		t.Run(name, func(t *testing.T) {
			asNobody := []string{
				setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", binary,
			}
			e := program.Launch(t, exec.Command(unshare, slices.Concat(ownMounts, asNobody, arguments)...)).Listen()
			_, port, _ := strings.Cut(e.Address, ":")
			page := e.Scrape()
			for _, want := range []string{
				`host_listen_collector_success{collector="tcp"} 1`,
				`host_listen_collector_success{collector="udp"} 1`,
				`host_listen_collector_success{collector="holder"} 1`,
				`host_listen_port{address="127.0.0.1",family="ipv4",port="` + port + `",proto="tcp"`,
			} {
				if !strings.Contains(page, want) {
					t.Errorf("not in /metrics: %s\n%s", want, page)
				}
			}
			judged := strings.Contains(page, `host_listen_service_up{port="10250",proto="tcp",service_name="kubelet"}`)
			if want := strings.Contains(strings.Join(arguments, " "), "--registry.file="); judged != want {
				t.Errorf("the kubelet is looked for: %v, want %v\n%s", judged, want, page)
			}
		})
	}
}
