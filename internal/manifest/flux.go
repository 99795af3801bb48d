package manifest

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// fluxGroup is the group of Flux's Kustomization, which says in the cluster where a kustomization goes.
const fluxGroup = "kustomize.toolkit.fluxcd.io/"

// flux reads the Kustomizations of Flux in a file. One with a namespace or with patches is like a kustomization of another
// directory.
func (k *kustomized) flux(name string) {
	data, err := k.folder.read(name)
	if err != nil || !bytes.Contains(data, []byte(fluxGroup)) || len(data) > maxSize || tooManyValues(data) {
		return
	}
	documents, _, _ := parse(data, isJSON(name))
	t := &tree{}
	for _, root := range documents {
		spec := t.get(root, "spec")
		made := rendering{t.value(spec, "targetNamespace").text, t.value(spec, "namePrefix").text, t.value(spec, "nameSuffix").text}
		dir, found := k.directory(t.value(spec, "path").text)
		if !strings.HasPrefix(t.value(root, "apiVersion").text, fluxGroup) || !found {
			continue
		}
		one := &kustomization{file: name, dir: name, rendering: made}
		one.command = fmt.Sprintf("flux build kustomization %s --path %s",
			wording.Name(t.value(root, "metadata", "name").text), wording.Printable(k.folder.path(dir)))
		if k.changes(one, t, spec); made == (rendering{}) && one.hurdle == "" {
			continue
		}
		if one.dirs = []string{dir}; k.all[dir] == nil { // Flux makes a kustomization of what is below
			one.dirs, one.files = nil, k.below(dir)
			for _, file := range one.files {
				k.named[file] = true
			}
		}
		k.all[fmt.Sprintf("%s:%d", name, root.Line)] = one
	}
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
