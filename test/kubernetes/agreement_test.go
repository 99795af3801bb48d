package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// agreement is an object on which the policies and check have the same answer, or a reason why they have not.
type agreement struct {
	name, namespace, object string
	denied                  bool
	// exception is why only check finds fault with the object. The policies admit it.
	exception string
}

// Ranges and privileged ports of the namespaces in the table. One without an annotation is not listed.
var (
	agreedRanges = map[string]string{
		"agree-range": "30000-30049", "agree-list": "30000-30499, 31500,31000-31099", "agree-narrow": "20000", "agree-both": "80,30000",
		"agree-colon": "30000:30999", "agree-empty": "",
	}
	agreedPrivileged = map[string]string{"agree-low": "80,400-499", "agree-both": "80", "agree-typo": "80 443"}
)

// testAgreement gives the objects of one table to the API server and to check.
func (c *cluster) testAgreement(t *testing.T) {
	program := buildProgram(t)
	for _, namespace := range []string{
		"agree-range", "agree-list", "agree-narrow", "agree-both", "agree-colon", "agree-empty", "agree-low", "agree-typo", "agree-free",
	} {
		c.must(t, namespaceObject(namespace), "create", "--filename", "-")
	}
	for _, row := range agreements() {
		t.Run(row.name, func(t *testing.T) {
			output, err := c.kubectl(row.object, "create", "--filename", "-", "--dry-run=server")
			denied := err != nil && strings.Contains(output, "ValidatingAdmissionPolicy 'listen-exporter-")
			switch {
			case err != nil && !denied:
				t.Fatalf("the API server refuses it, and not by a policy: %v", err)
			case denied != row.denied:
				t.Errorf("the policies deny it: %v, want %v\n%s", denied, row.denied, output)
			}
			for _, registry := range []bool{false, true} {
				found, text := checkFinds(t, program, row, registry)
				if want := row.denied || row.exception != ""; found != want {
					t.Errorf("with a registry: %v; check finds fault with it: %v, want %v\n%s\n%s", registry, found, want, row.object, text)
				}
			}
		})
	}
}

// agreements is the table.
func agreements() (all []agreement) {
	add := func(denied bool, name, namespace, object string) {
		all = append(all, agreement{name: name, namespace: namespace, object: object, denied: denied})
	}
	for _, kind := range kinds {
		of := func(denied bool, what, namespace, spec string) {
			add(denied, kind+" "+what, namespace, workload(kind, namespace, "a", spec))
		}
		const in, out = "containerPort: 80, hostPort: 30000", "containerPort: 80, hostPort: 8080"
		sidecar := strings.Replace(first(out), "name: first,", "name: first, restartPolicy: Always,", 1)
		of(false, "without ports", "agree-range", web())
		of(false, "with a port of its own network", "agree-range", web("containerPort: 80"))
		of(false, "with a hostPort of 0, which is none", "agree-range", web("containerPort: 80, hostPort: 0"))
		of(false, "with a hostPort inside", "agree-range", web(in))
		of(true, "with a hostPort outside", "agree-range", web(out))
		of(true, "with one of two outside", "agree-range", containers(container("a", in), container("b", out)))
		of(true, "with a hostPort of UDP at one address", "agree-range", web(out+", protocol: UDP, hostIP: 127.0.0.1"))
		of(true, "with a hostPort of SCTP", "agree-range", web(out+", protocol: SCTP"))
		of(true, "with the port of an init container", "agree-range", first(out))
		of(true, "with the port of a sidecar", "agree-range", sidecar)
		of(false, "with host networking inside", "agree-range", "hostNetwork: true, "+web("containerPort: 30001"))
		of(false, "with host networking and no port", "agree-range", "hostNetwork: true, "+web())
		of(true, "with host networking outside", "agree-range", "hostNetwork: true, "+web("containerPort: 8081"))
		of(true, "with host networking and both ports", "agree-range", "hostNetwork: true, "+web("containerPort: 8081, hostPort: 8081"))
		of(true, "with host networking in an init container", "agree-range", "hostNetwork: true, "+first("containerPort: 8082"))
		of(false, "without host networking", "agree-range", "hostNetwork: false, "+web("containerPort: 8081"))
		of(false, "in the last of several ranges", "agree-list", web("containerPort: 80, hostPort: 31099"))
		of(true, "between ranges", "agree-list", web("containerPort: 80, hostPort: 30500"))
		of(true, "where no port is admitted", "agree-colon", web(in))
		of(true, "where the list is empty", "agree-empty", web(in))
		of(false, "anywhere from 1024 on", "agree-free", web(out))
		of(true, "with a privileged port", "agree-free", web("containerPort: 80, hostPort: 80"))
		of(true, "with host networking and a privileged port", "agree-free", "hostNetwork: true, "+web("containerPort: 1023"))
		of(true, "with a privileged port of an init container", "agree-free", first("containerPort: 53, hostPort: 53, protocol: UDP"))
		of(false, "with privileged ports that are allowed", "agree-low", web("containerPort: 1, hostPort: 80", "containerPort: 2, hostPort: 443"))
		of(true, "with another privileged port", "agree-low", web("containerPort: 22, hostPort: 22"))
		of(true, "where no privileged port can be read", "agree-typo", web("containerPort: 80, hostPort: 80"))
		of(false, "with what both policies allow", "agree-both", web("containerPort: 80, hostPort: 80"))
		of(true, "with what only one of them allows", "agree-both", web("containerPort: 443, hostPort: 443"))
		of(false, "of kube-system", "kube-system", web("containerPort: 80, hostPort: 80"))
	}
	svc := func(denied bool, what, namespace, spec string) {
		add(denied, "Service "+what, namespace, service(namespace, "a", spec))
	}
	const balancer = "type: LoadBalancer, "
	// No two of these nodePorts are the same, and none is of a Service that exists: the API server gives a number to one of them
	// only. It chooses none below 30086 itself, as long as others are free.
	const local = balancer + "externalTrafficPolicy: Local, "
	svc(false, "for the cluster, with a port outside", "agree-range", "ports: [{port: 80}]")
	svc(false, "without an address", "agree-range", "clusterIP: None, ports: [{port: 80}]")
	svc(false, "that is only a name", "agree-range", "type: ExternalName, externalName: example.org, ports: [{port: 80}]")
	svc(false, "with a nodePort inside", "agree-range", "type: NodePort, ports: [{port: 80, nodePort: 30049}]")
	svc(true, "with a nodePort outside", "agree-range", "type: NodePort, ports: [{port: 80, nodePort: 30050}]")
	svc(true, "with one of two nodePorts outside", "agree-range",
		"type: NodePort, ports: [{name: a, port: 80, nodePort: 30041}, {name: b, port: 81, nodePort: 30051}]")
	svc(true, "with a nodePort of UDP", "agree-range", "type: NodePort, ports: [{port: 80, nodePort: 30052, protocol: UDP}]")
	svc(true, "with a nodePort that is not set", "agree-narrow", "type: NodePort, ports: [{port: 80}]")
	svc(true, "with a nodePort of 0", "agree-narrow", "type: NodePort, ports: [{port: 80, nodePort: 0}]")
	svc(false, "with any nodePort", "agree-free", "type: NodePort, ports: [{port: 80, nodePort: 30053}]")
	svc(false, "with a nodePort that is not set, in a free namespace", "agree-free", "type: NodePort, ports: [{port: 80}]")
	svc(true, "that balances, with a nodePort outside", "agree-range", balancer+"ports: [{port: 80, nodePort: 30054}]")
	svc(true, "that balances, with a nodePort that is not set", "agree-narrow", balancer+"ports: [{port: 80}]")
	svc(false, "that balances without nodePorts", "agree-range", balancer+"allocateLoadBalancerNodePorts: false, ports: [{port: 80}]")
	svc(false, "with a healthCheckNodePort inside", "agree-range", local+"healthCheckNodePort: 30042, ports: [{port: 80, nodePort: 30043}]")
	svc(true, "with a healthCheckNodePort outside", "agree-range", local+"healthCheckNodePort: 30055, ports: [{port: 80, nodePort: 30044}]")
	svc(true, "with a healthCheckNodePort that is not set", "agree-narrow", local+"allocateLoadBalancerNodePorts: false, ports: [{port: 80}]")
	svc(false, "with an externalIP inside", "agree-range", "externalIPs: [192.0.2.1], ports: [{port: 30045}]")
	svc(true, "with an externalIP outside", "agree-range", "externalIPs: [192.0.2.1], ports: [{port: 443}]")
	svc(true, "with two externalIPs", "agree-range", "externalIPs: [192.0.2.1, 192.0.2.2], ports: [{port: 53, protocol: UDP}]")
	svc(false, "with an externalIP in a free namespace", "agree-free", "externalIPs: [192.0.2.1], ports: [{port: 443}]")
	svc(true, "where no port is admitted", "agree-colon", "type: NodePort, ports: [{port: 80, nodePort: 30056}]")
	svc(false, "with a privileged externalIP port, which is no pod's", "agree-low", "externalIPs: [192.0.2.1], ports: [{port: 22}]")
	return append(all, agreement{
		name: "PodTemplate", namespace: "agree-range",
		object: fmt.Sprintf("{apiVersion: v1, kind: PodTemplate, metadata: {namespace: agree-range, name: a}, template: {spec: {%s}}}",
			web("containerPort: 80, hostPort: 8080")),
		exception: "the policies judge it only when a pod is made of it",
	})
}

// namespaceObject is a namespace of the table.
func namespaceObject(name string) string {
	var annotations []string
	if ranges, has := agreedRanges[name]; has {
		annotations = append(annotations, fmt.Sprintf("listen-exporter/port-range: %q", ranges))
	}
	if privileged, has := agreedPrivileged[name]; has {
		annotations = append(annotations, fmt.Sprintf("listen-exporter/allow-privileged-ports: %q", privileged))
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, annotations: {%s}}}\n", name, strings.Join(annotations, ", "))
}

// buildProgram builds this repository's program.
func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "listen_exporter")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

// checkFinds reports whether check finds fault with an object next to its namespace and the policies, or with an annotation of
// the namespace. With a registry, that reserves the ports that the namespace may use.
func checkFinds(t *testing.T, program string, row agreement, registry bool) (found bool, text string) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"manifests/object.yaml": row.object, "manifests/namespace.yaml": namespaceObject(row.namespace)}
	for _, policy := range []string{"port-range.yaml", "privileged-ports.yaml"} {
		content, err := os.ReadFile(filepath.Join(examples, "policies", policy))
		if err != nil {
			t.Fatal(err)
		}
		files["manifests/"+policy] = string(content)
	}
	arguments := []string{"check", "--format=json", "--manifests=" + filepath.Join(dir, "manifests")}
	if ranges := agreedRanges[row.namespace]; registry && ranges != "" && !strings.Contains(ranges, ":") {
		files["ports.yml"] = fmt.Sprintf("reserved: [{team: a, ports: [%s], namespaces: [%s]}]\n", `"`+strings.NewReplacer(" ", "", ",", `", "`).Replace(ranges)+`"`, row.namespace)
		arguments = append(arguments, filepath.Join(dir, "ports.yml"))
	}
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	output, err := exec.Command(program, arguments...).Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("%v\n%s", err, output)
	}
	var answer struct{ Findings []struct{ Rule string } }
	if err := json.Unmarshal(output, &answer); err != nil {
		t.Fatal(err)
	}
	for _, f := range answer.Findings {
		if !slices.Contains([]string{"port-range", "privileged-port", "annotation"}, f.Rule) {
			t.Errorf("check finds %s, which no policy judges\n%s", f.Rule, output)
		}
	}
	return len(answer.Findings) > 0, string(output)
}
