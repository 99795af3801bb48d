//go:build linux

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// packageRecipe is what nfpm.yaml says, as far as the tests look at it. test/systemd looks into the packages themselves.
type packageRecipe struct {
	Name, Homepage, License, Description string

	Contents []struct {
		Source      string `yaml:"src"`
		Destination string `yaml:"dst"`
		Type        string
		Packager    string
		Expand      bool
		Info        struct{ Mode int } `yaml:"file_info"`
	}
	Overrides map[string]struct{ Depends []string }
}

func readPackageRecipe(t *testing.T) packageRecipe {
	t.Helper()
	var recipe packageRecipe
	tools.Decode(t, "nfpm.yaml", &recipe)
	return recipe
}

func TestThePackagesSayOfTheProgramWhatTheImageSays(t *testing.T) {
	recipe, labels := readPackageRecipe(t), imageLabels(t)
	want := []string{"listen-exporter", labels["url"], labels["licenses"]} // Debian takes no name with an underscore
	if diff := cmp.Diff(want, []string{recipe.Name, recipe.Homepage, recipe.License}); diff != "" {
		t.Errorf("name, homepage and license (-want +got):\n%s", diff)
	}
}

func TestEachFileOfThePackagesIsThereAndHasItsMode(t *testing.T) {
	for _, file := range readPackageRecipe(t).Contents {
		t.Run(file.Destination+" "+file.Packager, func(t *testing.T) {
			// A mode that is left out is the source's, and so that of the umask of whoever builds.
			want := 0o644
			if file.Type == "dir" || strings.HasPrefix(file.Destination, "/usr/bin/") || strings.HasPrefix(file.Destination, "/etc/init.d/") {
				want = 0o755
			}
			if file.Info.Mode != want {
				t.Errorf("mode %#o, want %#o", file.Info.Mode, want)
			}
			isMade := strings.HasPrefix(file.Source, "${")
			if file.Expand != isMade {
				t.Errorf("expand: %t, but the source is %q", file.Expand, file.Source)
			}
			if file.Type == "dir" || isMade {
				return
			}
			if _, err := os.Stat(filepath.Join("..", file.Source)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEachPackageHasWhatGoesWithEveryCopyOfTheProgram(t *testing.T) {
	recipe := readPackageRecipe(t)
	for _, packager := range []string{"deb", "rpm", "apk"} {
		t.Run(packager, func(t *testing.T) {
			var sources []string
			for _, file := range recipe.Contents {
				if file.Packager == "" || file.Packager == packager {
					sources = append(sources, file.Source)
				}
			}
			license := "LICENSE"
			if packager == "deb" {
				license = "packaging/deb/copyright" // Debian has the text of the Apache License itself
			}
			for _, want := range []string{
				license, "${BUILT}/THIRD_PARTY_LICENSES", "alerts/listen_exporter.rules.yml", "alerts/README.md",
				"examples/grafana/listen_exporter.json", "examples/grafana/listen_exporter_health.json", "examples/registry/ports.yml", "examples/systemd/listen_exporter.default",
			} {
				if !slices.Contains(sources, want) {
					t.Errorf("%s is not in it", want)
				}
			}
		})
	}
}

func TestThePackagesSayThatAnyoneMayScrapeAndHowToChangeIt(t *testing.T) {
	text := readPackageRecipe(t).Description
	for _, want := range []string{
		"on all addresses, port 10190, without a password", `LISTEN_EXPORTER_OPTS="--web.listen-address=127.0.0.1:10190"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the description does not say %q:\n%s", want, text)
		}
	}
}

// TestTheServicesReadARegistryWhereThePackagesHaveADirectoryForIt: of systemd and of OpenRC.
func TestTheServicesReadARegistryWhereThePackagesHaveADirectoryForIt(t *testing.T) {
	var directories []string
	for _, file := range readPackageRecipe(t).Contents {
		if file.Type == "dir" {
			directories = append(directories, file.Destination)
		}
	}
	if diff := cmp.Diff([]string{"/etc/listen_exporter", "/etc/listen_exporter/ports.d"}, directories); diff != "" {
		t.Errorf("directories (-want +got):\n%s", diff)
	}
	for _, service := range []string{"../examples/systemd/listen_exporter.service", "apk/listen_exporter.initd"} {
		for _, want := range []string{"/etc/listen_exporter/ports.yml", "/etc/listen_exporter/ports.d"} {
			if !regexp.MustCompile(`[ ']--registry\.optional-file=` + regexp.QuoteMeta(want) + `[ ']`).MatchString(tools.Read(t, service)) {
				t.Errorf("%s does not read %s", service, want)
			}
		}
	}
}

// TestThePackagesBringWhatTheUnitReloadsWith: a small Debian has no kill but that of the shell.
func TestThePackagesBringWhatTheUnitReloadsWith(t *testing.T) {
	if unit := tools.Read(t, "../examples/systemd/listen_exporter.service"); !strings.Contains(unit, "\nExecReload=/bin/kill ") {
		t.Error("the unit does not reload by /bin/kill: then the packages need not depend on it")
	}
	recipe := readPackageRecipe(t)
	for packager, want := range map[string][]string{"deb": {"procps"}, "rpm": {"util-linux"}} {
		if diff := cmp.Diff(want, recipe.Overrides[packager].Depends); diff != "" {
			t.Errorf("the %s depends on (-want +got):\n%s", packager, diff)
		}
	}
}

// TestTheRPMLeavesItToThePresetsWhetherTheServiceRuns runs the scripts with a systemctl that only notes how it was called.
func TestTheRPMLeavesItToThePresetsWhetherTheServiceRuns(t *testing.T) {
	for _, test := range []struct {
		name, script, left string // left is how many versions are there afterwards
		want               []string
	}{
		{"installation", "post", "1", []string{"--no-reload preset listen_exporter.service"}},
		{"upgrade", "post", "2", nil},
		{"upgrade, the old version", "preun", "1", nil},
		{"removal", "preun", "0", []string{"--no-reload disable listen_exporter.socket listen_exporter.service"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls := filepath.Join(t.TempDir(), "calls")
			systemctl := "#!/bin/sh\necho \"$*\" >>'" + calls + "'\n"
			if err := os.WriteFile(filepath.Join(filepath.Dir(calls), "systemctl"), []byte(systemctl), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/bin/sh", filepath.Join("rpm", test.script), test.left)
			cmd.Env = []string{"PATH=" + filepath.Dir(calls)}
			if output, err := cmd.CombinedOutput(); err != nil || len(output) > 0 {
				t.Errorf("%v: %s", err, output)
			}
			text, _ := os.ReadFile(calls) // which is not there without a call
			got := strings.Split(strings.TrimSpace(string(text)), "\n")
			got = slices.DeleteFunc(got, func(call string) bool { // only where systemd runs
				return call == "" || call == "daemon-reload" || test.script == "preun" && strings.HasPrefix(call, "stop ")
			})
			if !slices.Equal(got, test.want) {
				t.Errorf("systemctl is called with %q, want %q", got, test.want)
			}
		})
	}
}
