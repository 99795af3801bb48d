//go:build linux

package manifest

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// The groups of what says in a cluster where the manifests of a directory go: Flux's Kustomization and Argo CD's Application.
const (
	fluxGroup = "kustomize.toolkit.fluxcd.io/"
	argoGroup = "argoproj.io/"
)

// deliveries reads the Kustomizations and Applications in a file. One that changes something is like a kustomization of another
// directory.
func (k *kustomized) deliveries(name string) {
	data, err := k.folder.read(name)
	if err != nil || !bytes.Contains(data, []byte(fluxGroup)) && (!bytes.Contains(data, []byte(argoGroup)) || !bytes.Contains(data, []byte("destination"))) ||
		tooLarge(data) {
		return
	}
	documents, _, _ := parse(data, isJSON(name))
	t := &tree{}
	for _, root := range documents {
		documents = append(documents, t.list(root, "items")...)
	}
	for _, root := range documents {
		version, called := t.value(root, "apiVersion").text, wording.Name(t.value(root, "metadata", "name").text)
		spec := t.get(root, "spec")
		switch {
		case strings.HasPrefix(version, fluxGroup):
			made := rendering{namespace: t.value(spec, "targetNamespace").text}
			k.deliver(name, t, t.value(spec, "path"), spec, made, true, "flux build kustomization "+called+" --path ")
		case strings.HasPrefix(version, argoGroup):
			if template := t.path(spec, "template", "spec"); template != nil { // of an ApplicationSet
				spec = template
			}
			for _, source := range append(t.list(spec, "sources"), t.get(spec, "source")) {
				options := t.get(source, "kustomize")
				made := rendering{t.value(options, "namespace").text, "", "", t.value(spec, "destination", "namespace").text, ""}
				k.deliver(name, t, t.value(source, "path"), options, made, t.value(source, "directory", "recurse").isTrue(), "argocd app manifests "+called+" --local ")
			}
		}
	}
}

// deliver notes that what is in a directory goes to the cluster as made, with the options of a kustomization.
func (k *kustomized) deliver(file string, t *tree, at value, options *yaml.Node, made rendering, recurse bool, command string) {
	dir, found := k.directory(at.text)
	whole := path.Clean("/"+at.text) == "/" && made.otherwise == "" // of Flux, for Applications are counted anyway
	if !found && !whole {
		return
	}
	made.prefix, made.suffix = t.value(options, "namePrefix").text, t.value(options, "nameSuffix").text
	one := &kustomization{file: file, dir: file, rendering: made, command: command + wording.Printable(k.folder.path(dir))}
	k.changes(one, t, options)
	for _, n := range t.list(options, "components") {
		one.components = append(one.components, path.Join(dir, t.value(n).text))
	}
	if made == (rendering{}) && one.hurdle == "" && one.components == nil {
		return
	}
	if whole {
		k.notMade(one, one, max(at.line, 1), "it changes the whole of a repository, which may be another one")
		return
	}
	for _, name := range k.below(dir) {
		switch kustomization := k.governing(name, dir); {
		case kustomization != "":
			if !slices.Contains(one.dirs, kustomization) {
				one.dirs = append(one.dirs, kustomization)
			}
		case recurse || path.Dir(name) == dir:
			one.files = append(one.files, name)
			k.named[name] = true
		}
	}
	k.all[fmt.Sprintf("%s:%d", file, at.line)] = one
}

// directory returns the directory that is meant by a path in the repository, of which the folder may be a part.
func (k *kustomized) directory(text string) (dir string, found bool) {
	for dir = strings.TrimPrefix(path.Clean("/"+text), "/"); dir != ""; _, dir, _ = strings.Cut(dir, "/") {
		if len(k.below(dir)) > 0 {
			return dir, true
		}
	}
	return "", false
}

// below returns the manifests in a directory and those below it.
func (k *kustomized) below(dir string) (files []string) {
	return slices.DeleteFunc(slices.Clone(k.folder.files), func(file string) bool {
		return !strings.HasPrefix(file, dir+"/") || slices.Contains(kustomizationNames, path.Base(file))
	})
}

// governing returns the uppermost directory at or below dir, and around a file, that has a kustomization, or "".
func (k *kustomized) governing(file, dir string) (uppermost string) {
	for at := path.Dir(file); strings.HasPrefix(at+"/", dir+"/"); at = path.Dir(at) {
		if k.all[at] != nil {
			uppermost = at
		}
	}
	return uppermost
}
