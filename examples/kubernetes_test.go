package examples

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheDaemonSetRunsAsNobodyWithNothingButTheHostsNamespacesItsCgroupsAndARegistry(t *testing.T) {
	no := false
	pod := readManifests(t).daemonSet.Spec.Template.Spec
	if !pod.HostNetwork || !pod.HostPID {
		t.Errorf("hostNetwork is %v, hostPID is %v, want both", pod.HostNetwork, pod.HostPID)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("the pod mounts a service account token")
	}
	if diff := cmp.Diff(podSecurity{
		RunAsNonRoot: true, RunAsUser: 65534, RunAsGroup: 65534, SeccompProfile: map[string]string{"type": "RuntimeDefault"},
	}, pod.SecurityContext); diff != "" {
		t.Errorf("the pod's securityContext: -want +got:\n%s", diff)
	}
	if len(pod.Containers) != 1 {
		t.Fatalf("%d containers, want 1", len(pod.Containers))
	}
	if diff := cmp.Diff(containerSecurity{
		AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: true, Capabilities: map[string][]string{"drop": {"ALL"}},
	}, pod.Containers[0].SecurityContext); diff != "" {
		t.Errorf("the container's securityContext: -want +got:\n%s", diff)
	}
	cgroups := volume{Name: "cgroup"}
	cgroups.HostPath.Path, cgroups.HostPath.Type = "/sys/fs/cgroup", "Directory"
	// Optional, so that nobody needs a registry.
	registry := volume{Name: "registry"}
	registry.ConfigMap.Name, registry.ConfigMap.Optional = "listen-exporter-registry", true
	if diff := cmp.Diff([]volume{cgroups, registry}, pod.Volumes); diff != "" {
		t.Errorf("volumes: -want +got:\n%s", diff)
	}
	mounts := []volumeMount{
		{Name: "cgroup", MountPath: "/host/sys/fs/cgroup", ReadOnly: true},
		{Name: "registry", MountPath: "/etc/listen_exporter", ReadOnly: true},
	}
	if diff := cmp.Diff(mounts, pod.Containers[0].VolumeMounts); diff != "" {
		t.Errorf("volumeMounts: -want +got:\n%s", diff)
	}
}

func TestTheDaemonSetReachesEveryNode(t *testing.T) {
	m := readManifests(t)
	spec := m.daemonSet.Spec
	if diff := cmp.Diff([]map[string]string{{"operator": "Exists"}}, spec.Template.Spec.Tolerations); diff != "" {
		t.Errorf("tolerations: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"kubernetes.io/os": "linux"}, spec.Template.Spec.NodeSelector); diff != "" {
		t.Errorf("nodeSelector: -want +got:\n%s", diff)
	}
	if spec.UpdateStrategy.Type != "RollingUpdate" || spec.UpdateStrategy.RollingUpdate.MaxUnavailable == "" {
		t.Errorf("updateStrategy %+v, want a bounded RollingUpdate", spec.UpdateStrategy)
	}
	if spec.Template.Spec.PriorityClassName != m.priorityClass.Metadata.Name {
		t.Errorf("priorityClassName %q is not the one that is defined, %q", spec.Template.Spec.PriorityClassName, m.priorityClass.Metadata.Name)
	}
	// Every value that a user may give is below the two system classes.
	if m.priorityClass.Value <= 0 || m.priorityClass.Value > 1_000_000_000 || m.priorityClass.GlobalDefaultValue {
		t.Errorf("%+v: want a priority above the default of 0, and not for all pods", m.priorityClass)
	}
}

func TestTheManifestsFitTogether(t *testing.T) {
	m := readManifests(t)
	name := m.namespace.Metadata.Name
	for kind, namespace := range map[string]string{
		"ServiceAccount": m.serviceAccount.Metadata.Namespace,
		"DaemonSet":      m.daemonSet.Metadata.Namespace,
		"PodMonitor":     m.podMonitor.Metadata.Namespace,
	} {
		if namespace != name {
			t.Errorf("the %s is in the namespace %q, want %q", kind, namespace, name)
		}
	}
	// Pod Security refuses host namespaces at the levels baseline and restricted.
	if level := m.namespace.Metadata.Labels["pod-security.kubernetes.io/enforce"]; level != "privileged" {
		t.Errorf("the namespace enforces %q, want privileged", level)
	}
	if token := m.serviceAccount.AutomountServiceAccountToken; token == nil || *token {
		t.Error("the service account mounts a token")
	}
	template := m.daemonSet.Spec.Template
	if template.Spec.ServiceAccountName != m.serviceAccount.Metadata.Name {
		t.Errorf("the pod's service account is %q, want %q", template.Spec.ServiceAccountName, m.serviceAccount.Metadata.Name)
	}
	for kind, chosen := range map[string]selector{"DaemonSet": m.daemonSet.Spec.Selector, "PodMonitor": m.podMonitor.Spec.Selector} {
		if diff := cmp.Diff(template.Metadata.Labels, chosen.MatchLabels); diff != "" {
			t.Errorf("the %s does not choose the pods by their labels: -pod +selector:\n%s", kind, diff)
		}
	}
	ports := template.Spec.Containers[0].Ports
	if len(ports) != 1 || len(m.podMonitor.Spec.PodMetricsEndpoints) != 1 || m.podMonitor.Spec.PodMetricsEndpoints[0].Port != ports[0].Name {
		t.Errorf("the PodMonitor's endpoints %+v are not the container's ports %+v", m.podMonitor.Spec.PodMetricsEndpoints, ports)
	}
}

// TestAnAlertOnANodeNamesAnAddressThatCanBeTyped holds the instance to the form NODE:PORT, with the exporter's own port.
func TestAnAlertOnANodeNamesAnAddressThatCanBeTyped(t *testing.T) {
	m := readManifests(t)
	instance := "10.0.0.7:10190" // what Prometheus takes unless it is relabelled
	for _, r := range m.podMonitor.Spec.PodMetricsEndpoints[0].Relabelings {
		if r.Action == "replace" && r.TargetLabel == "instance" && slices.Equal(r.SourceLabels, []string{"__meta_kubernetes_pod_node_name"}) {
			instance = regexp.MustCompile("^(?:"+r.Regex+")$").ReplaceAllString("node-1.example", r.Replacement)
		}
	}
	port := m.daemonSet.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort
	if want := "node-1.example:" + strconv.Itoa(port); instance != want {
		t.Errorf("the instance of node-1.example is %q, want %q", instance, want)
	}
}

// kubernetesJob returns the job that the PodMonitor's pods are given.
func kubernetesJob(t *testing.T) string {
	t.Helper()
	m := readManifests(t)
	job := m.daemonSet.Spec.Template.Metadata.Labels[m.podMonitor.Spec.JobLabel]
	if job == "" {
		t.Fatalf("the pods have no label %q, which the PodMonitor takes the job from", m.podMonitor.Spec.JobLabel)
	}
	return job
}

func TestTheDaemonSetLeavesRoomBelowItsMemoryLimit(t *testing.T) {
	c := readManifests(t).daemonSet.Spec.Template.Spec.Containers[0]
	for _, key := range []string{"cpu", "memory"} {
		if c.Resources.Requests[key] == "" {
			t.Errorf("no request of %s", key)
		}
	}
	mebibytes := func(quantity, unit string) int {
		n, err := strconv.Atoi(strings.TrimSuffix(quantity, unit))
		if err != nil {
			t.Fatalf("%q is not a number of %s", quantity, unit)
		}
		return n
	}
	hard := mebibytes(c.Resources.Limits["memory"], "Mi")
	soft := 0
	for _, variable := range c.Env {
		if variable.Name == "GOMEMLIMIT" {
			soft = mebibytes(variable.Value, "MiB")
		}
	}
	if soft == 0 || soft*100 > hard*95 {
		t.Errorf("GOMEMLIMIT is %d MiB, want it set and at least 5%% below the limit of %d Mi", soft, hard)
	}
}

// hostRoot is where a test mounts what the container finds at its root.
const hostRoot = "/mnt"

// testNode is what a test's node is called.
const testNode = "node-1"

// daemonSetArguments returns the container's arguments, and more that are offered, as they are on a node testNode whose
// address is 127.0.0.1, with a free port in place of the one that they name, and what is mounted below hostRoot.
func daemonSetArguments(t *testing.T, more ...string) []string {
	t.Helper()
	c := readManifests(t).daemonSet.Spec.Template.Spec.Containers[0]
	arguments := strings.Join(slices.Concat(c.Args, more), "\n")
	node := map[string]string{"status.hostIP": "127.0.0.1", "spec.nodeName": testNode}
	for _, variable := range c.Env {
		if value, known := node[variable.ValueFrom.FieldRef.FieldPath]; known {
			arguments = strings.ReplaceAll(arguments, "$("+variable.Name+")", value)
		}
	}
	if left := regexp.MustCompile(`\$\([^)]*\)`).FindString(arguments); left != "" {
		t.Fatalf("%s is not a variable that the container defines", left)
	}
	if !strings.HasPrefix(c.VolumeMounts[0].MountPath, "/host/") || !strings.Contains(arguments, "=/host/") {
		t.Fatalf("the arguments %q do not name what is mounted at %s", c.Args, c.VolumeMounts[0].MountPath)
	}
	for _, mount := range c.VolumeMounts {
		arguments = strings.ReplaceAll(arguments, "="+mount.MountPath+"/", "="+hostRoot+mount.MountPath+"/")
	}
	arguments = strings.ReplaceAll(arguments, "=/host/", "="+hostRoot+"/host/")
	port := ":" + strconv.Itoa(c.Ports[0].ContainerPort)
	if !strings.Contains(arguments, port) {
		t.Fatalf("the arguments %q do not listen on the container's port %s", c.Args, port)
	}
	return strings.Split(strings.ReplaceAll(arguments, port, ":0"), "\n")
}

func TestTheDaemonSetsProbesAreAnswered(t *testing.T) {
	m := readManifests(t)
	c := m.daemonSet.Spec.Template.Spec.Containers[0]
	address := start(t, exec.Command(exporter(t), daemonSetArguments(t)...))
	for what, p := range map[string]probe{"livenessProbe": c.LivenessProbe, "readinessProbe": c.ReadinessProbe} {
		if p.HTTPGet.Port != c.Ports[0].Name {
			t.Errorf("%s: port %q, want %q", what, p.HTTPGet.Port, c.Ports[0].Name)
		}
		eventually(t, what, func() bool {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+p.HTTPGet.Path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			status, _ := get(t, http.DefaultClient, request)
			return status == http.StatusOK // not ready before the first read
		})
	}
	if c.LivenessProbe.HTTPGet.Path != "/-/healthy" || c.ReadinessProbe.HTTPGet.Path != "/-/ready" {
		t.Errorf("probes of %q and %q, want /-/healthy and /-/ready", c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path)
	}
	if metrics := getOK(t, "http://"+address+m.podMonitor.Spec.PodMetricsEndpoints[0].Path); !strings.Contains(metrics, "\nhost_listen_port{") {
		t.Errorf("the PodMonitor's path shows no host_listen_port:\n%s", metrics)
	}
}

// TestTheDaemonSetsShapeReadsTheHost runs the binary as the container does: as nobody, with no capability, in a mount
// namespace and with a /proc of its own that shows the host's processes, the host's cgroups read-only below hostRoot, and
// no other mount of the host's. It runs once more with the arguments that the manifest offers in comments.
func TestTheDaemonSetsShapeReadsTheHost(t *testing.T) {
	unshare, setpriv := tool(t, "unshare"), tool(t, "setpriv")
	m := readManifests(t)
	mounts := m.daemonSet.Spec.Template.Spec.Containers[0].VolumeMounts
	configMap := t.TempDir()
	write(t, filepath.Join(configMap, filepath.Base(registryFile)), read(t, registryFile))
	ownMounts := []string{
		"--mount", "--propagation=private", "sh", "-euc",
		`mount -t proc -o nosuid,nodev,noexec proc /proc
		mount -t tmpfs tmpfs ` + hostRoot + `
		mkdir -p ` + hostRoot + mounts[0].MountPath + ` ` + hostRoot + mounts[1].MountPath + `
		mount --rbind /sys/fs/cgroup ` + hostRoot + mounts[0].MountPath + `
		mount -o remount,bind,ro ` + hostRoot + mounts[0].MountPath + `
		mount --bind ` + configMap + ` ` + hostRoot + mounts[1].MountPath + `
		mount -o remount,bind,ro ` + hostRoot + mounts[1].MountPath + `
		exec "$@"`, "sh",
	}
	if output, err := exec.Command(unshare, slices.Concat(ownMounts, []string{"true"})...).CombinedOutput(); err != nil {
		t.Skipf("mounts of its own take root: %v: %s", err, output)
	}
	asNobody := []string{
		setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
	}
	for name, arguments := range map[string][]string{
		"as it stands": daemonSetArguments(t),
		"with the arguments that stand in comments": daemonSetArguments(t, offeredArguments(t)...),
	} {
		t.Run(name, func(t *testing.T) {
			address := start(t, exec.Command(unshare, slices.Concat(ownMounts, asNobody, []string{exporter(t)}, arguments)...))
			_, port, _ := strings.Cut(address, ":")
			metrics := getOK(t, "http://"+address+"/metrics")
			for _, want := range []string{
				`host_listen_collector_success{collector="tcp"} 1`,
				`host_listen_collector_success{collector="udp"} 1`,
				`host_listen_collector_success{collector="holder"} 1`,
				`host_listen_port{address="127.0.0.1",family="ipv4",port="` + port + `",proto="tcp"`,
			} {
				if !strings.Contains(metrics, want) {
					t.Errorf("not in /metrics: %s\n%s", want, metrics)
				}
			}
			judged := strings.Contains(metrics, `host_listen_service_up{port="10250",proto="tcp",service_name="kubelet"}`)
			if want := slices.ContainsFunc(arguments, func(a string) bool { return strings.HasPrefix(a, "--registry.file=") }); judged != want {
				t.Errorf("the kubelet is looked for: %v, want %v\n%s", judged, want, metrics)
			}
		})
	}
}

// offeredArguments returns the arguments that baseFile offers in comments.
func offeredArguments(t *testing.T) []string {
	t.Helper()
	var offered []string
	for _, found := range regexp.MustCompile(`(?m)^ +# - (--\S+)$`).FindAllStringSubmatch(read(t, baseFile), -1) {
		offered = append(offered, found[1])
	}
	if len(offered) < 2 {
		t.Errorf("the arguments offered in comments are %q, want more", offered)
	}
	return offered
}
