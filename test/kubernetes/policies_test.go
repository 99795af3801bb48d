package kubernetes

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// only is how a denial by the range of the namespace shop begins.
const only = "the annotation listen-exporter/port-range gives namespace shop the ports 30000-30999 only, not "

// setNodePort and setHealthPort are how it ends, because the API server chooses ports before policies see the object.
const (
	setNodePort   = "; the API server chooses each nodePort that is not set: set it"
	setHealthPort = "; the API server chooses a healthCheckNodePort that is not set: set healthCheckNodePort"
)

func (c *cluster) testPortRanges(t *testing.T) {
	c.namespace(t, "shop", "listen-exporter/port-range: 30000-30999")
	c.namespace(t, "two", "listen-exporter/port-range: '30000-30499, 31500,31000-31099'")
	c.namespace(t, "free", "")
	c.namespace(t, "narrow", "listen-exporter/port-range: '20000'") // no nodePort can be in it, so none is chosen
	const balancer = "type: LoadBalancer, "
	const health = balancer + "externalTrafficPolicy: Local, "
	c.run(t,
		admit("a nodePort at the start of the range", nodePort("shop", "first", 30000)),
		admit("a nodePort at its end", nodePort("shop", "last", 30999)),
		deny("a nodePort after it", only+"nodePort 31000 of port 80"+setNodePort, nodePort("shop", "after", 31000)),
		deny("several nodePorts: each wrong one is named",
			only+"nodePort 31001 of port 443, nodePort 31002 of port 444;",
			service("shop", "several", "type: NodePort, ports: ["+
				"{name: a, port: 80, nodePort: 30001}, {name: b, port: 443, nodePort: 31001}, {name: c, port: 444, nodePort: 31002}]")),
		admit("a Service only for the cluster", service("shop", "cluster", "ports: [{port: 80}]")),
		admit("a headless Service", service("shop", "headless", "clusterIP: None, ports: [{port: 80}]")),
		admit("a Service that is only a name",
			"{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: name}, "+
				"spec: {type: ExternalName, externalName: example.org}}"),
		deny("a load balancer with a nodePort outside", only+"nodePort 31003 of port 80;",
			service("shop", "balancer", balancer+"ports: [{port: 80, nodePort: 31003}]")),
		admit("a load balancer without nodePorts",
			service("shop", "balancer", balancer+"allocateLoadBalancerNodePorts: false, ports: [{port: 80}]")),
		deny("a healthCheckNodePort outside", only+"healthCheckNodePort 31005;",
			service("shop", "health", health+"healthCheckNodePort: 31005, ports: [{port: 80, nodePort: 30005}]")),
		admit("a healthCheckNodePort inside",
			service("shop", "health", health+"healthCheckNodePort: 30006, ports: [{port: 80, nodePort: 30005}]")),
		admit("a nodePort in a list of ranges", nodePort("two", "a", 30100)),
		admit("in its second range", nodePort("two", "b", 31500)),
		admit("in its third range", nodePort("two", "c", 31099)),
		deny("between its ranges",
			"gives namespace two the ports 30000-30499, 31500, 31000-31099 only, not nodePort 30500 of port 80;",
			nodePort("two", "d", 30500)),
		admit("any nodePort in a namespace without the annotation", nodePort("free", "a", 31900)),
		deny("an externalIP outside, since that may be the address of a node", only+"externalIP port 443 at 192.0.2.1",
			service("shop", "external", "externalIPs: [192.0.2.1], ports: [{name: a, port: 30080}, {name: b, port: 443}]")),
		deny("several externalIPs outside", only+"externalIP port 53/UDP at 192.0.2.1, externalIP port 53/UDP at 192.0.2.2",
			service("shop", "external", "externalIPs: [192.0.2.1, 192.0.2.2], ports: [{port: 53, protocol: UDP}]")),
		admit("an externalIP inside", service("shop", "external", "externalIPs: [192.0.2.1], ports: [{port: 30080}]")),
		refuse("a later externalIP for a port outside", only+"externalIP port 80 at 192.0.2.1",
			patch("shop", "service/cluster", `{"spec": {"externalIPs": ["192.0.2.1"]}}`)...),
		admit("any externalIP in a namespace without the annotation",
			service("free", "external", "externalIPs: [192.0.2.1], ports: [{port: 443}]")),
		deny("a nodePort that is not set", setNodePort, service("narrow", "unset", "type: NodePort, ports: [{port: 80}]")),
		refuse("a nodePort that is not set, in a dry run", setNodePort,
			"create", "--dry-run=server", "--namespace", "narrow", "service", "nodeport", "unset", "--tcp", "80"),
		deny("a healthCheckNodePort that is not set", setHealthPort,
			service("narrow", "unset", health+"allocateLoadBalancerNodePorts: false, ports: [{port: 80}]")),
		refuse("nothing is left of what was denied", `services "unset" not found`,
			"get", "service", "unset", "--namespace", "narrow"),
		admit("a Pod without ports", pod("shop", "none", web())),
		deny("a Pod with UDP and a hostIP", only+"hostPort 5353/UDP of container dns",
			pod("shop", "udp", containers(container("dns", "containerPort: 53, hostPort: 5353, protocol: UDP, hostIP: 127.0.0.1")))),
	)
	for _, kind := range kinds {
		name := strings.ToLower(kind)
		outside := containers(
			container("web", "containerPort: 80, hostPort: 30000"), container("side", "containerPort: 81, hostPort: 8080"))
		c.run(t,
			admit(kind+" with a hostPort inside",
				workload(kind, "shop", "in-"+name, web("containerPort: 80, hostPort: 30000", "containerPort: 81"))),
			deny(kind+" with a hostPort outside", only+"hostPort 8080 of container side",
				workload(kind, "shop", "out-"+name, outside)),
			admit(kind+" with that hostPort in a namespace without the annotation",
				workload(kind, "free", "out-"+name, outside)),
			deny(kind+" with host networking and a port outside",
				only+"containerPort 8081 of container web (hostNetwork)",
				workload(kind, "shop", "net-"+name, "hostNetwork: true, "+web("containerPort: 30001", "containerPort: 8081"))),
			admit(kind+" with host networking and ports inside",
				workload(kind, "shop", "net-"+name, "hostNetwork: true, "+web("containerPort: 30001"))),
			deny(kind+" with the port of an init container", only+"hostPort 8082 of container first",
				workload(kind, "shop", "init-"+name, first("containerPort: 80, hostPort: 8082"))),
		)
	}
}

func (c *cluster) testUnreadableRanges(t *testing.T) {
	for i, annotation := range []string{
		`""`, `" "`, "http", "30000:30999", "30000–30999", "30999-30000", "30000-70000",
		"0-80", "080", "'30000,'", "',30000'", "1-2-3",
		"30000-30999-", `"30000\n30001"`, "'999999'", "'-5'", "'1.5'", "30000;30001", "'0x7530'",
	} {
		namespace := fmt.Sprintf("unreadable-%d", i+1)
		if !strings.ContainsAny(annotation[:1], `"'`) {
			annotation = "'" + annotation + "'"
		}
		c.namespace(t, namespace, "listen-exporter/port-range: "+annotation)
		c.run(t, deny("no port is admitted by "+annotation,
			"the annotation listen-exporter/port-range of namespace "+namespace+
				" cannot be read, so it admits no port: not nodePort 30900 of port 80; want", nodePort(namespace, "a", 30900)))
	}
	c.run(t,
		deny("no hostPort either", "cannot be read, so it admits no port: not hostPort 8080 of container web; want",
			pod("unreadable-1", "a", web("containerPort: 80, hostPort: 8080"))),
		admit("a Pod that takes no port of a node", pod("unreadable-1", "b", web("containerPort: 80"))),
	)
}

// testOlderObjects changes objects that were created before their namespace got a range.
func (c *cluster) testOlderObjects(t *testing.T) {
	c.namespace(t, "before", "")
	onPort8080 := web("containerPort: 80, hostPort: 8080")
	for _, object := range []string{
		nodePort("before", "web", 31700),
		service("before", "external", "externalIPs: [192.0.2.1], ports: [{port: 443}]"),
		pod("before", "web", onPort8080),
		workload("Deployment", "before", "web", onPort8080),
		workload("ReplicaSet", "before", "web", onPort8080),
		workload("Deployment", "before", "local", web("containerPort: 80, hostPort: 8083, hostIP: 127.0.0.1")),
	} {
		c.must(t, object, "create", "--filename", "-")
	}
	c.must(t, "", "annotate", "namespace", "before", "listen-exporter/port-range=30000-30999")
	c.must(t, "", patch("before", "pod/web", `{"metadata": {"finalizers": ["example.org/hold"]}}`)...)
	const addPort = `[{"op": "add", "path": "/spec/ports/0/name", "value": "a"},
		{"op": "add", "path": "/spec/ports/-", "value": {%s}}]`
	c.run(t,
		allow("a Service may be changed in what is no port",
			patch("before", "service/web", `{"spec": {"selector": {"app": "y"}}}`)...),
		allow("a Service may have its nodePort for another port",
			patch("before", "service/web", `[{"op": "replace", "path": "/spec/ports/0/port", "value": 8000}]`)...),
		refuse("the same nodePort with another protocol is another", "not nodePort 31700/UDP of port 8000",
			patch("before", "service/web", fmt.Sprintf(addPort, `"name": "b", "port": 8000, "protocol": "UDP", "nodePort": 31700`))...),
		allow("a nodePort may move into the range",
			patch("before", "service/web", `[{"op": "replace", "path": "/spec/ports/0/nodePort", "value": 30700}]`)...),
		refuse("but not out of it again", "not nodePort 31700 of port 8000",
			patch("before", "service/web", `[{"op": "replace", "path": "/spec/ports/0/nodePort", "value": 31700}]`)...),
		refuse("nor may one be added outside", "not nodePort 31701 of port 443",
			patch("before", "service/web", fmt.Sprintf(addPort, `"name": "b", "port": 443, "nodePort": 31701`))...),
		allow("a Service with an externalIP may be changed",
			patch("before", "service/external", `{"spec": {"selector": {"app": "y"}}}`)...),
		refuse("but not get another externalIP", "not externalIP port 443 at 192.0.2.2",
			patch("before", "service/external", `{"spec": {"externalIPs": ["192.0.2.1", "192.0.2.2"]}}`)...),
		refuse("a hostPort of one address may not become one of all", "not hostPort 8083 of container web",
			patch("before", "deployment/local", podPatch("remove", "ports/0/hostIP", "null"))...),
		refuse("the same hostPort with another protocol is another", "not hostPort 8080/UDP of container web",
			patch("before", "deployment/web",
				podPatch("add", "ports/-", `{"containerPort": 80, "protocol": "UDP", "hostPort": 8080}`))...),
		allow("a container may get another name",
			patch("before", "deployment/local", podPatch("replace", "name", `"site"`))...),
		allow("a Deployment may get another image", "set", "image", "deployment/web", "--namespace", "before", "web=y"),
		allow("a Deployment may be scaled", "scale", "deployment/web", "--namespace", "before", "--replicas", "2"),
		allow("its ReplicaSet may be changed, as the Deployment controller does",
			patch("before", "replicaset/web", `{"spec": {"replicas": 0}}`)...),
		refuse("a Deployment may not get another port outside", "not hostPort 8081 of container web",
			patch("before", "deployment/web", podPatch("replace", "ports/0/hostPort", `8081`))...),
		allow("a Pod may be labelled", "label", "pod", "web", "--namespace", "before", "a=b"),
		allow("a Pod may lose its finalizer", patch("before", "pod/web", `{"metadata": {"finalizers": null}}`)...),
		allow("a Pod may be deleted", "delete", "pod", "web", "--namespace", "before", "--wait=false"),
	)
}

// testControllers has controllers replace what was there before its namespace got a range, and others try the same.
func (c *cluster) testControllers(t *testing.T) {
	const denied = "listen-exporter/port-range gives namespace running the ports 30000 only, not hostPort 8080 of container web"
	c.namespace(t, "running", "listen-exporter/port-range: '30000'")
	spec := web("containerPort: 80, hostPort: 8080")
	for _, made := range []struct{ controller, owner, kind string }{
		{"deployment-controller", "apps/v1 Deployment", "ReplicaSet"},
		{"replicaset-controller", "apps/v1 ReplicaSet", "Pod"},
		{"daemon-set-controller", "apps/v1 DaemonSet", "Pod"},
		{"statefulset-controller", "apps/v1 StatefulSet", "Pod"},
		{"cronjob-controller", "batch/v1 CronJob", "Job"},
		{"job-controller", "batch/v1 Job", "Pod"},
		{"replication-controller", "v1 ReplicationController", "Pod"},
	} {
		c.run(t, admit("the "+made.controller+" makes a "+made.kind+" of an older "+strings.Fields(made.owner)[1],
			owned(made.owner, "web", workload(made.kind, "running", made.controller, spec), true), asController(made.controller)))
	}
	c.must(t, "", "create", "rolebinding", "controllers", "--namespace", "running",
		"--clusterrole", "system:controller:replicaset-controller", "--user", "system:kube-controller-manager")
	// The role edit itself is empty: there is no controller that fills it from its parts.
	c.must(t, "", "create", "rolebinding", "editors", "--namespace", "running", "--clusterrole", "system:aggregate-to-edit",
		"--user", "eve", "--serviceaccount", "running:daemon-set-controller")
	plain := pod("running", "web", spec)
	byDaemonSet := owned("apps/v1 DaemonSet", "web", plain, true)
	controller := []string{asController("daemon-set-controller")}
	c.run(t,
		admit("so does a controller manager whose controllers have no accounts of their own",
			owned("apps/v1 ReplicaSet", "web", pod("running", "manager", spec), true), "--as=system:kube-controller-manager"),
		deny("a user who names such an owner", denied, byDaemonSet, "--as=eve"),
		deny("a user who names such an owner of a ReplicaSet", denied,
			owned("apps/v1 Deployment", "web", workload("ReplicaSet", "running", "web", spec), true), "--as=eve"),
		deny("a cluster administrator who does", denied, byDaemonSet),
		deny("a service account of that name in another namespace", denied, byDaemonSet,
			"--as=system:serviceaccount:running:daemon-set-controller"),
		deny("a controller that names no owner", denied, plain, controller...),
		deny("a controller that names an owner that is not in charge", denied, owned("apps/v1 DaemonSet", "web", plain, false),
			controller...),
		deny("an owner that nobody judged: Foo", denied, owned("example.org/v1 DaemonSet", "web", plain, true), controller...),
		deny("an owner that nobody judged: Node", denied, owned("v1 Node", "web", plain, true), controller...),
		deny("an owner that nobody judged: ControllerRevision", denied, owned("apps/v1 ControllerRevision", "web", plain, true),
			controller...),
		deny("a Service with such an owner", "gives namespace running the ports 30000 only, not nodePort 31800 of port 80",
			owned("apps/v1 DaemonSet", "web", nodePort("running", "web", 31800), true),
			append(slices.Clone(controller), "--as-group=system:serviceaccounts:kube-system", "--as-group=system:masters")...),
	)
}

func (c *cluster) testPrivilegedPorts(t *testing.T) {
	c.namespace(t, "plain", "")
	c.namespace(t, "ingress", "listen-exporter/allow-privileged-ports: '80,400-499'")
	c.namespace(t, "typo", "listen-exporter/allow-privileged-ports: '80 443'")
	c.namespace(t, "both", "listen-exporter/allow-privileged-ports: '80', listen-exporter/port-range: 30000-30999")
	for _, kind := range kinds {
		name := strings.ToLower(kind)
		c.run(t,
			deny(kind+" with a privileged hostPort",
				"namespace plain may not use this port of the nodes, which is below 1024: hostPort 443 of container web; "+
					"want a port from 1024 on, or this port in the annotation",
				workload(kind, "plain", name, web("containerPort: 8443, hostPort: 443"))),
			deny(kind+" with host networking and a privileged port",
				"below 1024: containerPort 1023 of container web (hostNetwork);",
				workload(kind, "plain", name, "hostNetwork: true, "+web("containerPort: 1024", "containerPort: 1023"))),
			admit(kind+" with ports from 1024 on, and a privileged one of its own network",
				workload(kind, "plain", name, web("containerPort: 80, hostPort: 1024", "containerPort: 443"))),
			admit(kind+" with allowed ports",
				workload(kind, "ingress", name, web("containerPort: 80, hostPort: 80", "containerPort: 443, hostPort: 443"))),
		)
	}
	onPort80 := web("containerPort: 80, hostPort: 80")
	c.run(t,
		deny("an init container", "below 1024: hostPort 22 of container first;",
			pod("plain", "init", first("containerPort: 22, hostPort: 22"))),
		deny("a port that is not allowed", "below 1024: hostPort 22 of container web; want",
			pod("ingress", "other", web("containerPort: 22, hostPort: 22", "containerPort: 80, hostPort: 80"))),
		deny("any port, by an annotation that cannot be read",
			"its annotation listen-exporter/allow-privileged-ports cannot be read", pod("typo", "web", onPort80)),
		deny("an allowed port that the range of the namespace does not have",
			"gives namespace both the ports 30000-30999 only", pod("both", "web", onPort80)),
		admit("any port in kube-system",
			pod("kube-system", "dns", containers(container("dns", "containerPort: 53, hostPort: 53")))),
	)

	c.must(t, "", "annotate", "namespace", "ingress", "listen-exporter/allow-privileged-ports-")
	c.must(t, "", "create", "rolebinding", "editors", "--namespace", "ingress",
		"--clusterrole", "system:aggregate-to-edit", "--user", "eve")
	next := owned("apps/v1 DaemonSet", "daemonset", pod("ingress", "next", onPort80), true)
	c.run(t,
		allow("an older object may be changed", "set", "image", "deployment/deployment", "--namespace", "ingress", "web=y"),
		refuse("but not get another port", "below 1024: hostPort 444 of container web",
			patch("ingress", "deployment/deployment", podPatch("replace", "ports/1/hostPort", `444`))...),
		refuse("nor the same port with another protocol", "below 1024: hostPort 443/UDP of container web",
			patch("ingress", "deployment/deployment",
				podPatch("add", "ports/-", `{"containerPort": 443, "protocol": "UDP", "hostPort": 443}`))...),
		allow("its container may get another name",
			patch("ingress", "deployment/deployment", podPatch("replace", "name", `"site"`))...),
		deny("a user who names such a DaemonSet as the owner of a Pod", "below 1024: hostPort 80 of container web", next,
			"--as=eve"),
		admit("the DaemonSet controller makes the next Pod of one", next, asController("daemon-set-controller")),
		deny("but none without it", "below 1024: hostPort 80 of container web", pod("ingress", "none", onPort80),
			asController("daemon-set-controller")),
	)
}

// testCost has more ports than anybody has, with as many ranges. CEL stops an expression that costs too much, and then the
// object would be denied for that.
func (c *cluster) testCost(t *testing.T) {
	var ranges, list []string
	for port := 1; port < 1000; port += 20 {
		ranges = append(ranges, fmt.Sprintf("%d-%d", port, port+9))
	}
	text := strings.Join(append(ranges, "20000-40000"), ",")
	c.namespace(t, "large", fmt.Sprintf("listen-exporter/port-range: '%[1]s', listen-exporter/allow-privileged-ports: '%[1]s'", text))
	c.namespace(t, "large-before", "")
	for n := range 20 {
		var ports []string
		for p := range 50 {
			ports = append(ports, fmt.Sprintf("containerPort: %d", 20000+100*n+p))
		}
		list = append(list, container(fmt.Sprintf("c%d", n), ports...))
	}
	spec := "hostNetwork: true, " + containers(list...)
	c.must(t, pod("large-before", "web", spec), "create", "--filename", "-")
	c.must(t, "", "annotate", "namespace", "large-before", "listen-exporter/port-range=1")
	c.run(t,
		admit("a Pod with 1000 ports on its node, by 51 ranges", pod("large", "web", spec)),
		allow("an update of one whose ports are all outside", "label", "pod", "web", "--namespace", "large-before", "a=b"),
		deny("as many that are denied are denied for that", "listen-exporter/port-range", pod("large-before", "other", spec)),
	)
}

// testWarnings has the bindings warn, as the comments in both offer it.
func (c *cluster) testWarnings(t *testing.T) {
	for _, name := range []string{"port-range", "privileged-ports"} {
		c.must(t, "", "patch", "validatingadmissionpolicybinding", "listen-exporter-"+name, "--type", "merge",
			"--patch", `{"spec": {"validationActions": ["Warn", "Audit"]}}`)
	}
	var output string
	warned := pod("await", "warned", containers(container("c", "containerPort: 80, hostPort: 80")))
	if err := await(func() (err error) {
		output, err = c.kubectl(warned, "create", "--filename", "-")
		return err
	}); err != nil {
		t.Fatal(errors.Join(errors.New("it is still denied"), err))
	}
	for _, want := range []string{
		"gives namespace await the ports 30000 only, not hostPort 80 of container c", "below 1024: hostPort 80 of container c",
	} {
		t.Run("the Pod is admitted with the warning: "+want, func(t *testing.T) {
			for line := range strings.Lines(output) {
				if strings.HasPrefix(line, "Warning: ") && strings.Contains(line, want) {
					return
				}
			}
			t.Error(output)
		})
	}
}
