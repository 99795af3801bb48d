//go:build linux

package event

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// TestTheObjectsAreWhatTheSourceMakes compiles the programs again.
func TestTheObjectsAreWhatTheSourceMakes(t *testing.T) {
	host.NeedTools(t, "clang-14", "llvm-strip-14")
	made := t.TempDir()
	if output, err := exec.Command("programs/compile", made).CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, output)
	}
	there, err := filepath.Glob("programs/*.o")
	if err != nil || len(there) != 4 {
		t.Fatalf("objects: %v, %v, want two of each program", there, err)
	}
	for _, path := range there {
		committed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := os.ReadFile(filepath.Join(made, filepath.Base(path)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, fresh) {
			t.Errorf("%s is not what its source makes: run make programs", path)
		}
	}
}
