//go:build linux

package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// files are manifests by their names.
type files map[string]string

// write writes the files below a directory.
func (files files) write(t testing.TB, dir string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkAll checks files in a directory called deploy.
func checkAll(t *testing.T, o Options, ports string, files files) *Report {
	t.Helper()
	if ports != "" {
		var err error
		if o.Registry, err = registry.Parse("ports.yml", []byte(ports)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(t.TempDir())
	files.write(t, "deploy")
	r, err := Check(o, []string{"deploy"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lines returns the findings of a report, those that keep it from being whole, and what is skipped, a line each.
func (r *Report) lines() (findings, unread, skipped []string) {
	for _, f := range r.Findings {
		findings = append(findings, f.Error())
	}
	for _, f := range r.Unread {
		unread = append(unread, f.Error())
	}
	for _, s := range r.Skipped {
		skipped = append(skipped, fmt.Sprintf("%s:%d: %s", s.File, s.Line, s.Reason))
	}
	return findings, unread, skipped
}

// expect fails unless these are the findings and what is skipped, a line each.
func expect(t *testing.T, ports string, files files, wantFindings, wantSkipped []string) {
	t.Helper()
	expectWith(t, Options{}, ports, files, wantFindings, wantSkipped)
}

func expectWith(t *testing.T, o Options, ports string, files files, wantFindings, wantSkipped []string) {
	t.Helper()
	findings, unread, skipped := checkAll(t, o, ports, files).lines()
	diff(t, "findings", wantFindings, findings)
	diff(t, "unread", nil, unread)
	diff(t, "skipped", wantSkipped, skipped)
}

func diff(t *testing.T, what string, want, got []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestFilesAreFoundByTheirNamesInEveryDirectory(t *testing.T) {
	const bad = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 0x}]}\n"
	expect(t, "", files{
		"a.yaml": bad, "a\n::error::\x1b[1m\u202e.yaml": bad, "b/c.yml": bad, "b/d/e.JSON": bad, "README.md": bad, "a.yaml.bak": bad, "yaml": bad, "b/x.yaml/f.yaml": bad,
	}, []string{
		"deploy/a.yaml:4:23: port of Service default/a is 0x: want a number from 1 to 65535",
		"deploy/a\\n::error::\\x1b[1m\\u202e.yaml:4:23: port of Service default/a is 0x: want a number from 1 to 65535",
		"deploy/b/c.yml:4:23: port of Service default/a is 0x: want a number from 1 to 65535",
		"deploy/b/d/e.JSON:4:23: port of Service default/a is 0x: want a number from 1 to 65535",
		"deploy/b/x.yaml/f.yaml:4:23: port of Service default/a is 0x: want a number from 1 to 65535",
	}, nil)
}

func TestFilesThatHoldNoPortsArePassedOver(t *testing.T) {
	for name, content := range map[string]string{
		"empty":                     "",
		"only markers":              "---\n---\n...\n---\n",
		"a list":                    "- kind: Pod\n",
		"a chart's values":          "service:\n  port: 80\n  nodePort: abc\n",
		"no version":                "kind: Pod\nspec: {containers: [{ports: [{hostPort: x}]}]}\n",
		"a kustomization":           "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n",
		"Knative's Service":         "apiVersion: serving.knative.dev/v1\nkind: Service\nspec: {ports: [{port: x}]}\n",
		"alerts with templates":     "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: \"{{ $labels.instance }}\"\n  b: |\n    {{ range . }}\n",
		"a pod of odd shape":        "apiVersion: v1\nkind: Pod\nmetadata: []\nspec: {containers: {ports: 3}, initContainers: [4, [5], ~]}\n",
		"no ranges to compare with": "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 80, nodePort: 30000}]}\n",
		"ports that are not set":    "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 0, nodePort: ~}, {}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, "", files{"a.yaml": content}, nil, nil)
		})
	}
}

func TestTemplatesAreSkippedWithANote(t *testing.T) {
	const skip = "is a template, not YAML: want what it renders to, as helm template prints it"
	const good = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: x}]}\n"
	for _, test := range []struct {
		name, content string
		line          string
	}{
		{"a condition around it", "{{- if .Values.a }}\n" + good + "{{- end }}\n", "1"},
		{"a condition around a document", "{{- if .Values.a }}\n---\n" + good + "---\n{{- end }}\n", "1"},
		{"a condition that is YAML", good + "---\n{{ if .Values.a }}\n", "6"},
		{"a value", "apiVersion: v1\nkind: Service\nspec:\n  ports:\n    - port: {{ .Values.port }}\n", "5"},
		{"Jinja", "apiVersion: v1\nkind: Pod\n{% if a %}\nmetadata:\n{% endif %}\n", "3"},
		{"a value of Puppet", "apiVersion: v1\nkind: Service\nspec:\n  ports:\n    - port: %{port}\n", "5"},
		{"a value between two signs", "apiVersion: v1\nkind: Service\nspec:\n  ports:\n    - port: @@PORT@@\n", "5"},
		{"a loop around documents", good + "---\n" + good + "{{ range .Values.a }}\n---\n" + good + "{{ end }}\n", "10"},
	} {
		t.Run(test.name, func(t *testing.T) {
			expect(t, "", files{"a.yaml": test.content}, nil, []string{"deploy/a.yaml:" + test.line + ": " + skip})
		})
	}
}

func TestATemplateDoesNotHideTheOtherDocuments(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: x}]}\n---\n"
	const fault = ":23: port of Service default/a is x: want a number from 1 to 65535"
	const skip = ": is a template, not YAML: want what it renders to, as helm template prints it"
	r := checkAll(t, Options{}, "", files{
		"a.yaml": service + "apiVersion: v1\nkind: Pod\nmetadata:\n  {{ toYaml . }}\n  a: b\n---\n" + service + "port: {{ .Values.port }}\n",
	})
	findings, unread, skipped := r.lines()
	diff(t, "findings", []string{"deploy/a.yaml:4" + fault, "deploy/a.yaml:15" + fault}, findings)
	diff(t, "unread", nil, unread)
	diff(t, "skipped", []string{"deploy/a.yaml:9" + skip, "deploy/a.yaml:17" + skip}, skipped)
	if r.NotChecked["template"] != 1 {
		t.Errorf("got %v, want one file with templates", r.NotChecked)
	}
}

func TestWhatLooksLikeATemplateInATextIsNone(t *testing.T) {
	const rules = "apiVersion: v1\nkind: ConfigMap\ndata:\n  rules.yml: |-\n    - alert: a\n      text: {{ $value }}\n\n      tag: #{host}\n"
	expect(t, "", files{"a.yaml": rules}, nil, nil)
	findings, unread, skipped := checkAll(t, Options{}, "", files{
		"a.yaml": rules + "  bad: [unclosed\n---\n" + pod("a", "", "{hostPort: 80}") + "---\n" + pod("b", "", "{hostPort: 80}"),
		"b.yaml": rules + "  {{- range .Values.a }}\n  b: c\n",
	}).lines()
	if len(findings) != 1 || len(unread) != 1 || !strings.HasPrefix(unread[0], "deploy/a.yaml:9:8: ") {
		t.Errorf("got %q and %q, want the port that is taken twice and the list that does not end", findings, unread)
	}
	diff(t, "skipped", []string{"deploy/b.yaml:9: is a template, not YAML: want what it renders to, as helm template prints it"}, skipped)
}

func TestAPlaceholderThatYAMLReadsAsACommentIsOne(t *testing.T) {
	for _, text := range []string{"#{port}", "#@ data.values.port", "#PORT#"} {
		expect(t, "", files{"a.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n    - ports:\n        - hostPort: " + text + "\n          name: #{name}\n"},
			nil, []string{"deploy/a.yaml:7: hostPort of Pod default/a comes from a template"})
	}
}

func TestValuesThatATemplateFillsInAreSkippedWithANote(t *testing.T) {
	expect(t, "reserved: [{team: a, ports: 100-200, namespaces: [a]}]\n", files{"a.yaml": `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: "${NAMESPACE}"}
spec:
  hostNetwork: ${HOST}
  containers:
    - ports:
        - hostPort: "{{ .Values.port }}"
        - {hostPort: 150, hostIP: $(IP)}
        - {hostPort: 151, containerPort: $(PORT)}
        - {hostPort: 151}
`}, []string{
		`deploy/a.yaml:11:22: hostPort 151/TCP of Pod "${NAMESPACE}"/web is already taken by the same pod at deploy/a.yaml:10: want another port`,
	}, []string{
		`deploy/a.yaml:3: the ranges of Pod "${NAMESPACE}"/web: its namespace comes from a template`,
		`deploy/a.yaml:5: hostNetwork of Pod "${NAMESPACE}"/web comes from a template: assumed to be false`,
		`deploy/a.yaml:8: hostPort of Pod "${NAMESPACE}"/web comes from a template`,
		`deploy/a.yaml:9: hostIP or protocol of Pod "${NAMESPACE}"/web comes from a template: not compared with others`,
	})
}

func TestABadDocumentDoesNotHideTheOthers(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: x}]}\n"
	const fault = ":23: port of Service default/a is x: want a number from 1 to 65535"
	findings, unread, skipped := checkAll(t, Options{}, "", files{
		"a.yaml": "\ufeff" + service + "--- # two\r\nkind: Pod\n\tspec:\n---\n" + service + "...\n---\n" + service,
		"b.json": "{\n\t// settings\n\t\"a\": 1\n}\n",
		"c.yaml": "a: b: c\n",
	}).lines()
	diff(t, "findings", []string{"deploy/a.yaml:4" + fault, "deploy/a.yaml:12" + fault, "deploy/a.yaml:18" + fault}, findings)
	diff(t, "unread", []string{
		"deploy/a.yaml:7:1: is not YAML: a tab: want spaces",
		`deploy/c.yaml:1:5: is not YAML: unexpected ":": want values that contain it in quotes, and lines indented like their neighbours`,
	}, unread)
	diff(t, "skipped", []string{"deploy/b.json:2: is not JSON: invalid character '/' looking for beginning of object key string: want a manifest that kubectl can read"}, skipped)
}

func TestASymbolicLinkIsNotFollowed(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: x}]}\n"
	outside, dir := t.TempDir(), t.TempDir()
	for _, name := range []string{
		filepath.Join(outside, "a.yaml"), filepath.Join(outside, "b.yaml"), filepath.Join(dir, "..data", "real.yaml"), filepath.Join(dir, "real.txt"),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(service), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"a.yaml": filepath.Join(outside, "a.yaml"), "dir": outside, "gone.yaml": "nowhere", "gone.txt": "nowhere", "other.yaml": "real.txt",
		"link.yaml": "..data/real.yaml", "data": "..data", "loop": "loop", "self": ".", "text": filepath.Join(outside, "a.yaml"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Check(Options{}, []string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	findings, _, skipped := r.lines()
	diff(t, "findings", []string{filepath.Join(dir, "..data/real.yaml:4:23: port of Service default/a is x: want a number from 1 to 65535")}, findings)
	var want []string
	for _, name := range []string{"a.yaml", "dir", "gone.yaml", "other.yaml"} {
		want = append(want, filepath.Join(dir, name)+":1: is a symbolic link: want the files themselves in this directory")
	}
	diff(t, "skipped", want, skipped)
}

func TestWhatCannotBeReadIsAnErrorThatNamesIt(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct{ path, want string }{
		{"none", "none: no such file or directory"},
		{"/proc/self/mem", "/proc/self/mem: "}, // opens, even as root, and then fails
	} {
		if _, err := Check(Options{}, []string{test.path}, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.path, err, test.want)
		}
	}
}

func TestAnAnswerWithoutAFileThatIsTooMuchIsNotWhole(t *testing.T) {
	r := checkAll(t, Options{}, "", files{
		"a.json": strings.Repeat(" ", maxSize+1),
		"b.json": "[" + strings.Repeat("[],", maxValues/2) + "]",
	})
	_, unread, _ := r.lines()
	diff(t, "unread", []string{
		"deploy/a.json:1:1: is larger than 10 MiB: want it in smaller files",
		"deploy/b.json:1:1: has more than 1000000 values: want it in smaller files",
	}, unread)
}

func TestAPipeIsReadIfItIsAskedFor(t *testing.T) {
	t.Chdir(t.TempDir())
	files{"deploy/a.yaml": pod("a", "", "{hostPort: 80}")}.write(t, ".")
	if err := syscall.Mkfifo("deploy/pipe.yaml", 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Check(Options{}, []string{"deploy"}, nil)
	if err != nil || len(r.Skipped) != 1 || r.Skipped[0].Reason != "is not a regular file" {
		t.Fatalf("got %v, %v, want the pipe", r.Skipped, err)
	}
	go func() { _ = os.WriteFile("deploy/pipe.yaml", []byte(pod("b", "", "{hostPort: 80}")), 0) }()
	if r, err = Check(Options{}, []string{"deploy/a.yaml", "deploy/pipe.yaml"}, nil); err != nil || len(r.Findings) != 1 {
		t.Errorf("got %v, %v, want the port that is taken twice", r.Findings, err)
	}
}

func TestABombOfAliasesTakesBoundedWork(t *testing.T) {
	const pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{ports: [{hostPort: 80}, {hostPort: 80}]}]}}"
	lists, merges := "a0: &a0 "+pod+"\n", "m0: &m0 {a: b}\n"
	for i := range 9 {
		from, to := string(rune('0'+i)), string(rune('1'+i))
		lists += "a" + to + ": &a" + to + " {apiVersion: v1, kind: List, items: [" + strings.Repeat("*a"+from+", ", 20) + "]}\n"
		merges += "m" + to + ": &m" + to + " {<<: [" + strings.Repeat("*m"+from+", ", 20) + "]}\n"
	}
	const pods = "apiVersion: v1\nkind: List\n"
	for _, test := range []struct{ name, content string }{
		{"lists", lists + pods + "items: [*a7]\n"},
		{"merges", merges + "apiVersion: v1\nkind: Pod\n<<: *m9\n"},
		{"a list in itself", pods + "items: &a\n  - {kind: List, items: *a}\n"},
		{"a mapping in itself", "apiVersion: v1\nkind: Pod\nspec: &a\n  <<: *a\n"},
	} {
		_, unread, _ := checkAll(t, Options{}, "", files{"a.yaml": test.content}).lines()
		if len(unread) != 1 || !strings.HasSuffix(unread[0], ": YAML aliases make too much of this file, or a value contains itself: want it without aliases") {
			t.Errorf("%s: got %q", test.name, unread)
		}
	}
	// Nobody looks at the first, and the second is no manifest.
	expect(t, "", files{"a.yaml": lists + "data: *a9\n"}, nil, nil)
}

// The test takes minutes instead of a second if the time grows with the square of the number of keys.
func TestAFileMayHaveManyKeys(t *testing.T) {
	content := strings.Builder{}
	content.WriteString("apiVersion: v1\nkind: Pod\nspec:\n")
	for i := range 100_000 {
		fmt.Fprintf(&content, "  k%d: 1\n", i)
	}
	expect(t, "", files{"a.yaml": content.String()}, nil, nil)
}

func TestTheReportOfAFileIsBounded(t *testing.T) {
	findings, _, _ := checkAll(t, Options{}, "", files{
		"a.yaml": "apiVersion: v1\nkind: Service\nspec:\n  ports:\n" + strings.Repeat("    - port: x\n", maxFindings+50),
	}).lines()
	if len(findings) != maxFindings+1 || !strings.HasSuffix(findings[maxFindings], ": more than 1000 findings: the rest is not shown: want these fixed first") {
		t.Errorf("got %d findings, the last %s", len(findings), findings[len(findings)-1])
	}
}
