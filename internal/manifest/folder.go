//go:build linux

package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// folder is a directory of manifests.
type folder struct {
	fs.FS
	name string
	// files are the manifests in it, by their names in FS. whole is set if they are all.
	files []string
	whole bool
}

// path returns the name of a file as it is shown.
func (f *folder) path(name string) string { return filepath.Join(f.name, filepath.FromSlash(name)) }

// folder checks a directory.
func (c *checker) folder(f *folder) error {
	var problems []error
	problem := func(name string, err error) {
		// The name in the error is relative to the directory.
		if at, ok := errors.AsType[*fs.PathError](err); ok {
			err = at.Err
		}
		problems = append(problems, fmt.Errorf("read the manifest %s: %w", wording.Printable(f.path(name)), err))
	}
	inChart := make(map[string]bool) // the directories of templates
	_ = fs.WalkDir(f, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case name != "." && Excluded(c.options.Exclude, name, f.path(name)):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case err != nil:
			problem(name, err)
		case entry.Type()&fs.ModeSymlink != 0:
			if f.leadsOut(name) {
				c.report.skip(wording.Path(f.path(name)), 1, "is a symbolic link: want the files themselves in this directory")
				c.report.NotChecked["symbolic link"]++
			}
		case entry.IsDir():
			_, err := fs.Stat(f, path.Join(path.Dir(name), "Chart.yaml"))
			inChart[name] = inChart[path.Dir(name)] || path.Base(name) == "templates" && err == nil
		case !isManifest(name) && path.Base(name) != "Kustomization":
		case !entry.Type().IsRegular():
			c.report.skip(wording.Path(f.path(name)), 1, "is not a regular file")
			c.report.NotChecked["special file"]++
		case inChart[path.Dir(name)]:
			c.report.skip(wording.Path(f.path(name)), 1, "is a template of a chart: want what it renders to, as helm template prints it")
			c.template(wording.Path(f.path(name)))
		default:
			f.files = append(f.files, name)
		}
		return nil
	})
	k := c.kustomize(f)
	for _, name := range f.files {
		if k.passed(name) || !c.firstFile(f.path(name)) {
			continue
		}
		data, err := f.read(name)
		switch {
		case err != nil:
			problem(name, err)
		default:
			c.content(wording.Path(f.path(name)), data, k.made[name], false)
		}
	}
	return errors.Join(problems...)
}

// isManifest reports whether the name of a file is one of a manifest.
func isManifest(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// leadsOut reports whether a symbolic link leads to manifests that are not checked where they are: they are outside of the
// directory, or have another kind of name there.
func (f *folder) leadsOut(name string) bool {
	file := f.path(name)
	if target, err := fs.Stat(f, name); err == nil {
		end, err := filepath.EvalSymlinks(file)
		if target.IsDir() || !isManifest(name) || err == nil && isManifest(end) {
			return false
		}
	}
	target, err := os.Stat(file)
	return isManifest(name) || err == nil && target.IsDir()
}

func (f *folder) read(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return readAll(file)
}

// Excluded reports whether one of the patterns matches a file or directory, by its name in the directory under check, or by the
// name as it is shown. A pattern without a slash matches a name in any directory. ** stands for any number of directories.
func Excluded(patterns []string, names ...string) bool {
	for _, pattern := range patterns {
		pattern = strings.TrimSuffix(path.Clean(filepath.ToSlash(pattern)), "/**")
		if !strings.Contains(pattern, "/") {
			pattern = "**/" + pattern
		}
		for _, name := range names {
			if matches(strings.Split(pattern, "/"), strings.Split(path.Clean(filepath.ToSlash(name)), "/")) {
				return true
			}
		}
	}
	return false
}

// matches reports whether each part of a pattern matches one of a name.
func matches(pattern, name []string) bool {
	if len(pattern) == 0 || len(name) == 0 {
		return len(pattern) == len(name)
	}
	if pattern[0] == "**" {
		return matches(pattern[1:], name) || matches(pattern, name[1:])
	}
	ok, _ := path.Match(pattern[0], name[0])
	return ok && matches(pattern[1:], name[1:])
}
