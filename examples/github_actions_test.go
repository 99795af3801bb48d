//go:build linux

package examples

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

// workflow is the part of GitHub's workflow syntax that the example uses.
type workflow struct {
	Name        string
	On          map[string]any
	Permissions map[string]string
	Jobs        map[string]struct {
		RunsOn         any `yaml:"runs-on"`
		TimeoutMinutes int `yaml:"timeout-minutes"`
		Permissions    map[string]string
		Steps          []step
	}
}

type step struct {
	ID, Uses, If     string
	With             map[string]string
	Run              string
	WorkingDirectory string `yaml:"working-directory"`
	Env              map[string]string
}

func readWorkflow(t *testing.T, file string) workflow {
	t.Helper()
	var w workflow
	strict := yaml.NewDecoder(strings.NewReader(tools.Read(t, file)))
	strict.KnownFields(true)
	if err := strict.Decode(&w); err != nil {
		t.Fatal(err)
	}
	return w
}

func readCheckPorts(t *testing.T) workflow {
	t.Helper()
	w := readWorkflow(t, "github-actions/check-ports.yml")
	if len(w.Jobs) != 1 || len(w.Jobs["check"].Steps) == 0 {
		t.Fatalf("jobs %+v, want one, called check", w.Jobs)
	}
	return w
}

// TestTheWorkflowHasNoRights: anybody may open a pull request. The only right is to upload findings.
func TestTheWorkflowHasNoRights(t *testing.T) {
	w := readCheckPorts(t)
	// Not pull_request_target, which has the repository's rights. A path filter would block a required check for ever.
	if diff := cmp.Diff(map[string]any{"pull_request": nil, "push": map[string]any{"branches": []any{"main"}}}, w.On); diff != "" {
		t.Errorf("on: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"contents": "read", "security-events": "write"}, w.Jobs["check"].Permissions); diff != "" {
		t.Errorf("permissions of the job: -want +got:\n%s", diff)
	}
}

func TestTheStepsOfTheWorkflowsAreSafe(t *testing.T) {
	ours := tools.Read(t, "../.github/workflows/ci.yml")
	for _, file := range []string{"github-actions/check-ports.yml", "leases/github-actions.yml"} {
		w := readWorkflow(t, file)
		if diff := cmp.Diff(map[string]string{"contents": "read"}, w.Permissions); diff != "" {
			t.Errorf("%s: permissions: -want +got:\n%s", file, diff)
		}
		for name, job := range w.Jobs {
			if job.TimeoutMinutes == 0 {
				t.Errorf("%s: the job %s may run for hours", file, name)
			}
			for _, s := range job.Steps {
				s.check(t, file, ours)
			}
		}
	}
}

// check checks a step of a file. ours is this repository's own workflow.
func (s step) check(t *testing.T, file, ours string) {
	t.Helper()
	if (s.Uses == "") == (s.Run == "") {
		t.Errorf("%s: %+v: want either uses or run", file, s)
	}
	if s.Uses != "" && !regexp.MustCompile(`^(actions|github/codeql-action)/[a-z-]+@[0-9a-f]{40}$`).MatchString(s.Uses) {
		t.Errorf("%s: uses: %s: want one of GitHub's own actions, pinned by commit", file, s.Uses)
	}
	if strings.HasPrefix(s.Uses, "actions/") && !strings.Contains(ours, "uses: "+s.Uses+" # v") {
		t.Errorf("%s: uses: %s: it is not in this repository's own workflow, and so grows old", file, s.Uses)
	}
	if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != "false" {
		t.Errorf("%s: %+v leaves its token behind", file, s)
	}
	if strings.Contains(s.Run, "${{") {
		t.Errorf("%s: run: %s: an expression in a script is text that a pull request may have chosen", file, s.Run)
	}
}

// annotation is what GitHub shows at a line of a pull request.
type annotation struct {
	Severity, File string
	Line, Column   int
	Message        string
}

// TestTheWorkflowShowsEachFaultAtItsLine runs the workflow's commands as GitHub's runner does. It reads what they leave for code
// scanning, and their output with the problem matchers, which are for repositories without code scanning.
func TestTheWorkflowShowsEachFaultAtItsLine(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []annotation
	}{
		{"what ships", nil, nil},
		{"a fault of each kind", map[string]string{
			"ports.yml": "services:\n  - name: web\n    prot: tcp\n    port: 80000\n",
			"deploy/two.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n    - ports: [{containerPort: 1, hostPort: 8080}]\n" +
				"---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec:\n  containers:\n    - ports: [{containerPort: 1, hostPort: 8080}]\n",
			"deploy/chart/templates/service.yaml": "apiVersion: v1\nkind: Service\n{{- if .Values.port }}\nspec: {}\n{{- end }}\n",
		}, []annotation{
			{"warning", "deploy/chart/templates/service.yaml", 3, 0, "not checked: is a template"},
			{"error", "deploy/two.yaml", 13, 44, "hostPort 8080/TCP of Pod default/b is already taken by Pod default/a"},
			{"error", "ports.yml", 3, 5, `unknown key "prot": did you mean "proto"?`},
			{"error", "ports.yml", 4, 11, "port 80000: want a number from 1 to 65535"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			workspace := t.TempDir()
			if err := os.CopyFS(filepath.Join(workspace, "deploy"), os.DirFS("kubernetes")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(workspace, "ports.yml"), tools.Read(t, exampleRegistry))
			for name, text := range tc.files {
				write(t, filepath.Join(workspace, name), text)
			}
			passed, output := runWorkflow(t, workspace)
			if want := len(tc.want) == 0; passed != want {
				t.Errorf("the job passed: %v, want %v", passed, want)
			}
			isWarning := func(a annotation) bool { return a.Severity == "warning" }
			compare(t, slices.DeleteFunc(slices.Clone(tc.want), isWarning), uploaded(t, workspace))
			var matched []annotation
			matchers := readMatchers(t, "github-actions/problem-matcher.json")
			for line := range strings.Lines(output) {
				for _, m := range matchers {
					if a, found := m.match(strings.TrimSuffix(line, "\n")); found {
						matched = append(matched, a)
						break
					}
				}
			}
			compare(t, tc.want, matched)
			for _, a := range matched {
				if _, err := os.Stat(filepath.Join(workspace, a.File)); err != nil {
					t.Errorf("GitHub finds no such file in the workspace: %v", err)
				}
			}
		})
	}
}

// compare compares annotations. Their messages may be longer than wanted: the tests of check hold them.
func compare(t *testing.T, want, got []annotation) {
	t.Helper()
	// stdout and stderr have no order between them.
	slices.SortStableFunc(got, func(a, b annotation) int { return strings.Compare(a.File, b.File) })
	startsAlike := cmp.FilterPath(func(path cmp.Path) bool { return path.Last().String() == ".Message" },
		cmp.Comparer(func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }))
	if diff := cmp.Diff(want, got, startsAlike, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("annotations: -want +got:\n%s", diff)
	}
}

// uploaded returns the findings in the file that the workflow uploads.
func uploaded(t *testing.T, workspace string) (annotations []annotation) {
	t.Helper()
	steps := readCheckPorts(t).Jobs["check"].Steps
	at := slices.IndexFunc(steps, func(s step) bool { return strings.HasPrefix(s.Uses, "github/codeql-action/upload-sarif@") })
	if at < 0 || steps[at].If != "${{ !cancelled() }}" {
		t.Fatal("the workflow uploads no findings, or none where the check has failed")
	}
	for _, r := range tools.SARIF(t, tools.Read(t, filepath.Join(workspace, steps[at].With["sarif_file"]))).Runs[0].Results {
		p := r.Locations[0].PhysicalLocation
		annotations = append(annotations, annotation{r.Level, p.ArtifactLocation.URI, p.Region.StartLine, p.Region.StartColumn, r.Message.Text})
	}
	return annotations
}

// runWorkflow runs the workflow's commands in a workspace. This repository is the one that the workflow checks out.
func runWorkflow(t *testing.T, workspace string) (passed bool, log string) {
	t.Helper()
	bash := tools.Look(t, "bash")
	repository, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	checkouts := make(map[string]string)
	for _, s := range readCheckPorts(t).Jobs["check"].Steps {
		if path := s.With["path"]; path != "" {
			checkouts[path] = repository
			if err := os.Symlink(repository, filepath.Join(workspace, path)); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range []string{"go-version-file", "cache-dependency-path"} {
			if file := s.With[key]; file != "" {
				if _, err := os.Stat(filepath.Join(workspace, file)); err != nil {
					t.Errorf("%s: %v", key, err)
				}
			}
		}
		if s.Run == "" {
			continue
		}
		var output bytes.Buffer
		// As the runner does if the step names no shell.
		run := exec.Command(bash, "-e", "-c", s.Run)
		run.Dir = workspace
		if s.WorkingDirectory != "" {
			run.Dir = checkouts[s.WorkingDirectory]
		}
		run.Env = append(os.Environ(), "RUNNER_TEMP="+temp)
		for name, value := range s.Env {
			run.Env = append(run.Env, name+"="+value)
		}
		run.Stdout, run.Stderr = &output, &output
		err := run.Run()
		log += output.String()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 && s.WorkingDirectory == "" {
			return false, log
		} else if err != nil {
			t.Fatalf("%s: %v\n%s", s.Run, err, output.String())
		}
	}
	return true, log
}

// matcher is a problem matcher of GitHub's for findings of one line.
type matcher struct {
	Owner, Severity string
	Pattern         []struct {
		Regexp                      string
		File, Line, Column, Message int
	}
}

func readMatchers(t *testing.T, file string) []matcher {
	t.Helper()
	var all struct {
		ProblemMatcher []matcher `json:"problemMatcher"`
	}
	strict := json.NewDecoder(strings.NewReader(tools.Read(t, file)))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&all); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for i, m := range all.ProblemMatcher {
		if len(m.Pattern) != 1 || i > 0 && m.Owner == all.ProblemMatcher[i-1].Owner {
			t.Fatalf("%s: %+v: want one pattern, and an owner of its own", file, m)
		}
	}
	return all.ProblemMatcher
}

func (m matcher) match(line string) (a annotation, found bool) {
	p := m.Pattern[0]
	groups := regexp.MustCompile(p.Regexp).FindStringSubmatch(line)
	if groups == nil {
		return annotation{}, false
	}
	number := func(group int) int {
		n, _ := strconv.Atoi(groups[group]) // group 0, all of the line, is none
		return n
	}
	return annotation{m.Severity, groups[p.File], number(p.Line), number(p.Column), groups[p.Message]}, true
}
