//go:build linux

package docs

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/docflags"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// A row of a table explains what is in its first cell, if there is nothing else in that: a word, a link, or names in code.
var (
	rowForm   = regexp.MustCompile(`(?m)^\| ([^|]+) \|`)
	namesForm = regexp.MustCompile("^`[^`]+`(?:, `[^`]+`)*$")
)

// explained returns the documents that explain something, by what begins their rows.
func explained(t *testing.T) map[string][]string {
	t.Helper()
	places := make(map[string][]string)
	for _, document := range documents(t) {
		for _, row := range rowForm.FindAllStringSubmatch(read(t, document), -1) {
			names := []string{row[1]}
			if namesForm.MatchString(row[1]) {
				names = strings.Split(row[1], ", ")
			}
			for _, name := range names {
				if !slices.Contains(places[name], document) {
					places[name] = append(places[name], document)
				}
			}
		}
	}
	return places
}

func TestEachFlagMetricFileAndExitCodeIsExplainedInOnePlace(t *testing.T) {
	places := explained(t)
	check := func(name, want string) {
		t.Helper()
		if got := places[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s has rows of tables in %q: want one document, %s", name, got, want)
		}
	}
	for flag := range docflags.Real(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(flag, "--"), "no-")
		if places["`--"+name+"`"] == nil {
			name = "[no-]" + name
		}
		if !slices.Contains(hiddenFlags, flag) {
			check("`--"+name+"`", "docs/flags.md")
		}
	}
	for _, metric := range append(exportedMetrics(), "listen_exporter_build_info") {
		check("`"+metric+"`", "docs/metrics.md")
	}
	for _, file := range installedFiles(t) {
		check("`"+file+"`", "docs/files.md")
	}
	check("exit code", "docs/commands.md")
	for _, alert := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, "alerts/listen_exporter.rules.yml"), -1) {
		check("[`"+alert[1]+"`](#"+strings.ToLower(alert[1])+")", "alerts/README.md")
	}
}

// installedFiles returns the files that a package installs, and the others that the program reads or writes.
func installedFiles(t *testing.T) []string {
	t.Helper()
	var config struct {
		Contents []struct{ Dst string }
	}
	tools.Decode(t, filepath.Join(host.Root, "packaging/nfpm.yaml"), &config)
	files := []string{"/etc/listen_exporter/ports.yml", "/var/lib/listen_exporter/state"}
	for _, content := range config.Contents {
		if content.Dst == "" {
			t.Error("packaging/nfpm.yaml has contents without dst")
		}
		files = append(files, content.Dst)
	}
	return files
}

var defined = []string{"listener", "holder", "scope", "declared", "violation"}

func TestEachWordIsDefinedOnceAndLinked(t *testing.T) {
	const page = "docs/words.md"
	if got := explained(t)["word"]; !slices.Equal(got, []string{page}) {
		t.Errorf("words are defined in %q: want %s", got, page)
	}
	for _, word := range defined {
		if rows := strings.Count(read(t, page), "\n| "+word+" | "); rows != 1 {
			t.Errorf("%s has %d rows that define %q, want 1", page, rows, word)
		}
	}
	for _, document := range []string{"README.md", "docs/README.md", "alerts/README.md"} {
		if !regexp.MustCompile(`\]\((\.\./)?(docs/)?words\.md\): [^.]*listener, holder`).MatchString(read(t, document)) {
			t.Errorf("%s does not say where the words are defined", document)
		}
	}
}
