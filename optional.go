//go:build linux

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// addOptional returns the files of a registry, and those of the optional ones that are there. A unit that packages install can so
// name the usual places: a host without a registry is a normal one. What cannot be looked at is there, and reading it shows why not.
func addOptional(files, optional []string) []string {
	for _, path := range optional {
		if path != "" && isThere(path) && !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	return files
}

// isThere reports whether there is a registry at a path: a file, or a directory with a *.yml.
func isThere(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return !errors.Is(err, fs.ErrNotExist)
	}
	for _, pattern := range []string{"[^.]*.yml", "[^.]*.yaml"} {
		if found, _ := filepath.Glob(filepath.Join(path, pattern)); len(found) > 0 {
			return true
		}
	}
	// A directory that may not be listed looks like an empty one.
	_, err = os.ReadDir(path)
	return err != nil
}
