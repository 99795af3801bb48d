//go:build linux

package packaging

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTheAddressStandsWhereMakeAddressChangesIt gives a copy of the repository another address and back. Another place that
// names the address, or that builds one from it, would show.
func TestTheAddressStandsWhereMakeAddressChangesIt(t *testing.T) {
	for _, program := range []string{"make", "perl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program)
		}
	}
	elsewhere := "example.org" + "/someone/else/listen_exporter" // in two parts, or it would be changed as well
	module, _ := readModule(t)
	dir := t.TempDir()
	copyRepository(t, dir)
	before := readAll(t, dir)
	run := func(name string, args ...string) {
		t.Helper()
		command := exec.Command(name, args...)
		command.Dir = dir
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, output)
		}
	}

	run("make", "address", "ADDRESS="+elsewhere)
	// As the page of a repository, as the input of a GitHub action, and with hyphens escaped as in a man page.
	_, repository, _ := strings.Cut(module, "/")
	forms := []string{repository, strings.ReplaceAll(repository, "-", `\-`), strings.ReplaceAll(repository, "-", `\\-`)}
	for path, text := range readAll(t, dir) {
		for _, form := range forms {
			if strings.Contains(text, form) && !strings.Contains(text, "\x00") { // a program that somebody has built here
				t.Errorf("%s still names %s", path, form)
			}
		}
	}
	if !testing.Short() { // a build and a vet of every package takes 20 s
		run("go", "build", "./...")
		run("go", "vet", "./...")
		run("go", "-C", "bench", "vet", "./...")
	}
	run("make", "address", "ADDRESS="+module)
	if diff := cmp.Diff(before, readAll(t, dir)); diff != "" {
		t.Errorf("there and back, -before +after:\n%s", diff)
	}
}

// copyRepository copies what a clone would have.
func copyRepository(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		switch name := entry.Name(); {
		case entry.IsDir() && (name == ".git" || name == ".build" || name == ".tools"):
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, relative), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, relative), text, info.Mode())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// readAll returns the files below a directory.
func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
