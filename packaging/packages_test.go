package packaging

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// packageRecipe is what nfpm.yaml says, as far as the tests look at it. test/systemd looks into the packages themselves.
type packageRecipe struct {
	Name, Homepage, License string
	Contents                []struct {
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
			if _, err := os.Stat(filepath.Join("..", file.Source)); err != nil {
				t.Error(err)
			}
		})
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
