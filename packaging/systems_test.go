//go:build linux

package packaging

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestOnAnotherSystemTheBuildSaysWhyItFailsAndVetPasses builds for a system that is no Linux. For more of them, the nightly run sets
// LISTEN_EXPORTER_SYSTEMS: each takes 20 s of CPU where nothing is cached yet.
func TestOnAnotherSystemTheBuildSaysWhyItFailsAndVetPasses(t *testing.T) {
	systems := []string{"darwin"}
	if os.Getenv("LISTEN_EXPORTER_SYSTEMS") == "all" {
		systems = append(systems, "freebsd", "windows")
	} else if testing.Short() {
		t.Skip("compiles a part of the standard library for another system")
	}
	module, _ := readModule(t)
	for _, system := range systems {
		t.Run(system, func(t *testing.T) {
			run := func(arguments ...string) (string, error) {
				command := exec.Command("go", arguments...)
				command.Dir = ".."
				command.Env = append(os.Environ(), "GOOS="+system, "GOARCH=", "CGO_ENABLED=0")
				output, err := command.CombinedOutput()
				return strings.TrimSpace(string(output)), err
			}
			const why = "main.main: relocation target listen_exporter_runs_only_on_Linux:_build_it_with_GOOS=linux not defined"
			if output, err := run("build", "-o", os.DevNull, "."); err == nil || output != "# "+module+"\n"+why {
				t.Errorf("go build: %v, want an error that is one sentence:\n%s", err, output)
			}
			if output, err := run("vet", "./..."); err != nil {
				t.Errorf("go vet: %v. A Go file that imports one for Linux begins with //go:build linux\n%s", err, output)
			}
		})
	}
}
