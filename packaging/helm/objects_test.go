//go:build linux

package helm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestByDefaultNothingNeedsTheOperatorOrChangesTheCluster(t *testing.T) {
	want := []string{"DaemonSet listen-exporter", "PriorityClass listen-exporter", "ServiceAccount listen-exporter"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(render(t)))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestAReleaseOfAnyNameFitsTogether: every reference to an object of the chart is to one that the chart makes.
func TestAReleaseOfAnyNameFitsTogether(t *testing.T) {
	for name, arguments := range map[string][]string{
		"edge":                    {"--name-template=edge"},
		"the longest":             {"--name-template=" + strings.Repeat("a", 53)},
		"the longest with a name": {"--name-template=listen-exporter-" + strings.Repeat("a", 37)},
		"an override":             {"--set=fullnameOverride=ports"},
		"digits":                  {"--name-template=123", "--set-string=fullnameOverride=456"}, // names and labels are strings
	} {
		t.Run(name, func(t *testing.T) {
			text, err := helm(t, append(append([]string{"template", chart, "--namespace=elsewhere"}, everything...), arguments...)...)
			if err != nil {
				t.Fatal(err, text)
			}
			objects := decode(t, text)
			var daemonSet object
			for name, o := range objects {
				kind, name, _ := strings.Cut(name, " ")
				if len(name) > 63 && kind != "ConfigMap" { // the limit of a Service and of a label, which has a DaemonSet's name
					t.Errorf("the name of the %s has %d characters: %s", kind, len(name), name)
				}
				if kind == "DaemonSet" {
					daemonSet = o
				}
				if instance := find(o, "metadata", "labels", "app.kubernetes.io/instance"); fmt.Sprintf("%T", instance) != "string" {
					t.Errorf("the label of the %s with the release's name is %#v", kind, instance)
				}
			}
			pod := find(daemonSet, "spec", "template", "spec")
			registry := find(pod.(object)["volumes"].([]any)[1], "configMap", "name")
			for _, name := range []string{
				fmt.Sprint("ServiceAccount ", find(pod, "serviceAccountName")),
				fmt.Sprint("PriorityClass ", find(pod, "priorityClassName")),
				fmt.Sprint("ConfigMap ", registry),
			} {
				if objects[name] == nil {
					t.Errorf("there is no %s, only %q", name, slices.Sorted(maps.Keys(objects)))
				}
			}
		})
	}
}

// TestTheServiceMonitorFindsThePodsThroughItsService, and its series have the labels of the PodMonitor's.
func TestTheServiceMonitorFindsThePodsThroughItsService(t *testing.T) {
	objects := render(t, "--set=monitor.kind=ServiceMonitor", "--set=port=9999", "--set=monitor.endpoint.scheme=https",
		"--set=monitor.endpoint.relabelings[0].targetLabel=cluster", "--set=monitor.endpoint.relabelings[0].replacement=eu")
	pods := find(objects["DaemonSet listen-exporter"], "spec", "template", "metadata", "labels")
	service, monitor := objects["Service listen-exporter"], objects["ServiceMonitor listen-exporter"]
	if diff := cmp.Diff(pods, find(service, "spec", "selector")); diff != "" {
		t.Errorf("the Service's selector: -pods +service:\n%s", diff)
	}
	labels, _ := find(service, "metadata", "labels").(object)
	selected, _ := find(monitor, "spec", "selector", "matchLabels").(object)
	for name, value := range selected {
		if labels[name] != value {
			t.Errorf("the ServiceMonitor selects %s=%v, and the Service has %v", name, value, labels[name])
		}
	}
	want := []any{object{
		"port": "metrics", "path": "/metrics", "interval": "15s", "scheme": "https", "relabelings": []any{
			object{
				"action": "replace", "sourceLabels": []any{"__meta_kubernetes_pod_node_name"}, "regex": "(.+)", "replacement": "$1:9999",
				"targetLabel": "instance",
			},
			object{"action": "labeldrop", "regex": "pod|container|endpoint|service"},
			object{"targetLabel": "cluster", "replacement": "eu"},
		},
	}}
	if diff := cmp.Diff(want, find(monitor, "spec", "endpoints")); diff != "" {
		t.Errorf("the endpoints: -want +got:\n%s", diff)
	}
	if objects["PodMonitor listen-exporter"] != nil {
		t.Error("there is a PodMonitor too: each node would be scraped twice")
	}
}

func TestThePortIsTheSameEverywhere(t *testing.T) {
	objects := render(t, append(slices.Clone(everything), "--set=port=9999")...)
	for name, o := range objects {
		if kind, _, _ := strings.Cut(name, " "); kind != "ConfigMap" && kind != "PrometheusRule" && strings.Contains(fmt.Sprint(o), "10190") {
			t.Errorf("%s still names the port 10190", name)
		}
	}
	container, _ := container(t, objects)
	if arguments := fmt.Sprint(container["args"]); !strings.Contains(arguments, "--web.listen-address=[$(NODE_IP)]:9999 ") {
		t.Errorf("the arguments are %s", arguments)
	}
}

// TestProcessNamesNeedNoAppArmorWhateverTheVersionOfKubernetes: the field came with 1.30, and the API server drops one that it does
// not know.
func TestProcessNamesNeedNoAppArmorWhateverTheVersionOfKubernetes(t *testing.T) {
	const annotation = "container.apparmor.security.beta.kubernetes.io/listen-exporter"
	for version, isField := range map[string]bool{"1.29.9": false, "1.30.0": true, "1.30.1-gke.100": true, "1.36.3": true} {
		objects := render(t, "--set=shape=process-names", "--kube-version="+version)
		container, _ := container(t, objects)
		if got := find(container, "securityContext", "appArmorProfile") != nil; got != isField {
			t.Errorf("%s: there is the field: %v, want %v", version, got, isField)
		}
		got := find(objects["DaemonSet listen-exporter"], "spec", "template", "metadata", "annotations", annotation)
		if isField != (got == nil) {
			t.Errorf("%s: the annotation is %v, and there is the field: %v", version, got, isField)
		}
	}
	for _, shape := range []string{"nobody", "events"} {
		if got := fmt.Sprint(render(t, "--set=shape="+shape, "--kube-version=1.29.9")["DaemonSet listen-exporter"]); strings.Contains(got, "apparmor") {
			t.Errorf("the shape %s changes AppArmor", shape)
		}
	}
}

func TestMoreCapabilitiesComeAfterThoseOfTheShape(t *testing.T) {
	container, _ := container(t, render(t, "--set=shape=events", "--set=extraCapabilities={NET_ADMIN}", "--set=extraArgs={--collector.traffic}"))
	want := object{"drop": []any{"ALL"}, "add": []any{"BPF", "PERFMON", "NET_ADMIN"}}
	if diff := cmp.Diff(want, find(container, "securityContext", "capabilities")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestAChangedRegistryRestartsNoPod: the exporter reloads it. test/containers shows that, with the same mount.
func TestAChangedRegistryRestartsNoPod(t *testing.T) {
	registry := func(name string) map[string]object {
		return render(t, "--set=registry.ports.services[0].name="+name, "--set=registry.ports.services[0].port=22")
	}
	one, other := registry("ssh"), registry("sftp")
	const configMap = "ConfigMap listen-exporter-registry"
	if cmp.Equal(one[configMap], other[configMap]) {
		t.Error("the ConfigMaps are the same")
	}
	delete(one, configMap)
	delete(other, configMap)
	if diff := cmp.Diff(one, other); diff != "" {
		t.Errorf("more than the ConfigMap changes: -one +other:\n%s", diff)
	}
}

func TestAPasswordReachesTheExporterAndTheProbes(t *testing.T) {
	container, pod := container(t, render(t, "--set=webConfig.existingSecret=mine", "--set=webConfig.probe.scheme=HTTPS",
		"--set=webConfig.probe.httpHeaders[0].name=Authorization", "--set=webConfig.probe.httpHeaders[0].value=Basic eDp5"))
	for _, probe := range []string{"livenessProbe", "readinessProbe"} {
		want := object{"scheme": "HTTPS", "httpHeaders": []any{object{"name": "Authorization", "value": "Basic eDp5"}}, "port": "metrics"}
		got, _ := find(container, probe, "httpGet").(object)
		delete(got, "path")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", probe, diff)
		}
	}
	want := object{"name": "web-config", "secret": object{"secretName": "mine"}}
	volumes := pod["volumes"].([]any)
	if diff := cmp.Diff(want, volumes[len(volumes)-1]); diff != "" {
		t.Errorf("the volume: -want +got:\n%s", diff)
	}
	if !strings.Contains(fmt.Sprint(container["args"]), "--web.config.file=/etc/listen_exporter_web/web-config.yml") ||
		!strings.Contains(fmt.Sprint(container["volumeMounts"]), "mountPath:/etc/listen_exporter_web") {
		t.Errorf("arguments and mounts do not fit together: %v, %v", container["args"], container["volumeMounts"])
	}
}

func TestADisabledAlertIsLeftOutAndNoOther(t *testing.T) {
	alerts := func(arguments ...string) (names []string) {
		o := render(t, append(arguments, "--set=prometheusRule.enabled=true")...)["PrometheusRule listen-exporter"]
		for _, group := range find(o, "spec", "groups").([]any) {
			for _, rule := range find(group, "rules").([]any) {
				names = append(names, fmt.Sprint(find(rule, "alert"), find(rule, "record")))
			}
		}
		return names
	}
	const disabled = "ListenerExposed"
	want := slices.DeleteFunc(alerts(), func(name string) bool { return strings.Contains(name, disabled) })
	if diff := cmp.Diff(want, alerts("--set=prometheusRule.disabled={"+disabled+"}")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPoliciesCanWarnBeforeTheyDeny(t *testing.T) {
	objects := render(t, "--set=policies.portRange=true", "--set=policies.validationActions={Warn,Audit}")
	got := find(objects["ValidatingAdmissionPolicyBinding listen-exporter-port-range"], "spec", "validationActions")
	if diff := cmp.Diff([]any{"Warn", "Audit"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if objects["ValidatingAdmissionPolicy listen-exporter-privileged-ports"] != nil {
		t.Error("there is the other policy too")
	}
	const want = "policies need Kubernetes 1.30, and this is v1.29.9"
	if output, err := helm(t, "template", chart, "--set=policies.portRange=true", "--kube-version=1.29.9"); err == nil || !strings.Contains(output, want) {
		t.Errorf("Kubernetes 1.29: %v, want %q: %s", err, want, output)
	}
}

// TestTheChartsLabelsWin: with another name, alerts and selectors would find nothing.
func TestTheChartsLabelsWin(t *testing.T) {
	objects := render(t, append(slices.Clone(everything), "--set=podLabels.app\\.kubernetes\\.io/name=x", "--set=podLabels.team=net",
		"--set=monitor.labels.app\\.kubernetes\\.io/name=x", "--set=monitor.labels.release=prometheus")...)
	for name, labels := range map[string]any{
		"the pods":       find(objects["DaemonSet listen-exporter"], "spec", "template", "metadata", "labels"),
		"the PodMonitor": find(objects["PodMonitor listen-exporter"], "metadata", "labels"),
	} {
		got, _ := labels.(object)
		if got["app.kubernetes.io/name"] != "listen-exporter" || got["team"] == nil && got["release"] == nil {
			t.Errorf("the labels of %s are %v", name, got)
		}
	}
}
