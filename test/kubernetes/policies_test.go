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
	c.run(t, []check{
		{name: "a nodePort at the start of the range", object: service("shop", "first", "type: NodePort, ports: [{port: 80, nodePort: 30000}]")},
		{name: "a nodePort at its end", object: service("shop", "last", "type: NodePort, ports: [{port: 80, nodePort: 30999}]")},
		{
			name: "a nodePort after it", object: service("shop", "after", "type: NodePort, ports: [{port: 80, nodePort: 31000}]"),
			denied: only + "nodePort 31000 of port 80" + setNodePort,
		},
		{
			name: "several nodePorts, of which each wrong one is named",
			object: service("shop", "several", "type: NodePort, ports: [{name: a, port: 80, nodePort: 30001}, "+
				"{name: b, port: 443, nodePort: 31001}, {name: c, port: 444, nodePort: 31002}]"),
			denied: only + "nodePort 31001 of port 443, nodePort 31002 of port 444;",
		},
		{name: "a Service only for the cluster", object: service("shop", "cluster", "ports: [{port: 80}]")},
		{name: "a headless Service", object: service("shop", "headless", "clusterIP: None, ports: [{port: 80}]")},
		{
			name:   "a Service that is only a name",
			object: "{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: name}, spec: {type: ExternalName, externalName: example.org}}",
		},
		{
			name: "a load balancer with a nodePort outside", object: service("shop", "balancer", balancer+"ports: [{port: 80, nodePort: 31003}]"),
			denied: only + "nodePort 31003 of port 80;",
		},
		{
			name:   "a load balancer without nodePorts",
			object: service("shop", "balancer", balancer+"allocateLoadBalancerNodePorts: false, ports: [{port: 80}]"),
		},
		{
			name: "a healthCheckNodePort outside", denied: only + "healthCheckNodePort 31005;",
			object: service("shop", "health", health+"healthCheckNodePort: 31005, ports: [{port: 80, nodePort: 30005}]"),
		},
		{
			name:   "a healthCheckNodePort inside",
			object: service("shop", "health", health+"healthCheckNodePort: 30006, ports: [{port: 80, nodePort: 30005}]"),
		},
		{name: "a nodePort in a list of ranges", object: service("two", "a", "type: NodePort, ports: [{port: 80, nodePort: 30100}]")},
		{name: "in its second range", object: service("two", "b", "type: NodePort, ports: [{port: 80, nodePort: 31500}]")},
		{name: "in its third range", object: service("two", "c", "type: NodePort, ports: [{port: 80, nodePort: 31099}]")},
		{
			name: "between its ranges", object: service("two", "d", "type: NodePort, ports: [{port: 80, nodePort: 30500}]"),
			denied: "gives namespace two the ports 30000-30499, 31500, 31000-31099 only, not nodePort 30500 of port 80;",
		},
		{
			name:   "any nodePort in a namespace without the annotation",
			object: service("free", "a", "type: NodePort, ports: [{port: 80, nodePort: 31900}]"),
		},
		{
			name:   "an externalIP outside, since that may be the address of a node",
			object: service("shop", "external", "externalIPs: [192.0.2.1], ports: [{name: a, port: 30080}, {name: b, port: 443}]"),
			denied: only + "externalIP port 443 at 192.0.2.1",
		},
		{
			name:   "several externalIPs outside",
			object: service("shop", "external", "externalIPs: [192.0.2.1, 192.0.2.2], ports: [{port: 53, protocol: UDP}]"),
			denied: only + "externalIP port 53/UDP at 192.0.2.1, externalIP port 53/UDP at 192.0.2.2",
		},
		{name: "an externalIP inside", object: service("shop", "external", "externalIPs: [192.0.2.1], ports: [{port: 30080}]")},
		{
			name: "a later externalIP for a port outside", denied: only + "externalIP port 80 at 192.0.2.1",
			args: patch("shop", "service/cluster", `{"spec": {"externalIPs": ["192.0.2.1"]}}`),
		},
		{
			name:   "any externalIP in a namespace without the annotation",
			object: service("free", "external", "externalIPs: [192.0.2.1], ports: [{port: 443}]"),
		},
		{
			name: "a nodePort that is not set", object: service("narrow", "unset", "type: NodePort, ports: [{port: 80}]"),
			denied: setNodePort,
		},
		{
			name: "a nodePort that is not set, in a dry run", denied: setNodePort,
			args: []string{"create", "--dry-run=server", "--namespace", "narrow", "service", "nodeport", "unset", "--tcp", "80"},
		},
		{
			name: "a healthCheckNodePort that is not set", denied: setHealthPort,
			object: service("narrow", "unset", health+"allocateLoadBalancerNodePorts: false, ports: [{port: 80}]"),
		},
		{
			name: "nothing is left of what was denied", denied: `services "unset" not found`,
			args: []string{"get", "service", "unset", "--namespace", "narrow"},
		},
		{name: "a Pod without ports", object: pod("shop", "none", containers(container("web")))},
		{
			name:   "a Pod with UDP and a hostIP",
			object: pod("shop", "udp", containers(container("dns", "containerPort: 53, hostPort: 5353, protocol: UDP, hostIP: 127.0.0.1"))),
			denied: only + "hostPort 5353/UDP of container dns",
		},
	}...)
	for _, kind := range kinds {
		name := strings.ToLower(kind)
		outside := containers(container("web", "containerPort: 80, hostPort: 30000"), container("side", "containerPort: 81, hostPort: 8080"))
		c.run(t, []check{
			{
				name:   kind + " with a hostPort inside",
				object: workload(kind, "shop", "in-"+name, containers(container("web", "containerPort: 80, hostPort: 30000", "containerPort: 81"))),
			},
			{
				name: kind + " with a hostPort outside", object: workload(kind, "shop", "out-"+name, outside),
				denied: only + "hostPort 8080 of container side",
			},
			{name: kind + " with that hostPort in a namespace without the annotation", object: workload(kind, "free", "out-"+name, outside)},
			{
				name: kind + " with host networking and a port outside",
				object: workload(kind, "shop", "net-"+name,
					"hostNetwork: true, "+containers(container("web", "containerPort: 30001", "containerPort: 8081"))),
				denied: only + "containerPort 8081 of container web (hostNetwork)",
			},
			{
				name:   kind + " with host networking and ports inside",
				object: workload(kind, "shop", "net-"+name, "hostNetwork: true, "+containers(container("web", "containerPort: 30001"))),
			},
			{
				name: kind + " with the port of an init container",
				object: workload(kind, "shop", "init-"+name,
					initContainers(container("first", "containerPort: 80, hostPort: 8082"))+", "+containers(container("web"))),
				denied: only + "hostPort 8082 of container first",
			},
		}...)
	}
}

func (c *cluster) testUnreadableRanges(t *testing.T) {
	for i, annotation := range []string{
		`""`, `" "`, "http", "30000:30999", "30000–30999", "30999-30000", "30000-70000", "0-80", "080", "'30000,'", "',30000'", "1-2-3",
		"30000-30999-", `"30000\n30001"`, "'999999'", "'-5'", "'1.5'", "30000;30001", "'0x7530'",
	} {
		namespace := fmt.Sprintf("unreadable-%d", i+1)
		if !strings.ContainsAny(annotation[:1], `"'`) {
			annotation = "'" + annotation + "'"
		}
		c.namespace(t, namespace, "listen-exporter/port-range: "+annotation)
		c.run(t, check{
			name: "no port is admitted by " + annotation, object: service(namespace, "a", "type: NodePort, ports: [{port: 80, nodePort: 30900}]"),
			denied: "the annotation listen-exporter/port-range of namespace " + namespace +
				" cannot be read, so it admits no port: not nodePort 30900 of port 80; want",
		})
	}
	c.run(t,
		check{
			name: "no hostPort either", object: pod("unreadable-1", "a", containers(container("web", "containerPort: 80, hostPort: 8080"))),
			denied: "cannot be read, so it admits no port: not hostPort 8080 of container web; want",
		},
		check{name: "a Pod that takes no port of a node", object: pod("unreadable-1", "b", containers(container("web", "containerPort: 80")))},
	)
}

// testOlderObjects changes objects that were created before their namespace got a range.
func (c *cluster) testOlderObjects(t *testing.T) {
	c.namespace(t, "before", "")
	web := containers(container("web", "containerPort: 80, hostPort: 8080"))
	for _, object := range []string{
		service("before", "web", "type: NodePort, ports: [{port: 80, nodePort: 31700}]"),
		service("before", "external", "externalIPs: [192.0.2.1], ports: [{port: 443}]"),
		pod("before", "web", web),
		workload("Deployment", "before", "web", web),
		workload("ReplicaSet", "before", "web", web),
		workload("Deployment", "before", "local", containers(container("web", "containerPort: 80, hostPort: 8083, hostIP: 127.0.0.1"))),
	} {
		c.must(t, object, "create", "--filename", "-")
	}
	c.must(t, "", "annotate", "namespace", "before", "listen-exporter/port-range=30000-30999")
	c.must(t, "", patch("before", "pod/web", `{"metadata": {"finalizers": ["example.org/hold"]}}`)...)
	const addPort = `[{"op": "add", "path": "/spec/ports/0/name", "value": "a"}, {"op": "add", "path": "/spec/ports/-", "value": {%s}}]`
	c.run(t, []check{
		{name: "a Service may be changed in what is no port", args: patch("before", "service/web", `{"spec": {"selector": {"app": "y"}}}`)},
		{
			name: "a Service may have its nodePort for another port",
			args: patch("before", "service/web", `[{"op": "replace", "path": "/spec/ports/0/port", "value": 8000}]`),
		},
		{
			name: "the same nodePort with another protocol is another", denied: "not nodePort 31700/UDP of port 8000",
			args: patch("before", "service/web", fmt.Sprintf(addPort, `"name": "b", "port": 8000, "protocol": "UDP", "nodePort": 31700`)),
		},
		{
			name: "a nodePort may move into the range",
			args: patch("before", "service/web", `[{"op": "replace", "path": "/spec/ports/0/nodePort", "value": 30700}]`),
		},
		{
			name: "but not out of it again", denied: "not nodePort 31700 of port 8000",
			args: patch("before", "service/web", `[{"op": "replace", "path": "/spec/ports/0/nodePort", "value": 31700}]`),
		},
		{
			name: "nor may one be added outside", denied: "not nodePort 31701 of port 443",
			args: patch("before", "service/web", fmt.Sprintf(addPort, `"name": "b", "port": 443, "nodePort": 31701`)),
		},
		{name: "a Service with an externalIP may be changed", args: patch("before", "service/external", `{"spec": {"selector": {"app": "y"}}}`)},
		{
			name: "but not get another externalIP", denied: "not externalIP port 443 at 192.0.2.2",
			args: patch("before", "service/external", `{"spec": {"externalIPs": ["192.0.2.1", "192.0.2.2"]}}`),
		},
		{
			name: "a hostPort of one address may not become one of all", denied: "not hostPort 8083 of container web",
			args: patch("before", "deployment/local", `[{"op": "remove", "path": "/spec/template/spec/containers/0/ports/0/hostIP"}]`),
		},
		{
			name: "the same hostPort with another protocol is another", denied: "not hostPort 8080/UDP of container web",
			args: patch("before", "deployment/web", `[{"op": "add", "path": "/spec/template/spec/containers/0/ports/-", `+
				`"value": {"containerPort": 80, "protocol": "UDP", "hostPort": 8080}}]`),
		},
		{
			name: "a container may get another name",
			args: patch("before", "deployment/local", `[{"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": "site"}]`),
		},
		{name: "a Deployment may get another image", args: []string{"set", "image", "deployment/web", "--namespace", "before", "web=y"}},
		{name: "a Deployment may be scaled", args: []string{"scale", "deployment/web", "--namespace", "before", "--replicas", "2"}},
		{
			name: "its ReplicaSet may be changed, as the Deployment controller does",
			args: patch("before", "replicaset/web", `{"spec": {"replicas": 0}}`),
		},
		{
			name: "a Deployment may not get another port outside", denied: "not hostPort 8081 of container web",
			args: patch("before", "deployment/web", `[{"op": "replace", "path": "/spec/template/spec/containers/0/ports/0/hostPort", "value": 8081}]`),
		},
		{name: "a Pod may be labelled", args: []string{"label", "pod", "web", "--namespace", "before", "a=b"}},
		{name: "a Pod may lose its finalizer", args: patch("before", "pod/web", `{"metadata": {"finalizers": null}}`)},
		{name: "a Pod may be deleted", args: []string{"delete", "pod", "web", "--namespace", "before", "--wait=false"}},
	}...)
}

// testControllers has controllers replace what was there before its namespace got a range, and others try the same.
func (c *cluster) testControllers(t *testing.T) {
	const denied = "listen-exporter/port-range gives namespace running the ports 30000 only, not hostPort 8080 of container web"
	c.namespace(t, "running", "listen-exporter/port-range: '30000'")
	spec := containers(container("web", "containerPort: 80, hostPort: 8080"))
	for _, made := range []struct{ controller, owner, kind string }{
		{"deployment-controller", "apps/v1 Deployment", "ReplicaSet"},
		{"replicaset-controller", "apps/v1 ReplicaSet", "Pod"},
		{"daemon-set-controller", "apps/v1 DaemonSet", "Pod"},
		{"statefulset-controller", "apps/v1 StatefulSet", "Pod"},
		{"cronjob-controller", "batch/v1 CronJob", "Job"},
		{"job-controller", "batch/v1 Job", "Pod"},
		{"replication-controller", "v1 ReplicationController", "Pod"},
	} {
		c.run(t, check{
			name:   "the " + made.controller + " makes a " + made.kind + " of an older " + strings.Fields(made.owner)[1],
			object: owned(made.owner, "web", workload(made.kind, "running", made.controller, spec), true),
			args:   []string{asController(made.controller)},
		})
	}
	c.must(t, "", "create", "rolebinding", "controllers", "--namespace", "running",
		"--clusterrole", "system:controller:replicaset-controller", "--user", "system:kube-controller-manager")
	// The role edit itself is empty: there is no controller that fills it from its parts.
	c.must(t, "", "create", "rolebinding", "editors", "--namespace", "running", "--clusterrole", "system:aggregate-to-edit",
		"--user", "eve", "--serviceaccount", "running:daemon-set-controller")
	web := pod("running", "web", spec)
	byDaemonSet := owned("apps/v1 DaemonSet", "web", web, true)
	controller := []string{asController("daemon-set-controller")}
	c.run(t, []check{
		{
			name:   "so does a controller manager whose controllers have no accounts of their own",
			object: owned("apps/v1 ReplicaSet", "web", pod("running", "manager", spec), true), args: []string{"--as=system:kube-controller-manager"},
		},
		{name: "a user who names such an owner", object: byDaemonSet, args: []string{"--as=eve"}, denied: denied},
		{
			name: "a user who names such an owner of a ReplicaSet", args: []string{"--as=eve"}, denied: denied,
			object: owned("apps/v1 Deployment", "web", workload("ReplicaSet", "running", "web", spec), true),
		},
		{name: "a cluster administrator who does", object: byDaemonSet, denied: denied},
		{
			name: "a service account of that name in another namespace", object: byDaemonSet,
			args: []string{"--as=system:serviceaccount:running:daemon-set-controller"}, denied: denied,
		},
		{name: "a controller that names no owner", object: web, args: controller, denied: denied},
		{
			name:   "a controller that names an owner that is not in charge",
			object: owned("apps/v1 DaemonSet", "web", web, false), args: controller, denied: denied,
		},
		{name: "an owner that nobody judged: Foo", object: owned("example.org/v1 DaemonSet", "web", web, true), args: controller, denied: denied},
		{name: "an owner that nobody judged: Node", object: owned("v1 Node", "web", web, true), args: controller, denied: denied},
		{
			name:   "an owner that nobody judged: ControllerRevision",
			object: owned("apps/v1 ControllerRevision", "web", web, true), args: controller, denied: denied,
		},
		{
			name:   "a Service with such an owner",
			object: owned("apps/v1 DaemonSet", "web", service("running", "web", "type: NodePort, ports: [{port: 80, nodePort: 31800}]"), true),
			args:   append(slices.Clone(controller), "--as-group=system:serviceaccounts:kube-system", "--as-group=system:masters"),
			denied: "gives namespace running the ports 30000 only, not nodePort 31800 of port 80",
		},
	}...)
}

func (c *cluster) testPrivilegedPorts(t *testing.T) {
	c.namespace(t, "plain", "")
	c.namespace(t, "ingress", "listen-exporter/allow-privileged-ports: '80,400-499'")
	c.namespace(t, "typo", "listen-exporter/allow-privileged-ports: '80 443'")
	c.namespace(t, "both", "listen-exporter/allow-privileged-ports: '80', listen-exporter/port-range: 30000-30999")
	for _, kind := range kinds {
		name := strings.ToLower(kind)
		c.run(t, []check{
			{
				name:   kind + " with a privileged hostPort",
				object: workload(kind, "plain", name, containers(container("web", "containerPort: 8443, hostPort: 443"))),
				denied: "namespace plain may not use this port of the nodes, which is below 1024: hostPort 443 of container web; " +
					"want a port from 1024 on, or this port in the annotation",
			},
			{
				name: kind + " with host networking and a privileged port",
				object: workload(kind, "plain", name,
					"hostNetwork: true, "+containers(container("web", "containerPort: 1024", "containerPort: 1023"))),
				denied: "below 1024: containerPort 1023 of container web (hostNetwork);",
			},
			{
				name:   kind + " with ports from 1024 on, and a privileged one of its own network",
				object: workload(kind, "plain", name, containers(container("web", "containerPort: 80, hostPort: 1024", "containerPort: 443"))),
			},
			{
				name: kind + " with allowed ports",
				object: workload(kind, "ingress", name,
					containers(container("web", "containerPort: 80, hostPort: 80", "containerPort: 443, hostPort: 443"))),
			},
		}...)
	}
	onPort80 := containers(container("web", "containerPort: 80, hostPort: 80"))
	c.run(t, []check{
		{
			name: "an init container", denied: "below 1024: hostPort 22 of container first;",
			object: pod("plain", "init", initContainers(container("first", "containerPort: 22, hostPort: 22"))+", "+containers(container("web"))),
		},
		{
			name: "a port that is not allowed", denied: "below 1024: hostPort 22 of container web; want",
			object: pod("ingress", "other", containers(container("web", "containerPort: 22, hostPort: 22", "containerPort: 80, hostPort: 80"))),
		},
		{
			name: "any port, by an annotation that cannot be read", object: pod("typo", "web", onPort80),
			denied: "its annotation listen-exporter/allow-privileged-ports cannot be read",
		},
		{
			name: "an allowed port that the range of the namespace does not have", object: pod("both", "web", onPort80),
			denied: "gives namespace both the ports 30000-30999 only",
		},
		{name: "any port in kube-system", object: pod("kube-system", "dns", containers(container("dns", "containerPort: 53, hostPort: 53")))},
	}...)

	c.must(t, "", "annotate", "namespace", "ingress", "listen-exporter/allow-privileged-ports-")
	c.must(t, "", "create", "rolebinding", "editors", "--namespace", "ingress", "--clusterrole", "system:aggregate-to-edit", "--user", "eve")
	next := owned("apps/v1 DaemonSet", "daemonset", pod("ingress", "next", onPort80), true)
	c.run(t, []check{
		{name: "an older object may be changed", args: []string{"set", "image", "deployment/deployment", "--namespace", "ingress", "web=y"}},
		{
			name: "but not get another port", denied: "below 1024: hostPort 444 of container web",
			args: patch("ingress", "deployment/deployment", `[{"op": "replace", "path": "/spec/template/spec/containers/0/ports/1/hostPort", "value": 444}]`),
		},
		{
			name: "nor the same port with another protocol", denied: "below 1024: hostPort 443/UDP of container web",
			args: patch("ingress", "deployment/deployment", `[{"op": "add", "path": "/spec/template/spec/containers/0/ports/-", `+
				`"value": {"containerPort": 443, "protocol": "UDP", "hostPort": 443}}]`),
		},
		{
			name: "its container may get another name",
			args: patch("ingress", "deployment/deployment", `[{"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": "site"}]`),
		},
		{
			name: "a user who names such a DaemonSet as the owner of a Pod", object: next, args: []string{"--as=eve"},
			denied: "below 1024: hostPort 80 of container web",
		},
		{name: "the DaemonSet controller makes the next Pod of one", object: next, args: []string{asController("daemon-set-controller")}},
		{
			name: "but none without it", object: pod("ingress", "none", onPort80), args: []string{asController("daemon-set-controller")},
			denied: "below 1024: hostPort 80 of container web",
		},
	}...)
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
		check{name: "a Pod with 1000 ports on its node, by 51 ranges", object: pod("large", "web", spec)},
		check{name: "an update of one whose ports are all outside", args: []string{"label", "pod", "web", "--namespace", "large-before", "a=b"}},
		check{name: "as many that are denied are denied for that", object: pod("large-before", "other", spec), denied: "listen-exporter/port-range"},
	)
}

// testWarnings has the bindings warn, as the comments in both offer it.
func (c *cluster) testWarnings(t *testing.T) {
	for _, name := range []string{"port-range", "privileged-ports"} {
		c.must(t, "", "patch", "validatingadmissionpolicybinding", "listen-exporter-"+name, "--type", "merge",
			"--patch", `{"spec": {"validationActions": ["Warn", "Audit"]}}`)
	}
	var output string
	if err := await(func() (err error) {
		output, err = c.kubectl(pod("await", "warned", containers(container("c", "containerPort: 80, hostPort: 80"))), "create", "--filename", "-")
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
