package packaging

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// packageFile is what packaging/nfpm.yaml says of a file.
type packageFile struct {
	Source      string `yaml:"src"`
	Destination string `yaml:"dst"`
	Type        string `yaml:"type"`
	Packager    string `yaml:"packager"`
	Expand      bool   `yaml:"expand"`
	Info        struct {
		Mode int `yaml:"mode"`
	} `yaml:"file_info"`
}

// packageRecipe is what packaging/nfpm.yaml says, as far as the tests look at it.
type packageRecipe struct {
	Name      string        `yaml:"name"`
	Homepage  string        `yaml:"homepage"`
	License   string        `yaml:"license"`
	Contents  []packageFile `yaml:"contents"`
	Overrides map[string]struct {
		Depends []string          `yaml:"depends"`
		Scripts map[string]string `yaml:"scripts"`
	} `yaml:"overrides"`
}

func readPackageRecipe(t *testing.T) packageRecipe {
	t.Helper()
	var recipe packageRecipe
	if err := yaml.Unmarshal([]byte(read(t, "packaging/nfpm.yaml")), &recipe); err != nil {
		t.Fatalf("packaging/nfpm.yaml: %v", err)
	}
	return recipe
}

// TestThePackagesSayOfTheProgramWhatTheImageSays looks at the name too: Debian takes none with an underscore.
func TestThePackagesSayOfTheProgramWhatTheImageSays(t *testing.T) {
	recipe := readPackageRecipe(t)
	labels := strings.Join(instructions(t)["LABEL"], " ")
	for _, test := range []struct{ name, got, want string }{
		{"name", recipe.Name, strings.ReplaceAll(programName, "_", "-")},
		{"homepage", recipe.Homepage, imageLabel(labels, "url")},
		{"license", recipe.License, imageLabel(labels, "licenses")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("%q, want %q", test.got, test.want)
			}
		})
	}
}

// imageLabel returns the value of a label of the Dockerfile.
func imageLabel(labels, name string) string {
	found := regexp.MustCompile(`org\.opencontainers\.image\.` + name + `="([^"]*)"`).FindStringSubmatch(labels)
	if found == nil {
		return ""
	}
	return found[1]
}

func TestEachFileOfThePackagesIsThereAndHasItsMode(t *testing.T) {
	for _, file := range readPackageRecipe(t).Contents {
		t.Run(file.Destination+" "+file.Packager, func(t *testing.T) {
			// A mode that is left out is the source's, and so that of the umask of whoever builds.
			want := 0o644
			if file.Type == "dir" || strings.HasPrefix(file.Destination, "/usr/bin/") {
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
			if _, err := os.Stat(filepath.Join(program.Root, file.Source)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheDebAndTheRPMHaveTheSameFiles(t *testing.T) {
	files := map[string][]string{"deb": nil, "rpm": nil}
	for _, file := range readPackageRecipe(t).Contents {
		for packager := range files {
			if file.Packager == "" || file.Packager == packager {
				files[packager] = append(files[packager], file.Destination)
			}
		}
	}
	// Where the distributions keep these differs.
	for i, destination := range files["deb"] {
		switch path.Base(destination) {
		case "_" + programName:
			files["deb"][i] = "/usr/share/zsh/site-functions/_" + programName
		case "copyright":
			files["deb"][i] = "/usr/share/licenses/listen-exporter/LICENSE"
		}
	}
	for packager, destinations := range files {
		slices.Sort(destinations)
		if unique := slices.Compact(slices.Clone(destinations)); len(unique) != len(destinations) {
			t.Errorf("the %s has a file twice: %q", packager, destinations)
		}
	}
	if diff := cmp.Diff(files["deb"], files["rpm"]); diff != "" {
		t.Errorf("-deb +rpm:\n%s", diff)
	}
}

// TestThePackagesBringWhatTheUnitReloadsWith: a small Debian has no kill but that of the shell.
func TestThePackagesBringWhatTheUnitReloadsWith(t *testing.T) {
	if unit := read(t, "examples/systemd/listen_exporter.service"); !strings.Contains(unit, "\nExecReload=/bin/kill ") {
		t.Error("the unit does not reload by /bin/kill: then the packages need not depend on it")
	}
	recipe := readPackageRecipe(t)
	for packager, want := range map[string][]string{"deb": {"procps"}, "rpm": {"util-linux"}} {
		if diff := cmp.Diff(want, recipe.Overrides[packager].Depends); diff != "" {
			t.Errorf("the %s depends on (-want +got):\n%s", packager, diff)
		}
	}
}

func TestTheScriptsOfThePackagesAreThere(t *testing.T) {
	for packager, override := range readPackageRecipe(t).Overrides {
		for moment, script := range override.Scripts {
			if text := read(t, script); !strings.HasPrefix(text, "#!/bin/sh\n") {
				t.Errorf("%s of the %s does not start with #!/bin/sh", moment, packager)
			}
		}
		if len(override.Scripts) != 3 {
			t.Errorf("the %s has %d scripts, want 3", packager, len(override.Scripts))
		}
	}
}
