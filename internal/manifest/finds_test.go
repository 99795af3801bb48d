//go:build linux

package manifest

import (
	"slices"
	"strings"
	"testing"
)

// service returns a Service of a type with ports, each a flow mapping.
func service(name, spec string, ports ...string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {" + spec + "ports: [" + strings.Join(ports, ", ") + "]}\n"
}

// kind returns an object with a spec.
func object(version, kind, name, spec string) string {
	return "apiVersion: " + version + "\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: {" + spec + "}\n"
}

func TestPortsOfServicesAreFound(t *testing.T) {
	const taken = " is already taken by "
	for _, test := range []struct {
		name    string
		a, b    string
		finding string // without its place
	}{
		{
			"a nodePort twice", service("a", "type: NodePort, ", "{port: 80, nodePort: 30080}"), service("b", "type: LoadBalancer, ", "{port: 81, nodePort: 30080}"),
			"nodePort 30080/TCP of Service default/b" + taken + "Service default/a at deploy/a.yaml:4: want another port",
		},
		{
			"of two protocols, which the API server does not tell apart",
			service("a", "type: NodePort, ", "{port: 80, nodePort: 30080}"), service("b", "type: NodePort, ", "{port: 81, nodePort: 30080, protocol: UDP}"),
			"nodePort 30080/UDP of Service default/b" + taken + "Service default/a at deploy/a.yaml:4: want another port",
		},
		{"of two protocols of one Service", service("a", "type: NodePort, ", "{port: 53, nodePort: 30053, protocol: UDP}", "{port: 53, nodePort: 30053}"), "", ""},
		{
			"a nodePort twice in one Service", service("a", "type: NodePort, ", "{port: 80, nodePort: 30080}", "{port: 81, nodePort: 30080}"), "",
			"nodePort 30080/TCP of Service default/a" + taken + "the same Service at deploy/a.yaml:4: want another port",
		},
		{
			"a healthCheckNodePort", service("a", "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30080, ", "{port: 80}"),
			service("b", "type: NodePort, ", "{port: 81, nodePort: 30080}"),
			"nodePort 30080/TCP of Service default/b" + taken + "Service default/a (healthCheckNodePort) at deploy/a.yaml:4: want another port",
		},
		{
			"a hostPort that is a nodePort", service("a", "type: NodePort, ", "{port: 80, nodePort: 30080}"), pod("b", "", "{hostPort: 30080}"),
			"hostPort 30080/TCP of Pod default/b" + taken + "Service default/a (nodePort) at deploy/a.yaml:4: want another port",
		},
		{
			"a nodePort that host networking takes", pod("a", "nodeName: n1, hostNetwork: true, ", "{containerPort: 30080}"), service("b", "type: NodePort, ", "{port: 80, nodePort: 30080}"),
			"nodePort 30080/TCP of Service default/b" + taken + "Pod default/a (containerPort) at deploy/a.yaml:4: want another port",
		},
		{"a hostPort of another protocol", service("a", "type: NodePort, ", "{port: 80, nodePort: 30080}"), pod("b", "", "{hostPort: 30080, protocol: UDP}"), ""},
		{
			"one port twice", service("a", "", "{port: 80, name: a}", "{port: 80, name: b}"), "",
			"port 80/TCP of Service default/a is there twice, first in line 4: want another port, or another protocol",
		},
		{"one port with two protocols", service("a", "", "{port: 53}", "{port: 53, protocol: UDP}"), "", ""},
		{"the same port of two Services", service("a", "", "{port: 80}"), service("b", "type: LoadBalancer, ", "{port: 80}"), ""},
		{"nodePorts that are not set", service("a", "type: NodePort, ", "{port: 80}"), service("b", "type: NodePort, ", "{port: 80, nodePort: 0}"), ""},
		{
			"an init container", pod("a", "", "{hostPort: 80}"), object("v1", "Pod", "b", "initContainers: [{ports: [{hostPort: 80}]}], containers: [{}]"),
			"hostPort 80/TCP of Pod default/b" + taken + "Pod default/a at deploy/a.yaml:4: want another port",
		},
		{
			"a sidecar in its own pod", "", object("v1", "Pod", "b", "initContainers: [{restartPolicy: Always, ports: [{hostPort: 80}]}], containers: [{ports: [{hostPort: 80}]}]"),
			"hostPort 80/TCP of Pod default/b" + taken + "the same pod at deploy/b.yaml:4: want another port",
		},
		{
			"a sidecar and a later init container", "",
			object("v1", "Pod", "b", "initContainers: [{restartPolicy: Always, ports: [{hostPort: 80}]}, {ports: [{hostPort: 80}]}], containers: [{}]"),
			"hostPort 80/TCP of Pod default/b" + taken + "the same pod at deploy/b.yaml:4: want another port",
		},
		{
			"a sidecar and an earlier init container", "",
			object("v1", "Pod", "b", "initContainers: [{ports: [{hostPort: 80}]}, {restartPolicy: Always, ports: [{hostPort: 80}]}], containers: [{}]"), "",
		},
		{"two init containers", "", object("v1", "Pod", "b", "initContainers: [{ports: [{hostPort: 80}]}, {ports: [{hostPort: 80}]}], containers: [{}]"), ""},
		{"an init container and what follows it", "", object("v1", "Pod", "b", "initContainers: [{ports: [{hostPort: 80}]}], containers: [{ports: [{hostPort: 80}]}]"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			findings, _, skipped := checkAll(t, Options{}, "", files{"a.yaml": test.a, "b.yaml": test.b}).lines()
			diff(t, "skipped", nil, skipped)
			for i, f := range findings {
				_, findings[i], _ = strings.Cut(f, ": ")
			}
			want := []string{test.finding}
			if test.finding == "" {
				want = nil
			}
			diff(t, "findings", want, findings)
		})
	}
}

func TestPodsThatNeverShareANodeMayHaveTheSamePort(t *testing.T) {
	affinity := func(terms ...string) string {
		return "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [" + strings.Join(terms, ", ") + "]}}}, "
	}
	expression := func(key, operator, values string) string {
		return "{matchExpressions: [{key: " + key + ", operator: " + operator + ", values: [" + values + "]}]}"
	}
	const linux, windows = "nodeSelector: {kubernetes.io/os: linux}, ", "nodeSelector: {beta.kubernetes.io/os: windows}, "
	for _, test := range []struct {
		name, a, b string
		apart      bool
	}{
		{"systems", linux, windows, true},
		{"the same system", linux, linux, false},
		{"one that says nothing", linux, "", false},
		{"the system of the pod", linux, "os: {name: windows}, ", true},
		{"architectures", "nodeSelector: {kubernetes.io/arch: amd64}, ", "nodeSelector: {kubernetes.io/arch: arm64}, ", true},
		{"host names", "nodeSelector: {kubernetes.io/hostname: a}, ", "nodeSelector: {kubernetes.io/hostname: b}, ", true},
		{"zones", "nodeSelector: {topology.kubernetes.io/zone: a}, ", "nodeSelector: {topology.kubernetes.io/zone: b}, ", true},
		{"nodes", "nodeName: a, ", "nodeName: b, ", true},
		{"the same node", "nodeName: a, ", "nodeName: a, ", false},
		{"a node that is filled in", "nodeName: a, ", "nodeName: $NODE, ", false},
		{"pools", "nodeSelector: {example.org/pool: a}, ", "nodeSelector: {example.org/pool: b}, ", true},
		{"two labels", "nodeSelector: {pool: a}, ", "nodeSelector: {disk: b}, ", false},
		{"a label of the name of a field", "nodeName: a, ", "nodeSelector: {name: b}, ", false},
		{"a label that is filled in", "nodeSelector: {pool: a}, ", "nodeSelector: {pool: $POOL}, ", false},
		{"former names", "nodeSelector: {failure-domain.beta.kubernetes.io/zone: a}, ", "nodeSelector: {topology.kubernetes.io/zone: b}, ", true},
		{"affinity", linux, affinity(expression("kubernetes.io/os", "In", "windows")), true},
		{"affinity to several", linux, affinity(expression("kubernetes.io/os", "In", "windows, linux")), false},
		{"affinity to others", windows, affinity(expression("kubernetes.io/os", "NotIn", "windows")), true},
		{"affinity to one and to others", affinity(expression("disk", "In", "a")), affinity(expression("disk", "NotIn", "a")), true},
		{"with the label and without", `nodeSelector: {control-plane: ""}, `, affinity(expression("control-plane", "DoesNotExist", "")), true},
		{"any value and none", affinity(expression("disk", "Exists", "")), affinity(expression("disk", "DoesNotExist", "")), true},
		{"none and another", affinity(expression("disk", "NotIn", "a")), affinity(expression("disk", "DoesNotExist", "")), false},
		{"any value", affinity(expression("disk", "Exists", "")), "nodeSelector: {disk: a}, ", false},
		{"affinity to the other", linux, affinity(expression("kubernetes.io/os", "NotIn", "windows")), false},
		{"terms that all exclude it", linux, affinity(expression("kubernetes.io/os", "In", "windows"), expression("kubernetes.io/os", "In", "darwin")), true},
		{"a term that does not", linux, affinity(expression("kubernetes.io/os", "In", "windows"), expression("pool", "In", "a")), false},
		{"affinity to a node", "nodeName: a, ", affinity("{matchFields: [{key: metadata.name, operator: In, values: [b]}]}"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 {
				findings, _, _ := checkAll(t, Options{}, "", files{"a.yaml": pod("a", test.a, "{hostPort: 80}"), "b.yaml": pod("b", test.b, "{hostPort: 80}")}).lines()
				if (len(findings) == 0) != test.apart {
					t.Errorf("got %q", findings)
				}
				test.a, test.b = test.b, test.a
			}
		})
	}
}

func TestCopiesOfAnObjectAreOne(t *testing.T) {
	const owned = "apiVersion: v1\nkind: List\nitems:\n" +
		"  - {apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: a}, spec: {template: {spec: {containers: [{ports: [{hostPort: 80}]}]}}}}\n" +
		"  - {apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web-1, namespace: a, ownerReferences: [{kind: Deployment, name: web, controller: true}]}, spec: {template: {spec: {containers: [{ports: [{hostPort: 80}]}]}}}}\n" +
		"  - {apiVersion: v1, kind: Pod, metadata: {name: web-1-x, namespace: a, ownerReferences: [{kind: ReplicaSet, name: web-1, controller: true}]}, spec: {containers: [{ports: [{hostPort: 80}]}]}}\n" +
		"  - {apiVersion: v1, kind: Pod, metadata: {name: web-1-y, namespace: a, ownerReferences: [{kind: ReplicaSet, name: web-1, controller: true}]}, spec: {containers: [{ports: [{hostPort: 80}]}]}}\n"
	named := func(namespace string) string {
		return strings.Replace(pod("a", "", "{hostPort: 80}"), "name: a", "name: a, namespace: "+namespace, 1)
	}
	for name, test := range map[string]struct {
		files files
		want  int
	}{
		"what controllers made of it":          {files{"a.yaml": owned}, 0},
		"the same without its namespace":       {files{"a.yaml": named("shop"), "b.yaml": pod("a", "", "{hostPort: 80}")}, 0},
		"another namespace":                    {files{"a.yaml": named("shop"), "b.yaml": named("search")}, 1},
		"another kind":                         {files{"a.yaml": pod("a", "", "{hostPort: 80}"), "b.yaml": object("v1", "ReplicationController", "a", "template: {spec: {containers: [{ports: [{hostPort: 80}]}]}}")}, 1},
		"a pair in many copies is one line":    {files{"1/a.yaml": pod("a", "", "{hostPort: 80}"), "1/b.yaml": pod("b", "", "{hostPort: 80}"), "2/a.yaml": pod("a", "", "{hostPort: 80}"), "2/b.yaml": pod("b", "", "{hostPort: 80}")}, 1},
		"what a patch deletes":                 {files{"a.yaml": pod("a", "", "{hostPort: 80}"), "b.yaml": pod("b", "", "{hostPort: 80, $patch: delete}")}, 0},
		"a container that a patch deletes":     {files{"a.yaml": pod("a", "", "{hostPort: 80}"), "b.yaml": object("v1", "Pod", "b", "containers: [{name: a, $patch: delete, ports: [{hostPort: 80}]}]")}, 0},
		"an object that a patch deletes":       {files{"a.yaml": pod("a", "", "{hostPort: 80}"), "b.yaml": pod("b", "", "{hostPort: 80}") + "$patch: delete\n"}, 0},
		"objects without names are not copies": {files{"a.yaml": strings.Replace(pod("a", "", "{hostPort: 80}"), "name: a", "generateName: a", 1) + "---\n" + strings.Replace(pod("a", "", "{hostPort: 80}"), "name: a", "generateName: a", 1)}, 1},
	} {
		findings, _, _ := checkAll(t, Options{}, "", test.files).lines()
		if len(findings) != test.want {
			t.Errorf("%s: got %q, want %d", name, findings, test.want)
		}
	}
}

func TestPodsAreFoundInEveryKind(t *testing.T) {
	const template = "{spec: {containers: [{ports: [{hostPort: 80}]}]}}"
	for kind, spec := range map[string]string{
		"argoproj.io/v1alpha1 Rollout":                  "template: " + template,
		"apps.openshift.io/v1 DeploymentConfig":         "template: " + template,
		"apps.kruise.io/v1alpha1 CloneSet":              "template: " + template,
		"apps.kruise.io/v1alpha1 AdvancedCronJob":       "template: {jobTemplate: {spec: {template: " + template + "}}}",
		"apps.kruise.io/v1alpha1 UnitedDeployment":      "template: {statefulSetTemplate: {spec: {template: " + template + "}}}",
		"serving.knative.dev/v1 Service":                "template: " + template,
		"elasticsearch.k8s.elastic.co/v1 Elasticsearch": "nodeSets: [{podTemplate: " + template + "}]",
		"kubeflow.org/v1 PyTorchJob":                    "pytorchReplicaSpecs: {Worker: {template: " + template + "}}",
		"monitoring.coreos.com/v1 Prometheus":           "containers: [{ports: [{hostPort: 80}]}]",
		"leaderworkerset.x-k8s.io/v1 LeaderWorkerSet":   "leaderWorkerTemplate: {workerTemplate: " + template + "}",
		"example.org/v1 NobodyKnows":                    "a: [{b: {<<: &x {c: " + template + "}}}]",
		"batch/v1 CronJob":                              "jobTemplate: {spec: {template: " + template + "}}",
		"v1 Pod":                                        "containers: [{ports: [{hostPort: 80}]}]",
	} {
		version, name, _ := strings.Cut(kind, " ")
		r := checkAll(t, Options{}, "", files{"a.yaml": pod("a", "", "{hostPort: 80}"), "b.yaml": object(version, name, "b", spec)})
		findings, _, _ := r.lines()
		if len(findings) != 1 || r.Workloads != 2 || !strings.Contains(findings[0], "hostPort 80/TCP of "+name+" default/b is already taken by Pod default/a") {
			t.Errorf("%s: got %q, %d workloads", kind, findings, r.Workloads)
		}
	}
	findings, _, _ := checkAll(t, Options{}, "", files{
		"a.yaml": pod("a", "", "{hostPort: 80}"),
		"b.yaml": "apiVersion: template.openshift.io/v1\nkind: Template\nobjects:\n  - {apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{ports: [{hostPort: 80}, {hostPort: \"${{PORT}}\"}]}]}}\n",
	}).lines()
	if len(findings) != 1 {
		t.Errorf("in a Template: got %q", findings)
	}
}

func TestWhatIsNotLookedIntoIsCountedByKind(t *testing.T) {
	r := checkAll(t, Options{}, "", files{
		"a.yaml": object("helm.toolkit.fluxcd.io/v2", "HelmRelease", "a", "values: {containers: [{ports: [{hostPort: 80}]}]}") + "---\n" +
			object("helm.toolkit.fluxcd.io/v2", "HelmRelease", "b", "") + "---\n" + object("helm.cattle.io/v1", "HelmChart", "b", ""),
		"b.yaml":                 object("kafka.strimzi.io/v1beta2", "Kafka", "a", "kafka: {listeners: [{configuration: {bootstrap: {nodePort: 32000}}}]}"),
		"c.yaml":                 object("example.org/v1", "Other", "a", "x: y") + "---\n" + object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "a", "hostPort: {type: integer}"),
		"chart/Chart.yaml":       "name: a\n",
		"chart/values.yaml":      "hostPort: 80\n",
		"chart/templates/a.yaml": pod("a", "", "{hostPort: 80}"),
		"f.yaml":                 "kind: List\nitems: []\n---\nkind: Pod\nmetadata: {name: a}\n---\nkind: settings of something else\n",
		"g.yaml":                 object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "a", "path: ./, targetNamespace: shop"),
		"h.yaml":                 object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "b", "targetNamespace: shop"),
		"i.yaml":                 object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "c", "path: ./"),
		"d.yaml":                 pod("d", "", "{hostPort: @PORT@}"),
		"e.yaml":                 pod("e", "", "{hostPort: $PORT}", "{hostPort: '${OTHER}'}"),
	})
	want := map[string]int{"HelmRelease": 2, "HelmChart": 1, "Kafka": 1, "template": 3, "unversioned object": 2, "kustomization": 2}
	for kind, n := range want {
		if r.NotChecked[kind] != n {
			t.Errorf("%d %s, want %d", r.NotChecked[kind], kind, n)
		}
	}
	if len(r.NotChecked) != len(want) || r.Workloads != 1 || r.Services != 0 || len(r.Findings)+len(r.Unread) > 0 {
		t.Errorf("got %+v", r)
	}
}

func TestPlaceholdersAreTemplates(t *testing.T) {
	for _, placeholder := range []string{
		"@PORT@", "$PORT", "${PORT}", "$(PORT)", "__PORT__", "<PORT>", "<your port>", "'%PORT%'", "%PORT%", "'#{PORT}#'", "#{PORT}#",
		"PORT", "NODE_PORT", "((port))", "[[ port ]]", "{{ port }}", "{port}", "'{{ port }}'", "<%= port %>", "@project.port@", "'%(port)s'",
	} {
		for form, content := range map[string]string{
			"in a block": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n    - ports:\n        - hostPort: " + placeholder + "\n",
			"a nodePort": "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n    - port: 80\n      nodePort: " + placeholder + "\n",
		} {
			r := checkAll(t, Options{}, "", files{"a.yaml": content})
			if len(r.Findings)+len(r.Unread) > 0 || r.NotChecked["template"] != 1 {
				t.Errorf("%s %s: got %v %v %v", placeholder, form, r.Findings, r.Unread, r.NotChecked)
			}
		}
	}
	for _, mistake := range []string{"http", "80a", "80/TCP", "'80'", "eighty", "-1", "70000"} {
		if findings, _, _ := checkAll(t, Options{}, "", files{"a.yaml": pod("a", "", "{hostPort: "+mistake+"}")}).lines(); len(findings) != 1 {
			t.Errorf("%s: got %q", mistake, findings)
		}
	}
}

func TestAFaultOfYAMLIsWhereAnEditorShowsIt(t *testing.T) {
	const head = "apiVersion: v1\nkind: ConfigMap\n---\napiVersion: v1\nkind: Pod\n"
	for name, test := range map[string]struct{ content, place string }{
		"a tab":                      {head + "spec:\n\tcontainers: []\n", "7:1"},
		"a tab with CRLF":            {strings.ReplaceAll(head+"spec:\n\tcontainers: []\n", "\n", "\r\n"), "7:1"},
		"a colon":                    {head + "spec:\n  a: b: c\n", "7:7"},
		"a bracket":                  {head + "spec:\n  containers: [{name: a}\n---\nkind: Pod\n", "7:15"},
		"quotes":                     {head + "spec:\n  a: \"b\n", "7:6"},
		"after a line break of YAML": {head + "# \u2028 \u0085\nspec:\n\tcontainers: []\n", "8:1"},
		"a byte that is not UTF-8":   {head + "spec:\n  a: \xf0\n", "7:6"},
		"a control character":        {head + "spec:\n  a: b\x01\n", "7:7"},
		"a list out of place":        {head + "spec:\n  containers:\n    - name: a\n  - b\n", "9:3"},
		"JSON":                       {"{\n \"kind\": \"Pod\",\n \"spec\": {\"a\": 1,, }\n}\n", "3:18"},
	} {
		_, unread, _ := checkAll(t, Options{}, "", files{"a.yaml": test.content}).lines()
		if len(unread) != 1 || !strings.HasPrefix(unread[0], "deploy/a.yaml:"+test.place+": is not ") {
			t.Errorf("%s: got %q, want it at %s", name, unread, test.place)
		}
	}
}

func TestServicesWithoutANodePortAreJudgedAsThePolicyDoes(t *testing.T) {
	const narrow = `apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {listen-exporter/port-range: '30000-30999'}}
`
	in := func(object string) string {
		return strings.Replace(object, "metadata: {", "metadata: {namespace: shop, ", 1)
	}
	for name, test := range map[string]struct {
		object string
		want   string // part of the finding
	}{
		"a NodePort":                      {service("a", "type: NodePort, ", "{port: 80}"), "nodePort of Service shop/a is not set, so the API server chooses one, which need not be in the annotation"},
		"a LoadBalancer":                  {service("a", "type: LoadBalancer, ", "{port: 80}"), "nodePort of Service shop/a is not set"},
		"one without nodePorts":           {service("a", "type: LoadBalancer, allocateLoadBalancerNodePorts: false, ", "{port: 80}"), ""},
		"a health check":                  {service("a", "type: LoadBalancer, allocateLoadBalancerNodePorts: false, externalTrafficPolicy: Local, ", "{port: 80}"), "healthCheckNodePort of Service shop/a is not set"},
		"a ClusterIP":                     {service("a", "", "{port: 80}"), ""},
		"an ExternalName":                 {service("a", "type: ExternalName, ", "{port: 80}"), ""},
		"an external IP":                  {service("a", "externalIPs: [192.0.2.1], ", "{port: 443}"), "externalIP port 443 of Service shop/a is not among the ports in the annotation listen-exporter/port-range of its Namespace at deploy/ns.yaml:3: want one of 30000-30999"},
		"an external IP inside":           {service("a", "externalIPs: [192.0.2.1], ", "{port: 30443}"), ""},
		"a nodePort outside":              {service("a", "type: NodePort, ", "{port: 80, nodePort: 31000}"), "nodePort 31000 of Service shop/a is not among the ports in the annotation"},
		"a nodePort inside":               {service("a", "type: NodePort, ", "{port: 80, nodePort: 30999}"), ""},
		"a hostPort outside":              {pod("a", "", "{hostPort: 8080}"), "hostPort 8080 of Pod shop/a is not among the ports in the annotation"},
		"a hostPort of an init container": {object("v1", "Pod", "a", "initContainers: [{ports: [{hostPort: 8080}]}], containers: [{}]"), "hostPort 8080 of Pod shop/a is not among the ports in the annotation"},
		"another namespace":               {strings.Replace(pod("a", "", "{hostPort: 8080}"), "{name", "{namespace: other, name", 1), ""},
	} {
		o := test.object
		if !strings.Contains(o, "namespace: other") {
			o = in(o)
		}
		findings, _, _ := checkAll(t, Options{}, "", files{"a.yaml": o, "ns.yaml": narrow}).lines()
		if test.want == "" {
			diff(t, name, nil, findings)
		} else if len(findings) != 1 || !strings.Contains(findings[0], test.want) {
			t.Errorf("%s: got %q, want %s", name, findings, test.want)
		}
	}
	findings, _, _ := checkAll(t, Options{}, "", files{"a.yaml": in(service("a", "type: NodePort, ", "{port: 80}")), "ns.yaml": strings.Replace(narrow, "30000-30999", "30000-32767", 1)}).lines()
	diff(t, "all ports from which the API server chooses", nil, findings)
}

func TestPortsBelow1024AreFoundOnceTheirPolicyIsInUse(t *testing.T) {
	const ns = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ingress, annotations: {listen-exporter/allow-privileged-ports: '80,443'}}\n"
	in := func(namespace string, port string) string {
		return strings.Replace(pod("a", "", "{hostPort: "+port+"}"), "{name", "{namespace: "+namespace+", name", 1)
	}
	for _, test := range []struct {
		name  string
		files files
		want  int
	}{
		{"not in use", files{"a.yaml": in("web", "80")}, 0},
		{"allowed", files{"a.yaml": in("ingress", "443"), "ns.yaml": ns}, 0},
		{"another port", files{"a.yaml": in("ingress", "444"), "ns.yaml": ns}, 1},
		{"another namespace", files{"a.yaml": in("web", "80"), "ns.yaml": ns}, 1},
		{"the policy itself", files{"a.yaml": in("web", "80"), "p.yaml": "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: listen-exporter-privileged-ports}\n"}, 1},
		{"kube-system", files{"a.yaml": in("kube-system", "80"), "ns.yaml": ns}, 0},
		{"from 1024 on", files{"a.yaml": in("web", "1024"), "ns.yaml": ns}, 0},
		{"an annotation that cannot be read", files{"a.yaml": in("ingress", "80"), "ns.yaml": strings.Replace(ns, "80,443", "80 443", 1)}, 2},
	} {
		if findings, _, _ := checkAll(t, Options{}, "", test.files).lines(); len(findings) != test.want {
			t.Errorf("%s: got %q, want %d", test.name, findings, test.want)
		}
	}
}

func TestStandardInputAndExcludedFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	files{"deploy/a.yaml": pod("a", "", "{hostPort: 80}"), "deploy/test/x.yaml": pod("x", "", "{hostPort: 80}"), "deploy/charts/b/c.yaml": pod("c", "", "{hostPort: 80}")}.write(t, ".")
	for _, test := range []struct {
		exclude []string
		want    int // files
	}{
		{nil, 4},
		{[]string{"test"}, 3},
		{[]string{"charts/**"}, 3},
		{[]string{"charts", "x.*"}, 2},
		{[]string{"deploy/charts"}, 3},
		{[]string{"**/b"}, 3},
		{[]string{"**/*.yaml"}, 1},
		{[]string{"b"}, 3},
		{[]string{"/b"}, 4},
		{[]string{"nothing"}, 4},
		{[]string{"./test/"}, 3},
	} {
		r, err := Check(Options{Exclude: test.exclude}, []string{"deploy", Stdin}, strings.NewReader(pod("in", "", "{hostPort: 80}")))
		if err != nil || r.Files != test.want {
			t.Errorf("%q: %d files, %v, want %d", test.exclude, r.Files, err, test.want)
		}
		findings, _, _ := r.lines()
		if test.want > 1 && !slices.ContainsFunc(findings, func(f string) bool { return strings.HasPrefix(f, "<stdin>:4:") }) {
			t.Errorf("%q: got %q", test.exclude, findings)
		}
	}
}

func TestEachFileIsReadOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	files{"k/app/a.yaml": pod("a", "", "{hostPort: 80}"), "k/b.yaml": pod("b", "", "{hostPort: 80}")}.write(t, ".")
	r, err := Check(Options{}, []string{"k/b.yaml", "k", "k/app", "./k/app/a.yaml"}, nil)
	if err != nil || r.Workloads != 2 || len(r.Findings) != 1 {
		t.Errorf("%d workloads, %v, %v, want 2 and one finding", r.Workloads, r.Findings, err)
	}
	if r, err = Check(Options{Exclude: []string{"b.*"}}, []string{"k/b.yaml", "k/app/a.yaml"}, nil); err != nil || r.Workloads != 1 {
		t.Errorf("%d workloads, %v, want one without what is left out", r.Workloads, err)
	}
}

func TestAnObjectMayTakePortsNextToItsPod(t *testing.T) {
	r := checkAll(t, Options{}, "", files{
		"a.yaml": "apiVersion: agones.dev/v1\nkind: Fleet\nspec: {template: {spec: {ports: [{hostPort: 8080}], template: {spec: {containers: [{image: a}]}}}}}\n",
	})
	if r.Workloads != 1 || r.NotChecked["Fleet"] != 1 {
		t.Errorf("%d workloads, not checked %v, want the Fleet in both", r.Workloads, r.NotChecked)
	}
}

func TestAListOfObjectsIsChecked(t *testing.T) {
	object := func(name string) string {
		return `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "` + name + `"}, "spec": {"containers": [{"ports": [{"hostPort": 80}]}]}}`
	}
	for name, content := range map[string]string{"a.json": "[" + object("a") + "," + object("b") + "]", "a.yaml": "- " + object("a") + "\n- " + object("b") + "\n"} {
		if r := checkAll(t, Options{}, "", files{name: content}); r.Workloads != 2 || len(r.Findings) != 1 {
			t.Errorf("%s: %d workloads, %v, want 2 and one finding", name, r.Workloads, r.Findings)
		}
	}
}

func TestValuesOfKubernetesThatAreNotThoseOfYAML(t *testing.T) {
	const ports = "reserved: [{team: a, ports: 30000-30099, namespaces: [default]}]\n"
	for _, no := range []string{"false", "no", "False", "OFF"} {
		expect(t, ports, files{"a.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: LoadBalancer, allocateLoadBalancerNodePorts: " + no + ", ports: [{port: 80}]}\n"}, nil, nil)
	}
	expect(t, "", files{"a.yaml": pod("a", `hostNetwork: "true", `, "{containerPort: 80}")}, []string{
		`deploy/a.yaml:4:21: hostNetwork of Pod default/a is "true" in quotes: want true or false`,
	}, nil)
}
