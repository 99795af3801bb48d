//go:build linux

package command

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/manifest"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Stdin is the path that stands for the standard input.
const Stdin = registry.Stdin

// CheckOptions say what to check.
type CheckOptions struct {
	// Registry are the files and directories that make one registry, as the exporter loads them.
	Registry []string
	// Manifests are files and directories, or Stdin. Each directory is a cluster of its own. Files and standard input are
	// one together, with the directory if there is only one.
	Manifests []string
	// Format is FormatText, FormatJSON or FormatSARIF.
	Format string
	// Manifest has the rest.
	Manifest manifest.Options
}

// Check checks registries and Kubernetes manifests for faults and returns the exit code.
func Check(o CheckOptions, s Streams) int {
	r := new(report)
	err := check(o, r, s.Err)
	return s.finishReport(r, o.Format, err)
}

func check(o CheckOptions, r *report, stderr io.Writer) error {
	if len(o.Registry) == 0 && len(o.Manifests) == 0 {
		return errors.New("check needs a registry or manifests: `" + wording.Program + " check ports.yml`, `" + wording.Program + " check --manifests=DIR`")
	}
	if slices.Contains(o.Manifests, Stdin) && slices.Contains(o.Registry, Stdin) {
		return errors.New("standard input is either a registry or manifests: want a file for one of them")
	}
	for _, pattern := range o.Manifest.Exclude {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("--exclude %s is no pattern: want names with * and ?, such as charts or **/test-*.yaml", wording.Quoted(pattern))
		}
	}
	var errs []error
	if len(o.Registry) > 0 {
		loaded, err := registry.Load(o.Registry...)
		faults := registry.Faults(nil)
		switch {
		case errors.As(err, &faults):
			for _, fault := range faults {
				fault.File = wording.Path(fault.File)
				r.find(findingOf(fault, RuleRegistry), fault.Error())
			}
		case err != nil:
			errs = append(errs, err)
		default:
			o.Manifest.Registry = loaded
			services, ranges := loaded.ServiceCount(), len(loaded.Ranges())
			paths := distinct(o.Registry)
			r.registry = &jsonCheckedRegistry{paths, services, ranges}
			for _, hint := range loaded.Hints() {
				_, _ = fmt.Fprintf(stderr, "%s:%d:%d: hint: %s\n", wording.Path(hint.File), hint.Line, hint.Column, hint.Text)
			}
			fmt.Fprintf(&r.text, "%s: %s, %s\n", wording.Path(strings.Join(paths, ", ")), wording.Count(services, "service"), wording.Count(ranges, "reserved range"))
		}
	}
	if len(o.Manifests) > 0 {
		errs = append(errs, checkManifests(o, r, stderr))
	}
	return errors.Join(errs...)
}

// distinct returns the paths of a registry as they are shown, without those that are there twice, or in a directory that is there.
func distinct(paths []string) (shown []string) {
	for _, p := range paths {
		p = filepath.Clean(p)
		inside := strings.HasSuffix(p, ".yml") && slices.ContainsFunc(paths, func(dir string) bool { return filepath.Clean(dir) == filepath.Dir(p) })
		if p == Stdin {
			p = "<stdin>"
		}
		if !inside && !slices.Contains(shown, p) {
			shown = append(shown, p)
		}
	}
	return shown
}

// clusters returns the paths of each cluster.
func clusters(paths []string) (clusters [][]string) {
	var loose []string
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			clusters = append(clusters, []string{path})
		} else if !slices.Contains(loose, path) {
			loose = append(loose, path)
		}
	}
	switch {
	case len(loose) == 0:
		return clusters
	case len(clusters) == 1:
		return [][]string{append(clusters[0], loose...)}
	}
	return append(clusters, loose)
}

// checkManifests checks manifests. Without a registry, ports that two objects take are faults too.
func checkManifests(o CheckOptions, r *report, stderr io.Writer) error {
	var errs []error
	sum := manifest.Report{NotChecked: make(map[string]int)}
	unread := 0
	for _, paths := range clusters(o.Manifests) {
		report, err := manifest.Check(o.Manifest, paths, os.Stdin)
		errs = append(errs, err)
		for _, f := range slices.Concat(report.Findings, report.Unread) {
			r.find(findingOf(f.Fault, f.Rule), f.Error())
		}
		unread += len(report.Unread)
		r.skipped = append(r.skipped, report.Skipped...)
		sum.Files, sum.Workloads, sum.Services = sum.Files+report.Files, sum.Workloads+report.Workloads, sum.Services+report.Services
		sum.Namespaces += report.Namespaces
		for kind, n := range report.NotChecked {
			sum.NotChecked[kind] += n
		}
	}
	// Templates come last: there may be many of them, and the last line counts them.
	isTemplate := func(s manifest.Skipped) int { return len(strings.SplitN(s.Reason, "is a template", 2)) }
	slices.SortStableFunc(r.skipped, func(a, b manifest.Skipped) int { return isTemplate(a) - isTemplate(b) })
	const most = 20
	for _, s := range r.skipped[:min(len(r.skipped), most)] {
		_, _ = fmt.Fprintf(stderr, "%s:%d: warning: not checked: %s\n", s.File, s.Line, s.Reason)
	}
	if len(r.skipped) > most {
		_, _ = fmt.Fprintf(stderr, "%s: warning: %s not checked are not shown\n", wording.Program, wording.Count(len(r.skipped)-most, "more place"))
	}
	if sum.Files > 0 || errors.Join(errs...) == nil {
		fmt.Fprintln(&r.text, coverage(&sum))
		r.checked = &jsonCoverage{sum.Files, sum.Workloads, sum.Services, sum.NotChecked}
	}
	switch {
	case unread > 0:
		errs = append(errs, fmt.Errorf("the answer is not whole: %s could not be checked, see above", wording.Count(unread, "part")))
	case sum.Workloads+sum.Services+sum.Namespaces == 0 && errors.Join(errs...) == nil:
		errs = append(errs, errors.New("nothing was checked: want manifests with pods or Services, as kubectl reads them"))
	}
	return errors.Join(errs...)
}

// pluralY matches the end of a kind such as Policy.
var pluralY = wording.Regexp(`([^aeiou])y$`)

// coverage returns a line that says what was checked, and what was not.
func coverage(r *manifest.Report) string {
	line := fmt.Sprintf("checked %s and %s in %s", wording.Count(r.Workloads, "workload"), wording.Count(r.Services, "Service"), wording.Count(r.Files, "file"))
	var not []string
	for _, kind := range slices.Sorted(maps.Keys(r.NotChecked)) {
		n := r.NotChecked[kind]
		if n > 1 {
			kind = pluralY.Get().ReplaceAllString(kind, "${1}ie")
		}
		not = append(not, wording.Count(n, wording.Printable(kind)))
	}
	if len(not) > 0 {
		line += "; not checked: " + strings.Join(not, ", ")
	}
	return line
}
