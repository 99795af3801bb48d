//go:build linux

package release

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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
//
// With -short, Go's cache may have all of it, and the second run is for two architectures: this machine's, and the one whose name
// differs most from place to place.
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

	again := architectures
	if testing.Short() {
		again = slices.DeleteFunc(slices.Clone(architectures), func(a architecture) bool { return a.goarch != runtime.GOARCH && a.goarch != "arm" })
	} else {
		cache := host.OpenDir(t)
		for _, a := range architectures {
			if a.goarch != runtime.GOARCH {
				continue
			}
			program := ".build/linux-" + a.goarch + string(a.form) + "/listen_exporter"
			makeAgain("GOCACHE="+cache, program)
			if tools.Read(t, filepath.Join(to, program)) != tools.Read(t, filepath.Join(unpack(t, a), "listen_exporter")) {
				t.Errorf("with an empty cache, %s has other bytes", program)
			}
		}
	}

	names := func(f form) string {
		var names []string
		for _, a := range f.in(again) {
			names = append(names, a.goarch)
		}
		return strings.Join(names, " ")
	}
	makeAgain("", "release", "ARCHES="+names(plain), "ETCD_ARCHES="+names(etcd))
	second := filepath.Join(to, ".build/release")
	first := sums(t, filepath.Join(dir, "SHA256SUMS"))
	want := map[string]string{}
	for _, a := range again {
		for _, file := range a.files(version) {
			want[file] = first[file]
		}
	}
	got := sums(t, filepath.Join(second, "SHA256SUMS"))
	for _, f := range []form{plain, etcd} {
		if len(again) == len(architectures) {
			want[f.image(version)] = first[f.image(version)]
		} else {
			delete(got, f.image(version)) // it is for fewer architectures
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("SHA256SUMS, -first +second:\n%s", diff)
	}

	for _, f := range []form{plain, etcd} {
		before := digests(t, dir, version, f)
		for platform, digest := range digests(t, second, version, f) {
			if digest != before[platform] {
				t.Errorf("%s for %s has the digest %s, and had %s", f.image(version), platform, digest, before[platform])
			}
		}
	}
}
