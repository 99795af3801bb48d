//go:build linux

package manifest

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// nowCalled returns the name of a label of nodes, which had others before.
func nowCalled(label string) string {
	switch label {
	case "beta.kubernetes.io/os":
		return osLabel
	case "beta.kubernetes.io/arch":
		return "kubernetes.io/arch"
	case "failure-domain.beta.kubernetes.io/zone":
		return "topology.kubernetes.io/zone"
	case "failure-domain.beta.kubernetes.io/region":
		return "topology.kubernetes.io/region"
	}
	return label
}

const (
	osLabel   = "kubernetes.io/os"
	nameField = "metadata.name"
	// absent is the value of a label that a node does not have.
	absent = "\x00"
)

// nodes are the nodes on which a pod may run, by a label or nameField: it has one of the values, or none of them if not is set. A
// node has one value of a label, so that pods that want two never share it.
type nodes map[string]struct {
	values []string
	not    bool
}

// limit adds a condition. One for each label is enough to tell pods apart. A value that a template fills in may be any.
func (n nodes) limit(label string, not bool, values ...value) {
	label = nowCalled(label)
	if _, known := n[label]; known || len(values) == 0 {
		return
	}
	condition := n[label]
	condition.not = not
	for _, v := range values {
		if v.text == "" && !v.quoted || filledIn(v.text) {
			return
		}
		condition.values = append(condition.values, v.text)
	}
	n[label] = condition
}

// apart reports whether no node can have a pod of n and one of o.
func (n nodes) apart(o nodes) bool {
	for label, a := range n {
		b, both := o[label]
		if !both || a.not && b.not {
			continue
		}
		if a.not {
			a, b = b, a
		}
		// a has values. Is one of them possible for b?
		if !slices.ContainsFunc(a.values, func(v string) bool { return slices.Contains(b.values, v) != b.not }) {
			return true
		}
	}
	return false
}

// nodesOf returns the nodes on which a pod may run.
func (t *tree) nodesOf(spec *yaml.Node) nodes {
	n := make(nodes)
	n.limit(nameField, false, t.value(spec, "nodeName"))
	n.limit(osLabel, false, t.value(spec, "os", "name"))
	if selector := t.get(spec, "nodeSelector"); selector != nil && selector.Kind == yaml.MappingNode {
		for i := 0; i < len(selector.Content); i += 2 {
			n.limit(selector.Content[i].Value, false, t.value(selector.Content[i+1]))
		}
	}
	terms := t.list(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	// Any one of the terms is enough, so that several limit only what all of them do.
	allowed, by := make(map[string][]value), make(map[string]int)
	for _, term := range terms {
		seen := make(map[string]bool)
		for _, e := range slices.Concat(t.list(term, "matchExpressions"), t.list(term, "matchFields")) {
			label := t.value(e, "key").text
			label = nowCalled(label)
			var values []value
			for _, v := range t.list(e, "values") {
				values = append(values, t.value(v))
			}
			operator := t.value(e, "operator").text
			if operator == "Exists" || operator == "DoesNotExist" {
				values = []value{{text: absent}}
			}
			switch {
			case (operator == "In" || operator == "DoesNotExist") && !seen[label]:
				seen[label] = true
				allowed[label] = append(allowed[label], values...)
				by[label]++
			case (operator == "NotIn" || operator == "Exists") && len(terms) == 1:
				n.limit(label, true, values...)
			}
		}
	}
	for label, values := range allowed {
		if by[label] == len(terms) {
			n.limit(label, false, values...)
		}
	}
	return n
}
