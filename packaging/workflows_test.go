//go:build linux

package packaging

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// workflow is what the tests look at in a workflow of GitHub.
type workflow struct {
	On          map[string]any
	Permissions map[string]string
	Jobs        map[string]struct {
		Uses           string
		Needs          any
		Environment    string
		Permissions    map[string]string
		TimeoutMinutes int `yaml:"timeout-minutes"`
		Steps          []step
	}
}

type step struct {
	Uses, Run string
	With      map[string]string
}

func readWorkflows(t *testing.T) map[string]workflow {
	t.Helper()
	files, _ := filepath.Glob("../.github/workflows/*.yml")
	if len(files) == 0 {
		t.Fatal("there is no workflow")
	}
	workflows := make(map[string]workflow)
	for _, file := range files {
		var w workflow
		tools.Decode(t, file, &w)
		workflows[filepath.Base(file)] = w
	}
	return workflows
}

// TestNoWorkflowTrustsWhatItNeedNot: an action is what its commit says, a token reads only, and no name that a stranger may
// choose, such as that of a branch, becomes a part of a script.
func TestNoWorkflowTrustsWhatItNeedNot(t *testing.T) {
	pinned := regexp.MustCompile(`^\s*(?:- )?uses: (?:[a-z-]+/[a-z/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./\.github/workflows/[a-z]+\.yml)$`)
	// Written by us, in the same file.
	harmless := regexp.MustCompile(`\$\{\{ matrix\.root && '[^']*' \|\| '' \}\}`)
	for file, w := range readWorkflows(t) {
		t.Run(file, func(t *testing.T) {
			for line := range strings.Lines(tools.Read(t, "../.github/workflows/"+file)) {
				if strings.Contains(line, "uses:") && !pinned.MatchString(strings.TrimRight(line, "\n")) {
					t.Errorf("%s: want a commit, and its version as a comment", strings.TrimSpace(line))
				}
			}
			if _, found := w.On["pull_request_target"]; found {
				t.Error("pull_request_target runs a stranger's change with the rights of the repository")
			}
			for scope, right := range w.Permissions {
				if right != "read" {
					t.Errorf("every job may %s %s: give the right to one job", right, scope)
				}
			}
			for name, job := range w.Jobs {
				if w.Permissions == nil && job.Permissions == nil {
					t.Errorf("%s has the rights that are the repository's default", name)
				}
				if job.Uses == "" && job.TimeoutMinutes == 0 {
					t.Errorf("%s may run for hours", name)
				}
				for _, step := range job.Steps {
					if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != "false" {
						t.Errorf("%s: the checkout leaves its token to the steps after it", name)
					}
					if script := harmless.ReplaceAllString(step.Run, ""); strings.Contains(script, "${{") {
						t.Errorf("%s: a script has an expression in it, pass it as a variable: %s", name, step.Run)
					}
				}
			}
		})
	}
}

func TestEveryTargetThatAWorkflowMakesIsThere(t *testing.T) {
	makefile := tools.Read(t, "../Makefile")
	// A target, not a variable, or a word of prose after "make".
	made := regexp.MustCompile(`(?m)(?:^ +targets:|run: (?:sudo .*)?make)((?: [a-z-]+)+)`)
	for file := range readWorkflows(t) {
		for _, found := range made.FindAllStringSubmatch(tools.Read(t, "../.github/workflows/"+file), -1) {
			for target := range strings.FieldsSeq(found[1]) {
				if !strings.Contains(makefile, "\n"+target+":") {
					t.Errorf("%s: the Makefile has no target %s", file, target)
				}
			}
		}
	}
}

// TestOnlyWhatWasTestedIsPublishedAndByAJobThatBuildsNothing: the job with the rights runs no code of the repository.
func TestOnlyWhatWasTestedIsPublishedAndByAJobThatBuildsNothing(t *testing.T) {
	w := readWorkflows(t)["release.yml"]
	if diff := cmp.Diff(map[string]any{"push": map[string]any{"tags": []any{"v*"}}}, w.On); diff != "" {
		t.Errorf("what starts it (-want +got):\n%s", diff)
	}
	for name, job := range w.Jobs {
		if name == "publish" {
			continue
		}
		if diff := cmp.Diff(map[string]string{"contents": "read"}, job.Permissions); diff != "" {
			t.Errorf("rights of %s (-want +got):\n%s", name, diff)
		}
		if name != "check" && job.Needs != "check" {
			t.Errorf("%s needs %v, want check: a wrong tag is refused first", name, job.Needs)
		}
	}
	publish := w.Jobs["publish"]
	if diff := cmp.Diff([]any{"tests", "build"}, publish.Needs); diff != "" || publish.Environment == "" {
		t.Errorf("publish has the environment %q and needs (-want +got):\n%s", publish.Environment, diff)
	}
	for _, step := range publish.Steps {
		if strings.HasPrefix(step.Uses, "actions/checkout@") || strings.Contains(step.Run, "make ") {
			t.Errorf("publish checks out or builds: %+v", step)
		}
	}
	if w.Jobs["tests"].Uses != "./.github/workflows/ci.yml" {
		t.Errorf("tests runs %q, want what each push runs", w.Jobs["tests"].Uses)
	}
	for _, want := range []string{"make vulnerabilities", "make release-dry-run"} {
		if !slices.ContainsFunc(w.Jobs["build"].Steps, func(s step) bool { return strings.Contains(s.Run, want) }) {
			t.Errorf("build does not run %s", want)
		}
	}
}

func TestAReleaseIsBuiltWithTheNewestPatchOfTheGoThatIsTested(t *testing.T) {
	_, version := readModule(t)
	for file, w := range readWorkflows(t) {
		for name, job := range w.Jobs {
			for _, step := range job.Steps {
				if strings.HasPrefix(step.Uses, "actions/setup-go@") && step.With["go-version"] != "" && step.With["go-version"] != version {
					t.Errorf("%s: %s has Go %s, want %s as in go.mod", file, name, step.With["go-version"], version)
				}
			}
		}
	}
}

func TestDependabotWatchesEveryModuleAndTheActions(t *testing.T) {
	var config struct {
		Version int
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directory   string
			Directories []string
			Schedule    struct{ Interval string }
		}
	}
	tools.Decode(t, "../.github/dependabot.yml", &config)
	var got []string
	for _, update := range config.Updates {
		for _, dir := range append(update.Directories, update.Directory) {
			if dir != "" {
				got = append(got, update.Ecosystem+" "+dir)
			}
		}
	}
	want := []string{"github-actions /", "gomod /"}
	for _, pattern := range []string{"../*/go.mod", "../*/*/go.mod"} {
		modules, _ := filepath.Glob(pattern)
		for _, module := range modules {
			want = append(want, "gomod "+strings.TrimPrefix(filepath.Dir(module), ".."))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || config.Version != 2 {
		t.Errorf("version %d, -want +got:\n%s", config.Version, diff)
	}
}
