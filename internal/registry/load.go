//go:build linux

package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Source is the content of one file of a registry.
type Source struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Stdin is the path that stands for the standard input.
const Stdin = "-"

// Load reads the registry that the files at paths make together. A path may be a directory: each *.yml and *.yaml in it is a
// file. It may also be a pipe, or [Stdin]. Mistakes in the content are Faults.
func Load(paths ...string) (*Registry, error) {
	files, err := Read(paths...)
	if err != nil {
		return nil, err
	}
	return ParseAll(files)
}

// Read reads the files at paths, as [Load] does.
func Read(paths ...string) ([]Source, error) { return readFiles(paths, open) }

// Parse reads a registry from the content of one file. file is its name. The error is Faults: every mistake in it or, if it is not
// YAML, the first one.
func Parse(file string, data []byte) (*Registry, error) { return ParseAll([]Source{{file, data}}) }

// ParseAll reads the registry that files make together. Its services are in the order of the files. The error is Faults, those of
// all files.
func ParseAll(files []Source) (*Registry, error) {
	p := &parser{registry: &Registry{file: theRegistry(files)}}
	size, subject := 0, "is"
	for _, f := range files {
		p.file = f.Name
		if size += len(f.Data); size > maxSize {
			p.add(1, 1, "%s larger than %d MiB: want a shorter file", own(subject), maxSize>>20)
			break
		}
		subject = "makes the registry"
		if root := p.document(f.Data); root != nil && p.expand(root) {
			p.root(root)
		}
	}
	p.names(p.registry.services, "")
	p.conflicts(p.registry.services, "", func(a, b *service, work *int) bool { return a.hosts.meet(b.hosts, work) })
	p.overlaps(p.registry.reserved)
	p.banned(p.registry)
	if err := p.err(); err != nil {
		return nil, err
	}
	p.registry.ranges = rangesOf(p.registry.reserved)
	return p.registry, nil
}

// theRegistry names the registry that files make together.
func theRegistry(files []Source) string {
	if len(files) == 1 {
		return files[0].Name
	}
	return "the registry"
}

// readFiles reads the files at paths, each once. A directory is all the registries in it, sorted by name.
func readFiles(paths []string, open func(path string) (*os.File, error)) ([]Source, error) {
	var files []Source
	room := int64(maxSize + 1) // one byte more than ParseAll accepts
	known := make(map[string]bool)
	read := func(path string) error {
		clean := filepath.Clean(path)
		if known[clean] {
			return nil
		}
		known[clean] = true
		f, err := open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		content, err := io.ReadAll(io.LimitReader(f, room))
		if err != nil {
			return err
		}
		room -= int64(len(content))
		if path == Stdin {
			path = "<stdin>"
		}
		files = append(files, Source{path, content})
		return nil
	}
	for _, path := range paths {
		names, err := registriesIn(path)
		for _, name := range names {
			if err = read(name); err != nil {
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read the registry: %w", err)
		}
	}
	return files, nil
}

// registriesIn returns the paths of the registries in a directory, or the path itself if it is none.
func registriesIn(path string) ([]string, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return []string{path}, nil // reading it fails with the same error
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		extension := filepath.Ext(e.Name())
		// Editors and the kubelet make hidden files for a moment.
		if extension != ".yml" && extension != ".yaml" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := filepath.Join(path, e.Name())
		// Only a person names a pipe: one that is found here may have no writer.
		if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
			return nil, &fs.PathError{Op: "open", Path: file, Err: errNotRegular}
		}
		paths = append(paths, file)
	}
	if len(paths) == 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNoRegistries}
	}
	return paths, nil
}

var (
	errNotRegular   = errors.New("not a regular file: want one, which can be read again")
	errNoRegistries = errors.New("a directory without *.yml: want a registry in it, or the path of one")
)

func open(path string) (*os.File, error) {
	if path == Stdin {
		return os.Stdin, nil
	}
	return os.Open(path)
}

// openRegular opens a regular file. It does not wait for the writer of a pipe.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
