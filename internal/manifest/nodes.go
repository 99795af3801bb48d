package manifest

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// fixedLabels are labels whose value on a node does not change while it lives, and the name of each here.
var fixedLabels = map[string]string{
	"kubernetes.io/os": "os", "beta.kubernetes.io/os": "os",
	"kubernetes.io/arch": "arch", "beta.kubernetes.io/arch": "arch",
	"kubernetes.io/hostname":        "hostname",
	"topology.kubernetes.io/zone":   "zone",
	"topology.kubernetes.io/region": "region",
}

// nodes are the nodes on which a pod may run, by a label: it has one of the values, or none of them if not is set.
type nodes map[string]struct {
	values []string
	not    bool
}

// limit adds a condition. One for each label is enough to tell pods apart. A value that a template fills in may be any.
func (n nodes) limit(label string, not bool, values ...value) {
	if _, known := n[label]; known || label == "" || len(values) == 0 {
		return
	}
	condition := n[label]
	condition.not = not
	for _, v := range values {
		if v.text == "" || filledIn(v.text) {
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
	n.limit("name", false, t.value(spec, "nodeName"))
	n.limit("os", false, t.value(spec, "os", "name"))
	for label, name := range fixedLabels {
		if v := t.value(spec, "nodeSelector", label); v.exists() {
			n.limit(name, false, v)
		}
	}
	terms := t.list(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	// Any one of the terms is enough, so that several limit only what all of them do.
	allowed, by := make(map[string][]value), make(map[string]int)
	for _, term := range terms {
		seen := make(map[string]bool)
		for _, e := range slices.Concat(t.list(term, "matchExpressions"), t.list(term, "matchFields")) {
			label := fixedLabels[t.value(e, "key").text]
			if t.value(e, "key").text == "metadata.name" {
				label = "name"
			}
			var values []value
			for _, v := range t.list(e, "values") {
				values = append(values, t.value(v))
			}
			switch operator := t.value(e, "operator").text; {
			case operator == "In" && label != "" && !seen[label]:
				seen[label] = true
				allowed[label] = append(allowed[label], values...)
				by[label]++
			case operator == "NotIn" && len(terms) == 1:
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
