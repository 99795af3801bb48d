//go:build linux

package manifest

import (
	"strings"
	"testing"
)

func TestPortsThatAreNotReservedForTheNamespaceAreFound(t *testing.T) {
	expectWith(t, Options{ServicePorts: true}, `reserved:
  - team: alpha
    ports: [30000-30999, 8080]
    namespaces: [team-alpha, team-alpha-test]
  - team: beta
    ports: 31000-31999
    namespaces: [team-beta]
  - team: hosts
    ports: 9000-9099
`, files{
		"alpha.yaml": `apiVersion: v1
kind: Service
metadata: {name: web, namespace: team-alpha}
spec:
  type: NodePort
  healthCheckNodePort: 32000
  ports:
    - {port: 8080, nodePort: 30000}
    - {port: 443, nodePort: 31000, targetPort: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: team-alpha-test}
spec:
  template:
    metadata: {namespace: team-beta}
    spec:
      containers:
        - ports:
            - {containerPort: 80, hostPort: 30999}
            - {containerPort: 443, hostPort: 9001}
            - {containerPort: 31000}
`,
		"default.yaml": `apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Service
    metadata: {name: any}
    spec: {ports: [{port: 80}, {port: 31999}, {port: 32000}]}
  - apiVersion: batch/v1
    kind: CronJob
    metadata: {name: night, namespace: other}
    spec: {jobTemplate: {spec: {template: {spec: {hostNetwork: true, containers: [{ports: [{containerPort: 9000}, {containerPort: 79}]}]}}}}}
`,
	}, []string{
		"deploy/alpha.yaml:6:24: healthCheckNodePort 32000 of Service team-alpha/web is not among the ports reserved for namespace team-alpha at ports.yml:3: want one of 8080, 30000-30999",
		"deploy/alpha.yaml:9:14: port 443 of Service team-alpha/web is not among the ports reserved for namespace team-alpha at ports.yml:3: want one of 8080, 30000-30999",
		`deploy/alpha.yaml:9:29: nodePort 31000 of Service team-alpha/web is reserved for team "beta" at ports.yml:6: want one of 8080, 30000-30999`,
		`deploy/alpha.yaml:21:46: hostPort 9001 of Deployment team-alpha-test/web is reserved for team "hosts" at ports.yml:9: want one of 8080, 30000-30999`,
		`deploy/default.yaml:7:39: port 31999 of Service default/any is reserved for team "beta" at ports.yml:6: want a port that is not reserved`,
		`deploy/default.yaml:11:108: containerPort 9000 of CronJob other/night is reserved for team "hosts" at ports.yml:9: want a port that is not reserved`,
	}, nil)
}

func TestALongListOfRangesIsCut(t *testing.T) {
	expectWith(t, Options{ServicePorts: true}, "reserved: [{team: a, ports: [1, 2-3, 5, 7, 9, 11, 13], namespaces: [default]}]\n", files{
		"a.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n",
	}, []string{
		"deploy/a.yaml:4:23: port 80 of Service default/a is not among the ports reserved for namespace default at ports.yml:1: want one of 1, 2-3, 5, 7, 9, …",
	}, nil)
}

func TestOnlyTheTypeExternalNameHasNoPortsOfItsOwn(t *testing.T) {
	for spec, want := range map[string]int{
		"type: ClusterIP": 1, "type: NodePort": 1, "type: LoadBalancer": 1, "clusterIP: None": 1, "type: ''": 1, "type: ExternalName": 0,
	} {
		findings, _, _ := checkAll(t, Options{ServicePorts: true}, "reserved: [{team: a, ports: 100-200, namespaces: [a]}]\n", files{
			"a.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\nspec: {" + spec + ", ports: [{port: 80, nodePort: 150, targetPort: 9}]}\n",
		}).lines()
		if len(findings) != want {
			t.Errorf("%s: got %q, want %d for port 80", spec, findings, want)
		}
	}
}

func TestANodePortThatIsAServiceOfTheRegistryIsFound(t *testing.T) {
	const ports = `services:
  - {name: haproxy, port: [80, 30080]}
  - {name: dns, port: 30053, proto: udp}
  - {name: web, port: 30081}
  - {name: local, port: 30082, bind: loopback}
  - {name: proxy, port: 30083, process: kube-proxy}
`
	for port, want := range map[string]string{
		"30080":                "nodePort 30080/TCP of Service default/web is the port of service \"haproxy\" at ports.yml:2: want another port",
		"30053":                "",
		"30053, protocol: UDP": "nodePort 30053/UDP of Service default/web is the port of service \"dns\" at ports.yml:3: want another port",
		"30081":                "", // it has the same name
		"30082":                "",
		"30083":                "",
		"30084":                "",
	} {
		findings, _, _ := checkAll(t, Options{}, ports, files{"a.yaml": service("web", "type: NodePort, ", "{port: 80, nodePort: "+port+"}")}).lines()
		if want == "" {
			diff(t, port, nil, findings)
		} else if len(findings) != 1 || !strings.HasSuffix(findings[0], ": "+want) {
			t.Errorf("%s: got %q, want %s", port, findings, want)
		}
	}
	expect(t, "services: [{name: all, port: 30000-32767, required: false}]\n", files{"a.yaml": service("web", "type: NodePort, ", "{port: 80, nodePort: 30080}")}, nil, nil)
	expect(t, ports, files{"a.yaml": pod("a", "", "{hostPort: 80}")}, nil, nil) // that may be the service itself
}

func TestAPortOfANodeThatTheRegistryForbidsIsFound(t *testing.T) {
	const ports = `forbidden:
  - {port: 23, reason: telnet}
  - {port: 9100, reason: only for the scraper, bind: loopback}
  - {port: 161, proto: udp, reason: snmp}
  - {port: 79, reason: finger, hosts: [web-1]}
  - {port: 31000, reason: kept free}
`
	const host = "hostNetwork: true, "
	for _, test := range []struct{ name, object, want string }{
		{"a hostPort", pod("a", "", "{hostPort: 23}"), "hostPort 23/TCP of Pod default/a is forbidden at ports.yml:2 (telnet): want another port"},
		{"at an address", pod("a", "", "{hostPort: 23, hostIP: 127.0.0.1}"), "hostPort 127.0.0.1:23/TCP of Pod default/a is forbidden at ports.yml:2 (telnet): want another port"},
		{"host networking", pod("a", host, "{containerPort: 23}"), "containerPort 23/TCP of Pod default/a is forbidden at ports.yml:2 (telnet): want another port"},
		{"a port of the pod's own network", pod("a", "", "{containerPort: 23}"), ""},
		{"the other protocol", pod("a", "", "{hostPort: 161}"), ""},
		{"the protocol", pod("a", "", "{hostPort: 161, protocol: UDP}"), "hostPort 161/UDP of Pod default/a is forbidden at ports.yml:4 (snmp): want another port"},
		{"everywhere but at loopback", pod("a", "", "{hostPort: 9100}"), "hostPort 9100/TCP of Pod default/a is forbidden at ports.yml:3 (only for the scraper): want another port"},
		{"at loopback", pod("a", "", "{hostPort: 9100, hostIP: 127.0.0.1}"), ""},
		{"host networking, which may be at loopback", pod("a", host, "{containerPort: 9100}"), ""},
		{"on some hosts", pod("a", "", "{hostPort: 79}"), ""},
		{"a nodePort", service("a", "type: NodePort, ", "{port: 80, nodePort: 31000}"), "nodePort 31000/TCP of Service default/a is forbidden at ports.yml:6 (kept free): want another port"},
		{"the port of a Service", service("a", "", "{port: 23}"), ""},
	} {
		findings, _, _ := checkAll(t, Options{ServicePorts: true}, ports, files{"a.yaml": test.object}).lines()
		if test.want == "" {
			diff(t, test.name, nil, findings)
		} else if len(findings) != 1 || !strings.HasSuffix(findings[0], ": "+test.want) {
			t.Errorf("%s: got %q, want %s", test.name, findings, test.want)
		}
	}
}
