//go:build linux

package manifest

import (
	"os"
	"path/filepath"
	"strings"
)

// above looks at the kustomizations in the directories above the folder, up to the root of the repository. What one of them
// governs and changes is not judged: what it makes would take all that it builds on.
func (k *kustomized) above() {
	asked, err := filepath.Abs(k.folder.name)
	if err != nil {
		return
	}
	up := ".."
	for dir := asked; dir != filepath.Dir(dir); up = filepath.Join(up, "..") {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			return
		}
		dir = filepath.Dir(dir)
		outer := &kustomized{
			checker: &checker{report: newReport(), met: make(map[string]bool)}, folder: &folder{FS: os.DirFS(dir), name: filepath.Join(k.folder.name, up)},
			all: make(map[string]*kustomization), named: make(map[string]bool),
		}
		for _, name := range kustomizationNames {
			if outer.all["."] == nil {
				outer.read(name)
			}
		}
		one := outer.all["."]
		if one == nil || one.rendering == (rendering{}) && one.hurdle == "" {
			continue
		}
		governed := false
		for _, name := range k.folder.files {
			for _, target := range one.dirs {
				if strings.HasPrefix(filepath.Join(asked, name)+"/", filepath.Join(dir, target)+"/") && !k.passed(name) {
					governed, k.named[name] = true, true
					delete(k.made, name)
				}
			}
		}
		if governed {
			outer.checker = k.checker
			outer.notMade(one, one, max(one.line, 1), "it is above these files")
		}
	}
}
