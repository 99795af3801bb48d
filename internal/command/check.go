package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/manifest"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Stdin is the path that stands for the standard input.
const Stdin = registry.Stdin

// Check checks registries, each of one or more files, and directories of Kubernetes manifests for faults and returns the exit code.
func Check(registries [][]string, manifests []string, s Streams) int {
	var out bytes.Buffer
	found, err := check(registries, manifests, &out, s.Err)
	return s.finish(&out, found, err, nil)
}

func check(registries [][]string, manifests []string, out *bytes.Buffer, stderr io.Writer) (found bool, err error) {
	if len(registries) == 0 && len(manifests) == 0 {
		return false, errors.New("check needs a registry or manifests: `" + wording.Program + " check ports.yml`, `" + wording.Program + " check --manifests=DIR`")
	}
	var good []*registry.Registry
	var errs []error
	for _, files := range registries {
		r, err := registry.Load(files...)
		faults := registry.Faults(nil)
		switch {
		case errors.As(err, &faults):
			found = true
			writeFaults(out, faults)
		case err != nil:
			errs = append(errs, err)
		default:
			good = append(good, r)
			fmt.Fprintf(out, "%s: %s, %s\n", wording.Path(strings.Join(files, ", ")), wording.Count(r.ServiceCount(), "service"), wording.Count(len(r.Ranges()), "reserved range"))
		}
	}
	if len(good) == 0 {
		good = append(good, nil) // duplicate host ports are faults without a registry too
	}
	for _, dir := range manifests {
		foundHere, err := checkManifests(good, dir, out, stderr)
		found = found || foundHere
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

// checkManifests checks a directory of manifests against each registry. It writes a line only once, even if several registries
// lead to it.
func checkManifests(registries []*registry.Registry, dir string, out, stderr io.Writer) (found bool, err error) {
	written := make(map[string]bool)
	writeOnce := func(w io.Writer, line string) {
		if !written[line] {
			written[line] = true
			_, _ = fmt.Fprintln(w, line)
		}
	}
	for _, r := range registries {
		var findings []registry.Fault
		var skipped []manifest.Skipped
		findings, skipped, err = manifest.Check(r, dir) // the same error for each registry
		for _, f := range findings {
			found = true
			writeOnce(out, f.Error())
		}
		for _, s := range skipped {
			writeOnce(stderr, fmt.Sprintf("%s:%d: warning: not checked: %s", s.File, s.Line, s.Reason))
		}
	}
	if err == nil && !found {
		_, _ = fmt.Fprintf(out, "%s: nothing found\n", wording.Path(dir))
	}
	return found, err
}
