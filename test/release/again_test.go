package release

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	// What make reads from git, which the copy does not have.
	revisionVariable = "LISTEN_EXPORTER_REVISION"
	branchVariable   = "LISTEN_EXPORTER_BRANCH"
	epochVariable    = "SOURCE_DATE_EPOCH"
)

// copyOfTheSources returns a directory with what a clone has, without git.
func copyOfTheSources(t *testing.T) string {
	t.Helper()
	to := host.OpenDir(t)
	script := `cd "$1" && git ls-files -z --cached --others --exclude-standard | xargs -0 tar -c --ignore-failed-read | tar -x -C "$2"`
	if _, err := host.Output(minute, "bash", "-c", script, "bash", host.Root, to); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestASecondRunMakesTheSameBytes runs in another directory, with another umask and time zone, and without git. The program for
// this machine is compiled again from the first file on. For the others, Go's cache may have what the first run compiled.
func TestASecondRunMakesTheSameBytes(t *testing.T) {
	dir, version := release(t)
	host.NeedTools(t, "git", "make", "tar")
	to := copyOfTheSources(t)
	makeAgain := func(environment string, arguments ...string) {
		t.Helper()
		script := "umask 077 && cd " + to + " && env -u MAKEFLAGS -u MAKELEVEL TZ=Asia/Kathmandu " + environment + ` make --no-print-directory "$@"`
		arguments = append([]string{
			"-c", script, "bash",
			"VERSION=" + version, "REVISION=" + os.Getenv(revisionVariable), "BRANCH=" + os.Getenv(branchVariable),
			"SOURCE_DATE_EPOCH=" + os.Getenv(epochVariable),
		}, arguments...)
		if _, err := host.Output(15*minute, "bash", arguments...); err != nil {
			t.Fatal(err)
		}
	}

	program := ".build/linux-" + runtime.GOARCH + "/listen_exporter"
	makeAgain("GOCACHE="+host.OpenDir(t), program)
	content := tools.Read(t, filepath.Join(to, program))
	for _, a := range architectures {
		if a.goarch == runtime.GOARCH && content != tools.Read(t, filepath.Join(unpack(t, a), "listen_exporter")) {
			t.Error("with an empty cache, the program for this machine has other bytes")
		}
	}

	makeAgain("", "release")
	again := sums(t, filepath.Join(to, ".build/release/SHA256SUMS"))
	if diff := cmp.Diff(sums(t, filepath.Join(dir, "SHA256SUMS")), again); diff != "" {
		t.Errorf("SHA256SUMS, -first +second:\n%s", diff)
	}
}
