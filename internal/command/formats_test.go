//go:build linux

package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// writeCheckFiles writes checkFiles, and makes their directory the current one.
func writeCheckFiles(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range checkFiles {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

// rows returns each finding and each thing that was not checked of a SARIF log, as a line. It fails the test if the log does not
// have the parts that code scanning needs.
func rows(t *testing.T, log tools.SARIFLog) (rows []string, complete bool) {
	t.Helper()
	if len(log.Runs) != 1 || len(log.Runs[0].Invocations) != 1 {
		t.Fatalf("%+v: want one run with one invocation", log)
	}
	run := log.Runs[0]
	row := func(r tools.SARIFResult) string {
		at := ""
		for _, l := range r.Locations {
			p := l.PhysicalLocation
			at += fmt.Sprintf("%s:%d:%d", p.ArtifactLocation.URI, p.Region.StartLine, p.Region.StartColumn)
			for _, logical := range l.LogicalLocations {
				at += " " + logical.Name
			}
		}
		return strings.Join(strings.Fields(r.Level+" "+r.RuleID+" "+at), " ")
	}
	for _, r := range run.Results {
		if rules := run.Tool.Driver.Rules; r.RuleIndex >= len(rules) || rules[r.RuleIndex].ID != r.RuleID || rules[r.RuleIndex].ShortDescription.Text == "" {
			t.Errorf("rule %q of %+v is not described", r.RuleID, r)
		}
		if r.Message.Text == "" {
			t.Errorf("%+v has no message", r)
		}
		rows = append(rows, row(r))
	}
	for _, n := range run.Invocations[0].ToolExecutionNotifications {
		rows = append(rows, "not checked: "+row(n))
	}
	return rows, run.Invocations[0].ExecutionSuccessful
}

func TestCheckWritesSARIF(t *testing.T) {
	writeCheckFiles(t)
	for _, test := range []struct {
		args string
		code int
		want []string
	}{
		{"good.yml --manifests=fine", ExitOK, nil},
		{"bad.yml good.yml --manifests=twice", ExitFound, []string{
			"error registry bad.yml:3:11", "error registry bad.yml:4:11", "error duplicate-port twice/b.yaml:8:21",
		}},
		{"good.yml --manifests=twice", ExitFound, []string{"error port-range twice/a.yaml:8:21", "error duplicate-port twice/b.yaml:8:21"}},
		{"::error::/a.yml", ExitFound, []string{"error registry ./::error::/a.yml:1:11"}},
		{"--manifests=charts", ExitOK, []string{"not checked: note charts/t.yaml:1:0"}},
		{"--manifests=broken", ExitTrouble, []string{
			"error duplicate-port broken/b.yaml:8:21", "error not-checked broken/a.yaml:9:1", "not checked: error",
		}},
		{"gone.yml", ExitTrouble, []string{"not checked: error"}},
		{"", ExitTrouble, []string{"not checked: error"}},
	} {
		code, stdout, _ := program.Run(t, append([]string{"check", "--format=sarif"}, strings.Fields(test.args)...)...)
		got, complete := rows(t, tools.SARIF(t, stdout))
		if diff := cmp.Diff(test.want, got); diff != "" || code != test.code || complete != (code != ExitTrouble) {
			t.Errorf("check %s: exit code %d, want %d; complete: %v; results (-want +got):\n%s", test.args, code, test.code, complete, diff)
		}
	}
}

func TestCheckWritesJSON(t *testing.T) {
	writeCheckFiles(t)
	for _, test := range []struct {
		args string
		code int
		want jsonCheck
	}{
		{"good.yml --manifests=charts", ExitOK, jsonCheck{
			Version: 1, Complete: true, Findings: []jsonFinding{}, Errors: []string{},
			Registry:   &jsonCheckedRegistry{[]string{"good.yml"}, 1, 1},
			Manifests:  &jsonCoverage{4, 1, 2, map[string]int{"ClusterPolicy": 2, "HelmRelease": 3, "template": 1}},
			NotChecked: []jsonNotChecked{{"charts/t.yaml", 1, "is a template, not YAML: want what it renders to, as helm template prints it"}},
		}},
		{"--manifests=broken", ExitTrouble, jsonCheck{
			Version: 1, NotChecked: []jsonNotChecked{},
			Findings: []jsonFinding{
				{"duplicate-port", "broken/b.yaml", 8, 21, "hostPort 31000/TCP of Pod default/b is already taken by Pod default/0 at broken/0.yaml:8: want another port"},
				{"not-checked", "broken/a.yaml", 9, 1, "is not YAML: a tab: want spaces"},
			},
			Manifests: &jsonCoverage{3, 2, 0, map[string]int{}},
			Errors:    []string{"the answer is not whole: 1 part could not be checked, see above"},
		}},
		{"bad.yml", ExitFound, jsonCheck{
			Version: 1, Complete: true, NotChecked: []jsonNotChecked{}, Errors: []string{},
			Findings: []jsonFinding{
				{"registry", "bad.yml", 3, 11, "port 0: want a number from 1 to 65535"},
				{"registry", "bad.yml", 4, 11, `bind "nowhere"`},
			},
		}},
	} {
		code, stdout, _ := program.Run(t, append([]string{"check", "--format=json"}, strings.Fields(test.args)...)...)
		var got jsonCheck
		if err := json.Unmarshal([]byte(stdout), &got); err != nil {
			t.Fatalf("%v:\n%s", err, stdout)
		}
		startsAlike := cmp.FilterPath(func(path cmp.Path) bool { return path.Last().String() == ".Message" },
			cmp.Comparer(func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }))
		if diff := cmp.Diff(test.want, got, startsAlike); diff != "" || code != test.code {
			t.Errorf("check %s: exit code %d, want %d; JSON (-want +got):\n%s", test.args, code, test.code, diff)
		}
	}
}

func TestAuditHasItsFindingsInEveryFormat(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", commandRegistry)
	args := []string{"audit", "--path.procfs=" + program.NewProcfs(t), "--registry.host=web-1", "--registry.file=" + file}
	code, text, _ := program.Run(t, args...)
	var fromText []string
	for _, line := range program.Lines(text) {
		if subject, rest, found := strings.Cut(line, ": "); found {
			rule, _, _ := strings.Cut(rest, ":")
			fromText = append(fromText, rule+" "+subject)
		}
	}
	if code != ExitFound || len(fromText) != 4 {
		t.Fatalf("exit code %d, want 1, and four findings:\n%s", code, text)
	}

	t.Run("sarif", func(t *testing.T) {
		code, stdout, _ := program.Run(t, append(args, "--format=sarif")...)
		var want []string
		for _, row := range fromText {
			rule, subject, _ := strings.Cut(row, " ")
			want = append(want, "error "+rule+" file://"+file+":0:0 "+subject)
		}
		want = append(want, "not checked: warning") // procfs does not show interfaces
		got, complete := rows(t, tools.SARIF(t, stdout))
		if diff := cmp.Diff(want, got); diff != "" || code != ExitFound || !complete {
			t.Errorf("exit code %d, complete: %v; results (-want +got):\n%s", code, complete, diff)
		}
	})
	t.Run("json", func(t *testing.T) {
		code, stdout, _ := program.Run(t, append(args, "--format=json")...)
		var audit jsonAudit
		if err := json.Unmarshal([]byte(stdout), &audit); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range audit.Findings {
			if f.Ports != nil {
				got = append(got, fmt.Sprintf("%s %s %s", f.Rule, f.Proto, *f.Ports))
			} else {
				address := *f.Address
				if strings.Contains(address, ":") {
					address = "[" + address + "]"
				}
				got = append(got, fmt.Sprintf("%s %s %s:%d", f.Rule, f.Proto, address, *f.Port))
			}
			if !strings.Contains(text, ": "+f.Message+"\n") {
				t.Errorf("the text has no %q", f.Message)
			}
		}
		if diff := cmp.Diff(fromText, got); diff != "" || code != ExitFound {
			t.Errorf("exit code %d; findings (-want +got):\n%s", code, diff)
		}
		audit.Findings = nil
		want := jsonAudit{
			Version: 1, Complete: true, Host: "web-1", Registry: []string{file}, Notes: []jsonAuditFinding{},
			AsDeclared: 2, Violations: 3, Missing: 1, Unknown: audit.Unknown, Errors: []string{},
		}
		if diff := cmp.Diff(want, audit); diff != "" {
			t.Errorf("JSON (-want +got):\n%s", diff)
		}
	})
}

// Without a whole answer, programs must not take the findings for all there are.
func TestAuditSaysInEveryFormatThatItsAnswerIsNotWhole(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", commandRegistry)
	for args, problem := range map[string]string{
		"": "audit needs a registry",
		"--registry.file=" + file + " --collector.max-ports=2 --path.procfs=" + program.NewProcfs(t): "not judged",
		"--registry.file=" + program.WriteFile(t, "bad.yml", "services: [{name: x, port: 0}]"):       "port 0",
	} {
		for _, format := range []string{FormatJSON, FormatSARIF} {
			code, stdout, _ := program.Run(t, append([]string{"audit", "--format=" + format}, strings.Fields(args)...)...)
			if code != ExitTrouble || !strings.Contains(stdout, problem) {
				t.Errorf("audit %s --format=%s: exit code %d, want 2, and %q in:\n%s", args, format, code, problem, stdout)
			}
			if format == FormatSARIF {
				if _, complete := rows(t, tools.SARIF(t, stdout)); complete {
					t.Errorf("audit %s: the run counts as successful", args)
				}
			} else if !strings.Contains(stdout, `"complete": false`) {
				t.Errorf("audit %s: the answer counts as complete:\n%s", args, stdout)
			}
		}
	}
}
