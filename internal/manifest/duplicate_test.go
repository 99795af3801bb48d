//go:build linux

package manifest

import (
	"slices"
	"strings"
	"testing"
)

// pod returns a Pod with the ports, each a flow mapping, of one container.
func pod(name, spec string, ports ...string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec: {" + spec + "containers: [{ports: [" + strings.Join(ports, ", ") + "]}]}\n"
}

func TestDuplicateHostPortsAreFound(t *testing.T) {
	const host = "hostNetwork: true, "
	for _, test := range []struct {
		name string
		a, b string
		want string // of b, without its place
	}{
		{"another port", pod("a", "", "{hostPort: 80}"), pod("b", "", "{hostPort: 81}"), ""},
		{"another protocol", pod("a", "", "{hostPort: 53, protocol: UDP}"), pod("b", "", "{hostPort: 53}"), ""},
		{"other addresses", pod("a", "", "{hostPort: 80, hostIP: 10.0.0.1}"), pod("b", "", "{hostPort: 80, hostIP: 10.0.0.2}"), ""},
		{
			"the same address in two forms", pod("a", "", "{hostPort: 80, hostIP: '2001:db8::0'}"), pod("b", "", "{hostPort: 80, hostIP: '2001:db8:0::'}"),
			"hostPort [2001:db8::]:80/TCP of Pod default/b",
		},
		{
			"a mapped address", pod("a", "", "{hostPort: 80, hostIP: '::ffff:10.0.0.1'}"), pod("b", "", "{hostPort: 80, hostIP: 10.0.0.1}"),
			"hostPort 10.0.0.1:80/TCP of Pod default/b",
		},
		{"an address and ::", pod("a", "", "{hostPort: 80, hostIP: 10.0.0.1}"), pod("b", "", "{hostPort: 80, hostIP: '::'}"), "hostPort 80/TCP of Pod default/b"},
		{"no host port", pod("a", "", "{containerPort: 80}"), pod("b", "", "{containerPort: 80}"), ""},
		{
			"host networking", pod("a", host, "{containerPort: 80}"), pod("b", host, "{containerPort: 80}"),
			"containerPort 80/TCP of Pod default/b (host networking)",
		},
		{
			"host networking on other addresses",
			pod("a", host, "{containerPort: 80, hostIP: 127.0.0.1}"), pod("b", host, "{containerPort: 80, hostIP: 10.0.0.1}"), "",
		},
		{"host networking and a host port", pod("a", host, "{containerPort: 80}"), pod("b", "", "{hostPort: 80}"), "hostPort 80/TCP of Pod default/b"},
		{
			"host networking with both", pod("a", host, "{containerPort: 80, hostPort: 80}"), pod("b", host, "{hostPort: 80}"),
			"hostPort 80/TCP of Pod default/b (host networking)",
		},
		{"the same pod twice", pod("a", "", "{hostPort: 80}"), pod("a", "", "{hostPort: 80}"), ""},
		{"numbers of YAML 1.1", pod("a", "", "{hostPort: 0x1F90}"), pod("b", "", "{hostPort: 8_080}"), "hostPort 8080/TCP of Pod default/b"},
		{
			"another name and namespace", pod("a", "", "{hostPort: 80}"), strings.Replace(pod("b", "", "{hostPort: 80}"), "{name: b}", "{name: b, namespace: web}", 1),
			"hostPort 80/TCP of Pod web/b",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			findings, _, skipped := checkAll(t, Options{}, "", files{"a.yaml": test.a, "b.yaml": test.b}).lines()
			diff(t, "skipped", nil, skipped)
			if test.want == "" {
				diff(t, "findings", nil, findings)
				return
			}
			if len(findings) != 1 {
				t.Fatalf("got %q, want one finding", findings)
			}
			place, text, _ := strings.Cut(findings[0], ": ")
			if !strings.HasPrefix(place, "deploy/b.yaml:4:") {
				t.Errorf("got it at %s", place)
			}
			if want := test.want + " is already taken by Pod default/a at deploy/a.yaml:4: want another port"; text != want {
				t.Errorf("got %q, want %q", text, want)
			}
		})
	}
}

func TestEveryKindOfWorkloadIsCompared(t *testing.T) {
	const template = "template: {spec: {containers: [{ports: [{hostPort: 80}]}]}}"
	for kind, spec := range map[string]string{
		"v1 ReplicationController":      template,
		"apps/v1 Deployment":            template,
		"extensions/v1beta1 Deployment": template,
		"apps/v1 DaemonSet":             template,
		"apps/v1 ReplicaSet":            template,
		"apps/v1 StatefulSet":           "replicas: 3, " + template,
		"batch/v1 Job":                  template,
		"batch/v1beta1 CronJob":         "jobTemplate: {spec: {" + template + "}}",
	} {
		version, name, _ := strings.Cut(kind, " ")
		object := "apiVersion: " + version + "\nkind: " + name + "\nmetadata: {name: b}\nspec: {" + spec + "}\n"
		item := "{apiVersion: " + version + ", kind: " + name + ", metadata: {name: b}, spec: {" + spec + "}}"
		for form, content := range map[string]string{
			"by itself":       object,
			"second document": "apiVersion: v1\nkind: ConfigMap\n---\n" + object,
			"in a List":       "apiVersion: v1\nkind: List\nitems: [" + item + "]\n",
			"in two Lists":    "{apiVersion: v1, kind: List, items: [~, {kind: List, items: [" + item + "]}]}\n",
			"in its own list": "apiVersion: " + version + "\nkind: " + name + "List\nitems: [{metadata: {name: b}, spec: {" + spec + "}}]\n",
		} {
			findings, _, _ := checkAll(t, Options{}, "", files{"a.yaml": pod("a", "", "{hostPort: 80}"), "b.yaml": content}).lines()
			if len(findings) != 1 || !strings.Contains(findings[0], ": hostPort 80/TCP of "+name+" default/b is already taken by Pod default/a at deploy/a.yaml:4") {
				t.Errorf("%s %s: got %q", kind, form, findings)
			}
		}
	}
}

func TestDuplicatesOfSeveralWorkloadsNameTheFirst(t *testing.T) {
	expect(t, "", files{"node.yaml": `# What runs on each node.
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: node-exporter
  namespace: monitoring
spec:
  template:
    spec:
      hostNetwork: true
      initContainers:
        - name: sysctl
          ports: [{containerPort: 9110}]   # ends before the others begin
        - name: proxy
          restartPolicy: Always
          ports: [{containerPort: 9111}]
      containers:
        - name: node-exporter
          ports:
            - name: metrics
              containerPort: 9100
              hostPort: 9100
            - containerPort: 9101
              hostPort: 9102
        - name: second
          ports: &ports
            - containerPort: 9100
`, "web.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: web}
spec:
  replicas: 3
  template:
    spec:
      containers:
        - &base
          ports:
            - {containerPort: 80, hostPort: 9100}
            - {containerPort: 81, hostPort: 9111}
            - {containerPort: 82, hostPort: 9110}
            - {containerPort: 83, hostPort: 9101}
---
apiVersion: v1
kind: Pod
metadata: {name: copy}
x: &merged {ports: [{hostPort: 9101}]}
spec:
  containers:
    - name: merged
      <<: *merged
`}, []string{
		"deploy/node.yaml:24:25: hostPort 9102 of DaemonSet monitoring/node-exporter differs from its containerPort 9101, which host networking does not allow: want hostPort: 9101, or none",
		"deploy/node.yaml:27:30: containerPort 9100/TCP of DaemonSet monitoring/node-exporter (host networking) is already taken by the same pod at deploy/node.yaml:21: want another port",
		"deploy/web.yaml:11:45: hostPort 9100/TCP of Deployment web/web is already taken by DaemonSet monitoring/node-exporter at deploy/node.yaml:21, and so are 9111/TCP, 9110/TCP, 9101/TCP: want other ports",
		"deploy/web.yaml:19:32: hostPort 9101/TCP of Pod default/copy is already taken by DaemonSet monitoring/node-exporter at deploy/node.yaml:23: want another port",
	}, nil)
}

func TestAWorkloadThatIsDescribedTwiceStillMeetsOthers(t *testing.T) {
	expect(t, "", files{
		"base/a.yaml": pod("a", "", "{hostPort: 80}"), "base/b.yaml": pod("b", "", "{hostPort: 81}"),
		"over/a.yaml": pod("a", "", "{hostPort: 80}", "{hostPort: 81}"), "over/b.yaml": pod("b", "", "{hostPort: 80}", "{hostPort: 80}"),
	}, []string{
		"deploy/over/a.yaml:4:57: hostPort 81/TCP of Pod default/a is already taken by Pod default/b at deploy/base/b.yaml:4, and so is 80/TCP: want other ports",
		"deploy/over/b.yaml:4:57: hostPort 80/TCP of Pod default/b is already taken by the same pod at deploy/over/b.yaml:4: want another port",
	}, nil)
}

func TestAPortThatIsNotANumberIsFound(t *testing.T) {
	for port, want := range map[string]string{
		"65536":   "is 65536",
		"http":    "is http",
		"'80'":    `is not a number but "80"`,
		"''":      "is not a number",
		"[80]":    "is not a number",
		`"\e[1m"`: `is "\x1b[1m"`,
		"0b2":     "is 0b2",
	} {
		expect(t, "", files{"a.json": pod("a", "", "{hostPort: "+port+"}")}, []string{"deploy/a.json:4:41: hostPort of Pod default/a " + want + ": want a number from 1 to 65535"}, nil)
	}
}

func TestJSONIsRead(t *testing.T) {
	expect(t, "", files{"a.json": `{
	"apiVersion": "v1",
	"kind": "Pod",
	"metadata": {"name": "a", "annotations": {"a\/b": "\ud83d\ude00 \"x\" {{ y }}"}},
	"spec": {
		"containers": [
			{"ports": [
				{"hostPort": 80, "hostIP": "127.0.0.1"},
				{"hostPort": 80}
			]}
		]
	}
}
`}, []string{
		"deploy/a.json:9:18: hostPort 80/TCP of Pod default/a is already taken by the same pod at deploy/a.json:8: want another port",
	}, nil)
}

func TestAnInvalidAddressOrProtocolIsFound(t *testing.T) {
	for port, want := range map[string]string{
		"{hostPort: 80, hostIP: localhost}":                   "53: hostIP of Pod default/a is localhost: want an IP address",
		"{hostPort: 80, hostIP: 10.0.0.0/8}":                  `53: hostIP of Pod default/a is "10.0.0.0/8": want an IP address`,
		"{hostPort: 80, protocol: tcp}":                       "55: protocol of Pod default/a is tcp: want TCP, UDP or SCTP",
		"{hostPort: 80, protocol: 'T\nP'}":                    `55: protocol of Pod default/a is "T P": want TCP, UDP or SCTP`,
		"{hostPort: 80, hostIP: ~, protocol: ~}":              "",
		"{containerPort: 80, hostIP: localhost, protocol: x}": "",
	} {
		findings, _, _ := checkAll(t, Options{}, "", files{"a.yaml": pod("a", "", port)}).lines()
		if want == "" {
			diff(t, port, nil, findings)
		} else if !slices.Contains(findings, "deploy/a.yaml:4:"+want) {
			t.Errorf("%s: got %q, want %s", port, findings, want)
		}
	}
	findings, _, _ := checkAll(t, Options{}, "", files{"a.yaml": pod("a", "", "{hostPort: 80, protocol: tcp}"), "b.yaml": pod("b", "", "{hostPort: 80}")}).lines()
	if len(findings) != 2 {
		t.Errorf("tcp and TCP: got %q, want them to be the same", findings)
	}
}

func TestJSONObjectsMayFollowEachOther(t *testing.T) {
	object := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "NAME"}, "spec": {"containers": [{"ports": [{"hostPort": 80}]}]}}`
	a, b := strings.Replace(object, "NAME", "a", 1), strings.Replace(object, "NAME", "b", 1)
	expect(t, "", files{"a.json": a + "\n" + b + "\n\n{\n\"a\": 1}\n"}, []string{"deploy/a.json:2:112: hostPort 80/TCP of Pod default/b is already taken by Pod default/a at deploy/a.json:1: want another port"}, nil)
	expect(t, "", files{"a.json": a + b + "{}"}, []string{"deploy/a.json:1:231: hostPort 80/TCP of Pod default/b is already taken by Pod default/a at deploy/a.json:1: want another port"}, nil)

	_, unread, skipped := checkAll(t, Options{}, "", files{
		"cut.json": a[:len(a)-3], "many.json": strings.Repeat("{}", maxObjects+1), "numbers.json": strings.Repeat("1 ", 1<<20),
	}).lines()
	if len(unread) != 1 || !strings.HasPrefix(unread[0], "deploy/cut.json:1:116: is not JSON: ") {
		t.Errorf("unread %q, want cut.json", unread)
	}
	if len(skipped) != 1 || !strings.HasPrefix(skipped[0], "deploy/many.json:1: is not ") {
		t.Errorf("skipped %q, want many.json", skipped)
	}
}
