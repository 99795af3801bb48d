//go:build linux

package command

import (
	"fmt"
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
	"leases.yml":      "reserved:\n  - {team: ci, ports: [20000-20099, 32000-33000], users: ['*']}\n  - {team: a, ports: 40000-40099}\n  - {team: ci, ports: 60900-61100, users: [1000]}\n",
	"teams/a.yml":     "services: [{name: shop, port: 8080}]\n",
	"teams/b.yml":     "reserved: [{team: b, ports: 30100-30199}]\n",
	"taken.yml":       "services: [{name: git, port: 22}]\nreserved: [{team: c, ports: 30100}]\n",
	"twice/a.yaml":    "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: team-a}\nspec:\n  containers:\n    - name: a\n      ports:\n        - hostPort: 31000\n          containerPort: 80\n",
	"twice/b.yaml":    "apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: team-b}\nspec:\n  containers:\n    - name: b\n      ports:\n        - hostPort: 31000\n          containerPort: 80\n",
	"fine/a.yaml":     "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: team-a}\nspec:\n  containers:\n    - name: a\n      ports:\n        - hostPort: 30000\n          containerPort: 80\n",
	"::error::/a.yml": "services: []\n",
	"again/c.yaml":    podOf("c", 31000),
	"charts/a.yaml":   "apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: Service, metadata: {name: a}}\n  - {apiVersion: v1, kind: Service, metadata: {name: b}}\n",
	"charts/b.yaml":   strings.Repeat("---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\n", 3) + strings.Repeat("---\napiVersion: kyverno.io/v1\nkind: ClusterPolicy\n", 2),
	"charts/c.yaml":   podOf("c", 31000),
	"charts/t.yaml":   "{{ if .Values.x }}\nkind: Pod\n{{ end }}\n",
	"broken/a.yaml":   podOf("a", 31000) + "\tbad: here\n",
	"broken/b.yaml":   podOf("b", 31000),
	"broken/0.yaml":   podOf("0", 31000),
	"template/a.yaml": "{{ if .Values.x }}\nkind: Pod\n{{ end }}\n",
}

// podOf returns a Pod with a host port.
func podOf(name string, port int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  containers:\n    - name: a\n      ports:\n        - hostPort: %d\n", name, port)
}

func TestCheck(t *testing.T) {
	writeCheckFiles(t)
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
			[]string{`good\.yml, more\.yml: 3 services, 1 reserved range`},
			nil,
		},
		{
			"ports that are seldom leased",
			[]string{"leases.yml"},
			0,
			[]string{`leases\.yml: 0 services, 4 reserved ranges`},
			[]string{
				`leases\.yml:2:37: hint: ports 32768-33000 of team "ci": the kernel gives 32768-60999 to clients .+: want other ports, or these in the sysctl net\.ipv4\.ip_local_reserved_ports`,
				`leases\.yml:4:23: hint: ports 60900-60999 of team "ci": .+`,
			},
		},
		{
			"files in a directory and twice",
			[]string{"teams", "teams/b.yml", "./good.yml", "good.yml"},
			0,
			[]string{`teams, good\.yml: \d services, \d reserved ranges`},
			nil,
		},
		{
			"bad files and a good one",
			[]string{"bad.yml", "good.yml", "worse.yml"},
			1,
			[]string{`bad\.yml:3:11: .+`, `bad\.yml:4:11: .+`, `worse\.yml:1:\d+: .+`},
			nil,
		},
		{
			"a missing file and a bad one",
			[]string{"bad.yml", "gone.yml"},
			2,
			nil,
			[]string{`listen_exporter: error: read the registry: open gone\.yml: no such file or directory`},
		},
		{"a name that is a command to who reads the lines", []string{"::error::/a.yml"}, 1, []string{`\./::error::/a\.yml:1:11: .+`}, nil},
		{"the same file twice", []string{"--registry.file=good.yml", "good.yml"}, 0, []string{`good\.yml: 1 service, 1 reserved range`}, nil},
		{"a base and the files of teams", []string{"--registry.file=good.yml", "--registry.file=teams"}, 0, []string{`good\.yml, teams: 2 services, 2 reserved ranges`}, nil},
		{"a conflict of files", []string{"good.yml", "teams", "taken.yml"}, 1, []string{
			`taken\.yml:1:30: tcp port 22: taken by service "ssh" at good\.yml:1: .+`,
			`taken\.yml:2:29: port 30100: reserved for team "b" at teams/b\.yml:1: .+`,
		}, nil},
		{"a directory", []string{"teams"}, 0, []string{`teams: 1 service, 1 reserved range`}, nil},
		{"manifests, no registry", []string{"--manifests=twice"}, 1, []string{`twice/b\.yaml:8:21: .*31000.*twice/a\.yaml:8.*`, `checked 2 workloads and 0 Services in 2 files`}, nil},
		{
			"manifests against a registry of two files",
			[]string{"good.yml", "more.yml", "--manifests=twice", "--manifests=fine"},
			1,
			[]string{`good\.yml, more\.yml: .+`, `twice/a\.yaml:8:21: .*30000-30099.*`, `twice/b\.yaml:8:21: .*31000.*`, `checked 3 workloads and 0 Services in 3 files`},
			nil,
		},
		{
			"manifests against a bad registry",
			[]string{"bad.yml", "--manifests=fine"},
			1,
			[]string{`bad\.yml:3:11: .+`, `bad\.yml:4:11: .+`, `checked 1 workload and 0 Services in 1 file`},
			nil,
		},
		{
			"nothing but a template",
			[]string{"--manifests=template"},
			2,
			[]string{`checked 0 workloads and 0 Services in 1 file; not checked: 1 template`},
			[]string{
				`template/a\.yaml:1: warning: not checked: is a template, not YAML: want what it renders to, as helm template prints it`,
				`listen_exporter: error: nothing was checked: .+`,
			},
		},
		{
			"files are one cluster",
			[]string{"--manifests=twice/a.yaml", "--manifests=twice/b.yaml"},
			1,
			[]string{`twice/b\.yaml:8:21: .*31000.*twice/a\.yaml:8.*`, `checked 2 workloads and 0 Services in 2 files`},
			nil,
		},
		{
			"each directory is one",
			[]string{"--manifests=twice", "--manifests=again"},
			1,
			[]string{`twice/b\.yaml:8:21: .*31000.*twice/a\.yaml:8.*`, `checked 3 workloads and 0 Services in 3 files`},
			nil,
		},
		{"what is left out", []string{"--manifests=twice", "--exclude=b.*"}, 0, []string{`checked 1 workload and 0 Services in 1 file`}, nil},
		{
			"what is not looked into",
			[]string{"--manifests=charts"},
			0,
			[]string{`checked 1 workload and 2 Services in 4 files; not checked: 2 ClusterPolicies, 3 HelmReleases, 1 template`},
			[]string{`charts/t\.yaml:1: .+`},
		},
		{
			"a file that is not YAML",
			[]string{"--manifests=broken"},
			2,
			[]string{`broken/b\.yaml:8:21: hostPort 31000/TCP .+`, `broken/a\.yaml:9:1: is not YAML: a tab: want spaces`, `checked 2 workloads and 0 Services in 3 files`},
			[]string{`listen_exporter: error: the answer is not whole: 1 part could not be checked, see above`},
		},
		{
			"a pattern that is none",
			[]string{"--manifests=fine", "--exclude=["},
			2,
			nil,
			[]string{`listen_exporter: error: --exclude "\[" is no pattern: .+`},
		},
		{
			"a directory that is not there",
			[]string{"good.yml", "--manifests=gone", "--manifests=fine"},
			2,
			[]string{`good\.yml: .+`, `checked 1 workload and 0 Services in 1 file`},
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

func TestManifestsAreReadFromStandardInput(t *testing.T) {
	for stdin, want := range map[string]struct {
		code   int
		stdout string
	}{
		podOf("a", 80) + "---\n" + podOf("b", 80): {1, "<stdin>:17:21: hostPort 80/TCP of Pod shop/b is already taken by Pod shop/a at <stdin>:8: want another port\nchecked 2 workloads and 0 Services in 1 file\n"},
		podOf("a", 80): {0, "checked 1 workload and 0 Services in 1 file\n"},
		"":             {2, "checked 0 workloads and 0 Services in 1 file\n"},
		"{":            {2, ""},
	} {
		cmd := program.Command(t, "check", "--manifests=-", "--namespace=shop")
		cmd.Stdin = strings.NewReader(stdin)
		e := program.Launch(t, cmd)
		if code := e.Wait(); code != want.code || !strings.HasPrefix(e.Stdout.String(), want.stdout) {
			t.Errorf("%q: exit code %d, and %q on stdout, want %d, %q", stdin, code, e.Stdout.String(), want.code, want.stdout)
		}
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
