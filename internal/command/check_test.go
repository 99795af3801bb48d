package command

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// checkFiles are the files that check is given.
var checkFiles = map[string]string{
	"good.yml":        "services: [{name: ssh, port: 22}]\nreserved: [{team: a, ports: 30000-30099, namespaces: [team-a]}]\n",
	"more.yml":        "services: [{name: web, port: [80, 443]}, {name: dns, port: 53}]\n",
	"bad.yml":         "services:\n  - name: x\n    port: 0\n    bind: nowhere\n",
	"worse.yml":       "services: []\n",
	"teams/a.yml":     "services: [{name: shop, port: 8080}]\n",
	"teams/b.yml":     "reserved: [{team: b, ports: 30100-30199}]\n",
	"taken.yml":       "services: [{name: git, port: 22}]\nreserved: [{team: c, ports: 30100}]\n",
	"twice/a.yaml":    "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: team-a}\nspec:\n  containers:\n    - name: a\n      ports:\n        - hostPort: 31000\n          containerPort: 80\n",
	"twice/b.yaml":    "apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: team-b}\nspec:\n  containers:\n    - name: b\n      ports:\n        - hostPort: 31000\n          containerPort: 80\n",
	"fine/a.yaml":     "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: team-a}\nspec:\n  containers:\n    - name: a\n      ports:\n        - hostPort: 30000\n          containerPort: 80\n",
	"::error::/a.yml": "services: []\n",
	"template/a.yaml": "{{ if .Values.x }}\nkind: Pod\n{{ end }}\n",
}

func TestCheck(t *testing.T) {
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
	for _, test := range []struct {
		name string
		args []string
		code int
		// What the output must match, line by line.
		stdout, stderr []string
	}{
		{
			"good files",
			[]string{"good.yml", "more.yml"},
			0,
			[]string{`good\.yml: 1 service, 1 reserved range`, `more\.yml: 2 services, 0 reserved ranges`},
			nil,
		},
		{
			"bad files and a good one",
			[]string{"bad.yml", "good.yml", "worse.yml"},
			1,
			[]string{`bad\.yml:3:11: .+`, `bad\.yml:4:11: .+`, `good\.yml: 1 service, 1 reserved range`, `worse\.yml:1:\d+: .+`},
			nil,
		},
		{
			"a missing file and a bad one",
			[]string{"bad.yml", "gone.yml"},
			2,
			[]string{`bad\.yml:3:11: .+`, `bad\.yml:4:11: .+`},
			[]string{`listen_exporter: error: read the registry: open gone\.yml: no such file or directory`},
		},
		{"a name that is a command to who reads the lines", []string{"::error::/a.yml"}, 1, []string{`\./::error::/a\.yml:1:11: .+`}, nil},
		{"the same file twice", []string{"--registry.file=good.yml", "good.yml"}, 0, []string{`good\.yml: 1 service, 1 reserved range`}, nil},
		{"a base and the files of teams", []string{"--registry.file=good.yml", "--registry.file=teams"}, 0, []string{`good\.yml, teams: 2 services, 2 reserved ranges`}, nil},
		{"a conflict of files", []string{"--registry.file=good.yml", "--registry.file=teams", "--registry.file=taken.yml"}, 1, []string{
			`taken\.yml:1:30: tcp port 22: taken by service "ssh" at good\.yml:1: .+`,
			`taken\.yml:2:29: port 30100: reserved for team "b" at teams/b\.yml:1: .+`,
		}, nil},
		{"a directory", []string{"teams"}, 0, []string{`teams: 1 service, 1 reserved range`}, nil},
		{"manifests, no registry", []string{"--manifests=twice"}, 1, []string{`twice/b\.yaml:8:21: .*31000.*twice/a\.yaml:8.*`}, nil},
		{
			"the same finding by several registries",
			[]string{"good.yml", "more.yml", "--manifests=twice", "--manifests=fine"},
			1,
			[]string{`good\.yml: .+`, `more\.yml: .+`, `twice/a\.yaml:8:21: .*30000-30099.*`, `twice/b\.yaml:8:21: .*31000.*`, `fine: nothing found`},
			nil,
		},
		{
			"manifests against a bad registry",
			[]string{"bad.yml", "--manifests=fine"},
			1,
			[]string{`bad\.yml:3:11: .+`, `bad\.yml:4:11: .+`, `fine: nothing found`},
			nil,
		},
		{"a template", []string{"--manifests=template"}, 0, []string{`template: nothing found`}, []string{`template/a\.yaml:1: warning: not checked: is a template, not YAML: want what it renders to, as helm template prints it`}},
		{
			"a directory that is not there",
			[]string{"good.yml", "--manifests=gone", "--manifests=fine"},
			2,
			[]string{`good\.yml: .+`, `fine: nothing found`},
			[]string{`listen_exporter: error: read the manifests: .+`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := program.Run(t, append([]string{"check"}, test.args...)...)
			if code != test.code || !linesMatch(stdout, test.stdout) || !linesMatch(stderr, test.stderr) {
				t.Errorf("exit code %d, want %d\non stdout:\n%s\nwant:\n%s\non stderr:\n%s\nwant:\n%s",
					code, test.code, stdout, strings.Join(test.stdout, "\n"), stderr, strings.Join(test.stderr, "\n"))
			}
		})
	}
}

func TestCheckReadsTheStandardInput(t *testing.T) {
	cmd := program.Command(t, "check", "-")
	cmd.Stdin = strings.NewReader("services: [{name: x, port: 0}]\n")
	e := program.Launch(t, cmd)
	const want = "<stdin>:1:28: port 0: want a number from 1 to 65535\n"
	if code := e.Wait(); code != 1 || e.Stdout.String() != want {
		t.Errorf("exit code %d, and %q on stdout, want %q", code, e.Stdout.String(), want)
	}
}

// linesMatch reports whether each line of a text matches its pattern.
func linesMatch(text string, patterns []string) bool {
	return slices.EqualFunc(program.Lines(text), patterns, func(line, pattern string) bool {
		return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(line)
	})
}
