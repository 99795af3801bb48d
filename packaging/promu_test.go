//go:build linux

package packaging

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// build is how a binary is built.
type build struct {
	Platforms []string
	Flags     []string
	Linker    []string // -s, -w, and the variables that -X sets
}

// TestPromuAndMakeBuildTheSame compares .promu.yml, and that of the form with etcd, with what `make crossbuild` would run.
func TestPromuAndMakeBuildTheSame(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("needs make")
	}
	module, version := readModule(t)
	output, err := exec.Command("make", "-C", "..", "--no-print-directory", "-n", "crossbuild").CombinedOutput()
	if err != nil {
		t.Fatalf("make -n crossbuild: %v\n%s", err, output)
	}
	for file, form := range map[string]string{".promu.yml": "", ".promu-etcd.yml": "-etcd"} {
		t.Run(file, func(t *testing.T) {
			var promu struct {
				Go struct {
					Version string
					CGO     bool
				}
				Repository struct{ Path string }
				Build      struct {
					Binaries []struct{ Name, Path string }
					Flags    string
					LDFlags  string
				}
				Crossbuild struct{ Platforms []string }
			}
			tools.Decode(t, "../"+file, &promu)
			if promu.Repository.Path != module || promu.Go.Version != version || promu.Go.CGO {
				t.Errorf("repository %s, Go %s, cgo %t: want %s, Go %s as in go.mod, and no cgo",
					promu.Repository.Path, promu.Go.Version, promu.Go.CGO, module, version)
			}
			if len(promu.Build.Binaries) != 1 || promu.Build.Binaries[0].Name != "listen_exporter" || promu.Build.Binaries[0].Path != "." {
				t.Errorf("it builds %+v", promu.Build.Binaries)
			}
			byPromu := build{
				Platforms: promu.Crossbuild.Platforms,
				Flags:     strings.Fields(promu.Build.Flags),
				Linker:    linkerFlags(promu.Build.LDFlags),
			}
			command := regexp.MustCompile(`(?m)^CGO_ENABLED=0 GOOS=(\w+) GOARCH=(\w+) go build (.*) -ldflags '([^']*)' -o \.build/linux-\w+` + form + `/listen_exporter \.$`)
			var byMake build
			for _, found := range command.FindAllStringSubmatch(string(output), -1) {
				platform := found[1] + "/" + found[2]
				if found[2] == "arm" {
					platform += "v" + armVersion(t)
				}
				byMake.Platforms = append(byMake.Platforms, platform)
				byMake.Flags, byMake.Linker = strings.Fields(found[3]), linkerFlags(found[4])
			}
			if diff := cmp.Diff(byMake, byPromu); diff != "" {
				t.Errorf("-Makefile +%s:\n%s", file, diff)
			}
		})
	}
}

// readModule returns the module path of go.mod and its version of Go without the patch level.
func readModule(t *testing.T) (path, version string) {
	t.Helper()
	text := tools.Read(t, "../go.mod")
	found := regexp.MustCompile(`(?ms)^module (\S+)$.*^go (\d+\.\d+)`).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("go.mod names no module or no version of Go:\n%s", text)
	}
	return found[1], found[2]
}

func armVersion(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^export GOARM \?= (\d)$`).FindStringSubmatch(tools.Read(t, "../Makefile"))
	if found == nil {
		t.Fatal("the Makefile sets no GOARM")
	}
	return found[1]
}

// linkerFlags returns the flags without the values that -X sets, which differ.
func linkerFlags(text string) []string {
	var flags []string
	for _, found := range regexp.MustCompile(`(?:^|\s)(-[a-z]\b|-X \S+?=)`).FindAllStringSubmatch(text, -1) {
		flags = append(flags, found[1])
	}
	return slices.Sorted(slices.Values(flags))
}
