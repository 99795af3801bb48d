//go:build linux

package manifest

import (
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// changes reads what a kustomization changes besides names.
func (k *kustomized) changes(one *kustomization, t *tree, root *yaml.Node) {
	for _, key := range []string{"patches", "patchesJson6902", "patchesStrategicMerge", "replacements"} {
		for _, n := range t.list(root, key) {
			if changesPorts(k.patch(one, t, n, key == "replacements")) {
				one.fail(n.Line, "it changes more than names and namespaces")
			}
		}
	}
	if n := t.get(root, "transformers"); n != nil {
		one.fail(n.Line, "it has transformers")
	}
	for _, key := range []string{"helmCharts", "helmChartInflationGenerator", "generators"} {
		if n := t.get(root, key); n != nil {
			k.notMade(one, one, n.Line, "it has "+key)
		}
	}
	for _, key := range []string{"configMapGenerator", "secretGenerator"} {
		for _, n := range t.list(root, key) {
			for _, file := range t.list(n, "files") {
				name := t.value(file).text
				k.named[path.Join(one.dir, name[strings.Index(name, "=")+1:])] = true
			}
		}
	}
}

// patch returns the text of a patch, or the paths to which replacements write, in the kustomization or in a file that it names.
func (k *kustomized) patch(one *kustomization, t *tree, n *yaml.Node, replaces bool) string {
	text, file := t.value(n).text, t.value(n, "path").text
	if n.Kind == yaml.MappingNode {
		text = t.value(n, "patch").text
	}
	if file == "" && isManifest(text) && !strings.Contains(text, "\n") {
		file = text
	}
	switch {
	case file == "" && replaces:
		return fieldPaths(t, n)
	case file == "":
		return text
	}
	name := path.Join(one.dir, file)
	k.named[name] = true
	data, err := k.folder.read(name)
	if err != nil || tooLarge(data) {
		one.fail(n.Line, "its patch "+wording.Printable(file)+" cannot be read")
		return ""
	}
	if !replaces {
		return string(data)
	}
	documents, _, _ := parse(data, false)
	return fieldPaths(&tree{}, &yaml.Node{Kind: yaml.SequenceNode, Content: documents})
}

// fieldPaths returns the paths to which a replacement, or each of a list, writes, as those of a JSON patch.
func fieldPaths(t *tree, n *yaml.Node) (paths string) {
	if n.Kind == yaml.SequenceNode {
		for _, replacement := range n.Content {
			paths += fieldPaths(t, replacement)
		}
		return paths
	}
	for _, target := range t.list(n, "targets") {
		for _, field := range t.list(target, "fieldPaths") {
			paths += "/" + strings.ReplaceAll(t.value(field).text, ".", "/") + "\n"
		}
	}
	return paths
}

// portFields matches the fields that say which ports an object takes, where, and whether it is there at all: as keys, and in the
// paths of a JSON patch.
var portFields = wording.Regexp(`(?m)(?:^|[\s{,"'/])(?:ports|hostNetwork|hostPort|containerPort|nodePort|healthCheckNodePort|hostIP|` +
	`externalIPs|allocateLoadBalancerNodePorts|externalTrafficPolicy|nodeName|nodeSelector|affinity)["']?(?:\s*:|/|\s*(?:[,}]|$))|` +
	`\$patch|\bmetadata/namespace\b|\bspec/type\b|type["']?:\s*["']?(?:NodePort|LoadBalancer|ClusterIP|ExternalName)`)

// wholePart matches a path of a JSON patch that leads to a part with such fields.
var wholePart = wording.Regexp(`(?m)(?:path|from)["']?:\s*["']?/(?:spec)?(?:/jobTemplate)?(?:/spec)?(?:/template)?(?:/spec)?` +
	`(?:/(?:containers|initContainers)(?:/[-\d]+)?)?/?["']?\s*(?:[,}]|$)`)

// changesPorts reports whether a patch may change which ports an object takes.
func changesPorts(patch string) bool {
	return portFields.Get().MatchString(patch) || wholePart.Get().MatchString(patch)
}
