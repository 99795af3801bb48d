// Package examples holds the shipped examples. Its tests hold every one of them to the real binary and the real tools.
package examples

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/docflags"
)

// TestEveryFlagThatIsNamedExists reads each example and the documents, and looks up each flag in the binary's --help.
func TestEveryFlagThatIsNamedExists(t *testing.T) {
	flags := docflags.Real(t)
	for file, text := range documents(t) {
		for _, flag := range docflags.Unknown(text, flags) {
			t.Errorf("%s names %s, which is not a flag of listen_exporter (nor of a program in docflags)", file, flag)
		}
	}
}

// TestEveryMetricThatIsNamedIsExported compares with what a running exporter shows, once it has seen a TCP and a UDP
// listener appear.
func TestEveryMetricThatIsNamedIsExported(t *testing.T) {
	names := make(map[string]bool)
	for _, s := range everySeries(t) {
		names[s.name] = true
	}
	for file, text := range documents(t) {
		for _, name := range regexp.MustCompile(`\bhost_listen_[a-z0-9_]*|\blisten_exporter_build_info\b`).FindAllString(text, -1) {
			if strings.HasSuffix(name, "_") {
				continue // the prefix itself
			}
			if !names[name] {
				t.Errorf("%s names the metric %s, which the exporter does not export", file, name)
			}
		}
	}
}

// documents returns the text of all examples, and of the documents that users copy commands from, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files := []string{"../README.md", "../alerts/README.md"}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, file := range files {
		texts[file] = read(t, file)
	}
	return texts
}

// read returns a file's text.
func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tool returns where a program stands on the PATH, and skips the test where it does not.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not on the PATH (.ci/tools %s fetches it, if the system has none)", name, name)
	}
	return path
}

// eventually calls done until it returns true, for half a minute at most.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("%s: not within 30 seconds", what)
}
