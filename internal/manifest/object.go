package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// kind is a kind of object that has ports, or a say in whose they are.
type kind struct {
	// groups are the API groups that have it: others have kinds of the same name.
	groups []string
	// pod is where it describes its pods, if it does.
	pod []string
}

// kindOf returns the kind of a name in an API version such as apps/v1.
func kindOf(version, name string) (k kind, ok bool) {
	group, _, found := strings.Cut(version, "/")
	if !found {
		group = ""
	}
	switch template := []string{"spec", "template", "spec"}; name {
	case "Pod":
		k = kind{groups: []string{""}, pod: []string{"spec"}}
	case "ReplicationController":
		k = kind{groups: []string{""}, pod: template}
	case "Deployment", "DaemonSet", "ReplicaSet", "StatefulSet":
		k = kind{groups: []string{"apps", "extensions"}, pod: template}
	case "Job":
		k = kind{groups: []string{"batch"}, pod: template}
	case "CronJob":
		k = kind{groups: []string{"batch"}, pod: []string{"spec", "jobTemplate", "spec", "template", "spec"}}
	case "Service", "Namespace":
		k = kind{groups: []string{""}}
	default:
		return kind{}, false
	}
	return k, version != "" && slices.Contains(k.groups, group)
}

// object is what a document describes.
type object struct {
	kind, namespace, name string
	// known tells that its namespace is not one that is still to be filled in.
	known bool
	// own has the host ports of this document, of which no two may be the same.
	own map[slot]claim
}

// String returns "Deployment team-alpha/web".
func (o *object) String() string {
	name := "without a name"
	if o.name != "" {
		name = shown(o.name)
	}
	return fmt.Sprintf("%s %s/%s", o.kind, shown(o.namespace), name)
}

// same tells whether two documents describe one object.
func (o *object) same(p *object) bool {
	return o == p || o.name != "" && o.kind == p.kind && o.namespace == p.namespace && o.name == p.name
}

// maxLists is how deep a list may be in lists.
const maxLists = 8

// object checks a document, or an item of a list. Its kind and version are name and version where it does not tell them.
func (f *file) object(v value, name, version string, lists int) {
	if told := f.get(v, "kind").text(); told != "" {
		name = told
	}
	if apiVersion := f.get(v, "apiVersion").text(); apiVersion != "" {
		version = apiVersion
	}
	// An item of a typed list, such as a PodList, need not tell its kind and version again.
	if item, isList := strings.CutSuffix(name, "List"); isList {
		if _, typed := kindOf(version, item); lists > 0 && (typed || name == "List" && version == "v1") {
			for _, v := range f.items(f.get(v, "items")) {
				f.object(v, item, version, lists-1)
			}
		}
		return
	}
	k, ok := kindOf(version, name)
	switch {
	case !ok:
		return
	case name == "Namespace":
		f.namespaceObject(v)
		return
	}
	o := &object{kind: name, namespace: "default", name: f.get(v, "metadata", "name").text(), known: true, own: make(map[slot]claim)}
	if namespace := f.get(v, "metadata", "namespace"); namespace.text() != "" {
		if o.namespace = namespace.text(); filledIn(o.namespace) {
			o.known = false
			f.skipValue(namespace, "the ranges of %s: its namespace is filled in by a template", o)
		}
	}
	if k.pod != nil {
		f.pod(o, f.get(v, k.pod...))
	} else {
		f.service(o, f.get(v, "spec"))
	}
	o.own = nil // the object itself is kept with what it claims
}

// pod checks the ports of a pod's containers.
func (f *file) pod(o *object, spec value) {
	hostNetwork := f.get(spec, "hostNetwork")
	if filledIn(hostNetwork.text()) {
		f.skipValue(hostNetwork, "hostNetwork of %s is filled in by a template: taken as false", o)
	}
	containers := f.items(f.get(spec, "containers"))
	for _, c := range f.items(f.get(spec, "initContainers")) {
		if f.get(c, "restartPolicy").text() == "Always" {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, port := range f.items(f.get(c, "ports")) {
			f.containerPort(o, port, hostNetwork.truth())
		}
	}
}

// containerPort checks an item of a container's ports.
func (f *file) containerPort(o *object, v value, hostNetwork bool) {
	key := "hostPort"
	at := f.get(v, key)
	port, ok := f.port(o, at, key)
	if hostNetwork {
		key = "containerPort"
		container := f.get(v, key)
		number, known := f.port(o, container, key)
		if known && ok && number != port {
			f.find(at, "hostPort %d of %s is not its containerPort %d, as it must be with host networking: want hostPort: %[3]d, or none", port, o, number)
		}
		if known || !ok {
			at, port, ok = container, number, known
		} else {
			key = "hostPort"
		}
	}
	if !ok {
		return
	}
	f.claim(o, at, key, port, f.get(v, "hostIP"), f.get(v, "protocol"), hostNetwork)
	f.reserved(o, at, key, port)
}

// service checks the ports of a Service.
func (f *file) service(o *object, spec value) {
	// It is another name for what is elsewhere: nothing of this cluster has its ports.
	external := f.get(spec, "type").text() == "ExternalName"
	check := func(v value, key string) {
		at := f.get(v, key)
		if port, ok := f.port(o, at, key); ok && !external {
			f.reserved(o, at, key, port)
		}
	}
	for _, port := range f.items(f.get(spec, "ports")) {
		check(port, "port")
		check(port, "nodePort")
	}
	check(spec, "healthCheckNodePort")
}

// port reads a port. 0 is none: it is how Kubernetes writes a port that is not set.
func (f *file) port(o *object, v value, key string) (port uint16, ok bool) {
	if !v.exists() || v.node.Tag == "!!null" {
		return 0, false
	}
	text := v.text()
	if filledIn(text) {
		f.skipValue(v, "%s of %s is filled in by a template", key, o)
		return 0, false
	}
	// Base 0 has YAML 1.1's forms, which Kubernetes reads: 0x1f90, 017620 and 8_080.
	number, err := strconv.ParseUint(text, 0, 16)
	if err != nil || v.node.Tag != "!!int" {
		said := shown(text)
		switch {
		case text == "":
			said = "no number"
		case err == nil:
			said = "not a number but " + strconv.Quote(text)
		}
		f.find(v, "%s of %s is %s: want a number from 1 to 65535", key, o, said)
		return 0, false
	}
	return uint16(number), number != 0
}
