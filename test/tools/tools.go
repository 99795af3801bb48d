//go:build linux

// Package tools runs the programs and reads the files that tests of rules, documents and examples need.
package tools

import (
	"os"
	"os/exec"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Look returns the path of a program. It skips the test if the program is not on the PATH.
func Look(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s on the PATH; .ci/tools %s fetches some tools", name, name)
	}
	return path
}

// Promtool runs promtool, which must succeed, and returns its output.
func Promtool(t testing.TB, arguments ...string) string {
	t.Helper()
	cmd := exec.Command(Look(t, "promtool"), arguments...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", cmd, err, output)
	}
	return string(output)
}

// Read returns the text of a file.
func Read(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Decode reads a YAML file.
func Decode(t testing.TB, file string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(Read(t, file)), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
