package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// isKnown reports whether objects of a kind are checked, in an API version such as apps/v1. Other groups have kinds of the same
// name.
func isKnown(version, kind string) bool {
	group, _, found := strings.Cut(version, "/")
	if !found {
		group = ""
	}
	switch kind {
	case "Pod", "ReplicationController", "Service", "Namespace":
		return version != "" && group == ""
	case "Deployment", "DaemonSet", "ReplicaSet", "StatefulSet":
		return group == "apps" || group == "extensions"
	case "Job", "CronJob":
		return group == "batch"
	}
	return false
}

// checker checks the objects of all files in turn.
type checker struct {
	hostPorts   hostPorts
	ranges      *ranges
	annotations annotations
}

// object checks an object, or the items of a list. kind and version are those of the list, which its items need not repeat.
func (c *checker) object(r *report, o *object, kind, version string) {
	kind, version = cmp.Or(o.Kind.text, kind), cmp.Or(o.APIVersion.text, version)
	if item, isList := strings.CutSuffix(kind, "List"); isList {
		if isKnown(version, item) || kind == "List" && version == "v1" {
			for i := range o.Items {
				c.object(r, &o.Items[i], item, version)
			}
		}
		return
	}
	if !isKnown(version, kind) {
		return
	}
	if kind == "Namespace" {
		c.annotations.check(r, c.ranges, o)
		return
	}
	owner := &owner{kind: kind, namespace: cmp.Or(o.Metadata.Namespace.text, "default"), name: o.Metadata.Name.text}
	if filledIn(owner.namespace) {
		r.skip(o.Metadata.Namespace.line, "the ranges of %s: its namespace comes from a template", owner)
	}
	switch kind {
	case "Service":
		c.service(r, owner, &o.Spec.serviceSpec)
	case "Pod":
		c.pod(r, owner, &o.Spec.podSpec)
	case "CronJob":
		c.pod(r, owner, &o.Spec.JobTemplate.Spec.Template.Spec)
	default:
		c.pod(r, owner, &o.Spec.Template.Spec)
	}
}

// pod checks the ports of a pod's containers. Init containers count if they go on to run as sidecars.
func (c *checker) pod(r *report, o *owner, spec *podSpec) {
	if filledIn(spec.HostNetwork.text) {
		r.skip(spec.HostNetwork.line, "hostNetwork of %s comes from a template: assumed to be false", o)
	}
	containers := slices.Clone(spec.Containers)
	for _, sidecar := range spec.InitContainers {
		if sidecar.RestartPolicy.text == "Always" {
			containers = append(containers, sidecar)
		}
	}
	own := make(map[slot]claim)
	for i := range containers {
		for j := range containers[i].Ports {
			c.containerPort(r, o, own, &containers[i].Ports[j], spec.HostNetwork.isTrue())
		}
	}
}

// containerPort checks a port of a container. own has the host ports of the containers before it.
func (c *checker) containerPort(r *report, o *owner, own map[slot]claim, p *containerPort, hostNetwork bool) {
	at, key := p.HostPort, "hostPort"
	port, ok := readPort(r, o, at, key)
	if hostNetwork {
		number, known := readPort(r, o, p.ContainerPort, "containerPort")
		if known && ok && number != port {
			r.find(at.place, "hostPort %d of %s differs from its containerPort %d, which host networking does not allow: "+
				"want hostPort: %[3]d, or none", port, o, number)
		}
		if known || !ok {
			at, key, port, ok = p.ContainerPort, "containerPort", number, known
		}
	}
	if !ok {
		return
	}
	c.hostPorts.claim(r, own, hostPort{
		owner: o, at: at, key: key, port: port, hostIP: p.HostIP, protocol: p.Protocol, hostNetwork: hostNetwork,
	})
	c.ranges.check(r, o, at, key, port)
}

// service checks the ports of a Service.
func (c *checker) service(r *report, o *owner, spec *serviceSpec) {
	// An ExternalName is another name for what is elsewhere: its ports are not this cluster's.
	external := spec.Type.text == "ExternalName"
	check := func(at value, key string) {
		if port, ok := readPort(r, o, at, key); ok && !external {
			c.ranges.check(r, o, at, key, port)
		}
	}
	for _, p := range spec.Ports {
		check(p.Port, "port")
		check(p.NodePort, "nodePort")
	}
	check(spec.HealthCheckNodePort, "healthCheckNodePort")
}

// readPort reads a port. 0 is none: it is how Kubernetes writes a port that is not set.
func readPort(r *report, o *owner, v value, key string) (port uint16, ok bool) {
	if !v.exists() {
		return 0, false
	}
	if filledIn(v.text) {
		r.skip(v.line, "%s of %s comes from a template", key, o)
		return 0, false
	}
	// Base 0 has the forms of YAML 1.1, which Kubernetes reads: 0x1f90, 017620 and 8_080.
	number, err := strconv.ParseUint(v.text, 0, 16)
	if err != nil || v.tag != "!!int" {
		is := wording.Name(v.text)
		switch {
		case v.text == "":
			is = "not a number"
		case err == nil:
			is = "not a number but " + strconv.Quote(v.text)
		}
		r.find(v.place, "%s of %s is %s: want a number from 1 to 65535", key, o, is)
		return 0, false
	}
	return uint16(number), number != 0
}

// owner is an object that has ports.
type owner struct{ kind, namespace, name string }

// String returns "Deployment team-alpha/web".
func (o *owner) String() string {
	name := "without a name"
	if o.name != "" {
		name = wording.Name(o.name)
	}
	return fmt.Sprintf("%s %s/%s", o.kind, wording.Name(o.namespace), name)
}

// same reports whether two documents describe one object.
func (o *owner) same(p *owner) bool {
	return o == p || o.name != "" && o.kind == p.kind && o.namespace == p.namespace && o.name == p.name
}
