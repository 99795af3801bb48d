package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// rangeAnnotation gives a namespace its ports: examples/kubernetes/policies/port-range.yaml has the API server enforce it.
const rangeAnnotation = "listen-exporter/port-range"

// object has the fields that are checked, of every kind of object and of lists of objects. A key that is new here belongs in
// isField as well.
type object struct {
	APIVersion value `yaml:"apiVersion"`
	Kind       value
	Metadata   struct {
		Name, Namespace value
		Annotations     struct {
			PortRange value `yaml:"listen-exporter/port-range"` // rangeAnnotation
		}
	}
	Spec struct {
		podSpec     `yaml:",inline"` // of a Pod
		serviceSpec `yaml:",inline"` // of a Service
		Template    podTemplate      // of a Deployment, and of other kinds like it
		JobTemplate struct {
			Spec struct{ Template podTemplate }
		} `yaml:"jobTemplate"` // of a CronJob
	}
	Items []object // of a list
}

type podTemplate struct{ Spec podSpec }

type podSpec struct {
	HostNetwork    value `yaml:"hostNetwork"`
	Containers     []container
	InitContainers []container `yaml:"initContainers"`
}

type container struct {
	RestartPolicy value `yaml:"restartPolicy"`
	Ports         []containerPort
}

type containerPort struct {
	ContainerPort value `yaml:"containerPort"`
	HostPort      value `yaml:"hostPort"`
	HostIP        value `yaml:"hostIP"`
	Protocol      value
}

type serviceSpec struct {
	Type                value
	HealthCheckNodePort value `yaml:"healthCheckNodePort"`
	Ports               []struct {
		Port     value
		NodePort value `yaml:"nodePort"`
	}
}

// isField reports whether a key is decoded.
func isField(key string) bool {
	switch key {
	case "<<", "apiVersion", "kind", "metadata", "name", "namespace", "annotations", rangeAnnotation, "spec", "items",
		"template", "jobTemplate", "hostNetwork", "containers", "initContainers", "restartPolicy", "ports",
		"containerPort", "hostPort", "hostIP", "protocol", "type", "healthCheckNodePort", "port", "nodePort":
		return true
	}
	return false
}

// value is a scalar and its place. It is the zero value if the scalar is absent or null.
type value struct {
	place
	// text is empty if the value is a list or a mapping.
	text   string
	tag    string
	quoted bool
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (v *value) UnmarshalYAML(n *yaml.Node) error {
	*v = value{
		place: place{n.Line, n.Column}, text: n.Value, tag: n.Tag,
		quoted: n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0,
	}
	return nil
}

func (v value) exists() bool { return v.line > 0 }

// isTrue reports whether a value is true, as Kubernetes reads it: yes and on are true as well, but not in quotes.
func (v value) isTrue() bool {
	switch strings.ToLower(v.text) {
	case "true", "yes", "on", "y":
		return !v.quoted
	}
	return false
}

// prepare adds before to the lines of nodes, so that they are those of the file. It removes keys that are not decoded: the time of
// yaml.Node.Decode grows with the square of the number of keys. Of several values of a key it keeps the last, which counts in
// Kubernetes; Decode would leave the whole mapping out. It returns the line of the first template, which YAML reads as a mapping
// with a mapping as a key.
func prepare(n *yaml.Node, before int) (template int) {
	n.Line += before
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.MappingNode {
			return n.Line
		}
		if template := prepare(child, before); template > 0 {
			return template
		}
	}
	if n.Kind != yaml.MappingNode {
		return 0
	}
	var fields []*yaml.Node
	seen := make(map[string]bool)
	for i := len(n.Content) - 2; i >= 0; i -= 2 {
		if key := n.Content[i]; key.Kind == yaml.ScalarNode && isField(key.Value) && !seen[key.Value] {
			seen[key.Value] = true
			fields = append(fields, key, n.Content[i+1])
		}
	}
	n.Content = fields
	return 0
}
