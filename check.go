package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/manifest"
	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// check looks for faults in registries and Kubernetes manifests, and tells whether it found one.
func check(c *config, out *bytes.Buffer, stderr io.Writer) (found bool, err error) {
	files := c.files
	if file := c.inventory.RegistryFile; file != "" && !slices.Contains(files, file) {
		files = append(files, file)
	}
	if len(files) == 0 && len(c.manifests) == 0 {
		return false, errors.New("check needs a registry or manifests: `" + program + " check ports.yml`, `" + program + " check --manifests=DIR`")
	}
	var good []*registry.Registry
	var troubles []error
	for _, file := range files {
		r, err := registry.Load(file)
		if faults := registry.Faults(nil); errors.As(err, &faults) {
			found = true
			writeFaults(out, faults)
			continue
		}
		if err != nil {
			troubles = append(troubles, err)
			continue
		}
		good = append(good, r)
		fmt.Fprintf(out, "%s: %s, %s\n", registry.PrintablePath(file), counted(r.ServiceCount(), "service"), counted(len(r.Ranges()), "reserved range"))
	}
	if len(good) == 0 {
		good = append(good, nil) // host ports may be taken twice all the same
	}
	for _, dir := range c.manifests {
		some, err := checkManifests(good, dir, out, stderr)
		found = found || some
		troubles = append(troubles, err)
	}
	return found, errors.Join(troubles...)
}

// checkManifests checks a directory of manifests by each registry, and tells what is found by several once.
func checkManifests(registries []*registry.Registry, dir string, out *bytes.Buffer, stderr io.Writer) (found bool, err error) {
	told := make(map[string]bool)
	tell := func(w io.Writer, line string) {
		if !told[line] {
			told[line] = true
			_, _ = fmt.Fprintln(w, line)
		}
	}
	for _, r := range registries {
		var findings []manifest.Finding
		var skipped []manifest.Skipped
		findings, skipped, err = manifest.Check(r, dir) // each has the same error
		for _, f := range findings {
			found = true
			tell(out, f.String())
		}
		for _, s := range skipped {
			tell(stderr, fmt.Sprintf("%s:%d: warning: not checked: %s", s.File, s.Line, s.Reason))
		}
	}
	if err == nil && !found {
		fmt.Fprintf(out, "%s: nothing found\n", registry.PrintablePath(dir))
	}
	return found, err
}

// writeFaults writes the faults of a registry by their places, as compilers do.
func writeFaults(w io.Writer, faults registry.Faults) {
	for _, fault := range faults {
		fault.File = registry.PrintablePath(fault.File)
		_, _ = fmt.Fprintln(w, fault)
	}
}
