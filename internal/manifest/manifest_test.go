package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// files are manifests by their names.
type files map[string]string

func (files files) fs() fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	return fsys
}

// checkAll returns the findings in files and what is skipped, a line each.
func checkAll(t testing.TB, ports string, files files) (findings, skipped []string) {
	t.Helper()
	var r *registry.Registry
	if ports != "" {
		var err error
		if r, err = registry.Parse("ports.yml", []byte(ports)); err != nil {
			t.Fatal(err)
		}
	}
	found, passed, err := check(r, files.fs(), "deploy")
	if err != nil {
		t.Fatal(err)
	}
	return linesOf(found, passed)
}

func linesOf(found []registry.Fault, passed []Skipped) (findings, skipped []string) {
	for _, f := range found {
		findings = append(findings, f.Error())
	}
	for _, s := range passed {
		skipped = append(skipped, fmt.Sprintf("%s:%d: %s", s.File, s.Line, s.Reason))
	}
	return findings, skipped
}

// expect fails unless these are the findings and what is skipped, a line each.
func expect(t *testing.T, ports string, files files, wantFindings, wantSkipped []string) {
	t.Helper()
	findings, skipped := checkAll(t, ports, files)
	diff(t, "findings", wantFindings, findings)
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
		"a list of another kind":    "apiVersion: v1\nkind: NodeList\nitems: [{apiVersion: v1, kind: Pod, spec: {containers: [{ports: [{hostPort: x}]}]}}]\n",
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
		{"a condition that is YAML", good + "---\n{{ if .Values.a }}\n", "6"},
		{"a value", "apiVersion: v1\nkind: Service\nspec:\n  ports:\n    - port: {{ .Values.port }}\n", "5"},
		{"Jinja", "apiVersion: v1\nkind: Pod\n{% if a %}\nmetadata:\n{% endif %}\n", "3"},
		{"one of several documents", good + "---\napiVersion: v1\nkind: Pod\nmetadata:\n  {{ toYaml . }}\n  a: b\n", "9"},
	} {
		t.Run(test.name, func(t *testing.T) {
			expect(t, "", files{"a.yaml": test.content}, nil, []string{"deploy/a.yaml:" + test.line + ": " + skip})
		})
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
		`deploy/a.yaml:9: hostIP or protocol of hostPort 150 of Pod "${NAMESPACE}"/web comes from a template: not compared with others`,
	})
}

func TestABadDocumentDoesNotHideTheOthers(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: x}]}\n"
	const fault = ":23: port of Service default/a is x: want a number from 1 to 65535"
	findings, skipped := checkAll(t, "", files{
		"a.yaml": "\ufeff" + service + "--- # two\r\nkind: Pod\n\tspec:\n---\n" + service + "...\n---\n" + service,
		"b.json": "{\n\t// settings\n\t\"a\": 1\n}\n",
		"c.yaml": "a: b: c\n",
	})
	diff(t, "findings", []string{
		"deploy/a.yaml:4" + fault,
		"deploy/a.yaml:6:1: is not YAML: found a tab character that violates indentation: want a manifest that kubectl can read",
		"deploy/a.yaml:12" + fault,
		"deploy/a.yaml:18" + fault,
	}, findings)
	for i, name := range []string{"b.json:", "c.yaml:1: "} {
		if len(skipped) != 2 || !strings.HasPrefix(skipped[i], "deploy/"+name) || !strings.Contains(skipped[i], "is not YAML: ") {
			t.Errorf("got %q, want %s to be skipped", skipped, name)
		}
	}
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
	found, passed, err := Check(nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	findings, skipped := linesOf(found, passed)
	diff(t, "findings", []string{filepath.Join(dir, "..data/real.yaml:4:23: port of Service default/a is x: want a number from 1 to 65535")}, findings)
	var want []string
	for _, name := range []string{"a.yaml", "dir", "gone.yaml", "other.yaml"} {
		want = append(want, filepath.Join(dir, name)+":1: is a symbolic link: want the files themselves in this directory")
	}
	diff(t, "skipped", want, skipped)
}

// denying is a file system that lets nobody read what is called secret.
type denying struct{ fstest.MapFS }

func (d denying) Open(name string) (fs.File, error) {
	if strings.Contains(name, "secret") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.MapFS.Open(name)
}

func (d denying) ReadDir(name string) ([]fs.DirEntry, error) {
	if strings.Contains(name, "secret") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.MapFS.ReadDir(name)
}

func TestWhatCannotBeReadIsAnErrorThatNamesIt(t *testing.T) {
	found, passed, err := check(nil, denying{files{
		"a/secret.yaml": "", "b/secrets/a.yaml": "", "c.yaml": "apiVersion: v1\nkind: Service\nspec: {ports: [{port: x}]}\n",
	}.fs()}, "deploy")
	if !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("got %v", err)
	}
	for _, name := range []string{"deploy/a/secret.yaml: ", "deploy/b/secrets: "} {
		if !strings.Contains(err.Error(), "read the manifest "+name) {
			t.Errorf("got %v, want it to name %s", err, name)
		}
	}
	findings, _ := linesOf(found, passed)
	diff(t, "findings", []string{"deploy/c.yaml:3:23: port of Service default/without a name is x: want a number from 1 to 65535"}, findings)

	name := filepath.Join(t.TempDir(), "none")
	if _, _, err := Check(nil, name); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v, want it to name %s", err, name)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Check(nil, name); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v of a file, want it to name %s", err, name)
	}
}

func TestFilesThatAreTooMuchAreSkipped(t *testing.T) {
	expect(t, "", files{
		"a.json": strings.Repeat(" ", maxSize+1),
		"b.json": "[" + strings.Repeat("[],", maxValues/2) + "]",
	}, nil, []string{
		"deploy/a.json:1: is larger than 10 MiB: want it in smaller files",
		"deploy/b.json:1: has more than 2000000 values: want it in smaller files",
	})
	fsys := files{}.fs()
	fsys["pipe.yaml"] = &fstest.MapFile{Mode: fs.ModeNamedPipe}
	_, passed, err := check(nil, fsys, "deploy")
	if err != nil || len(passed) != 1 || passed[0].Reason != "is not a regular file" {
		t.Errorf("got %v, %v, want the pipe", passed, err)
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
	for _, test := range []struct{ name, content, want string }{
		{"lists", lists + pods + "items: [*a7]\n", "document contains excessive aliasing"},
		{"merges", merges + "kind: Pod\n<<: *m9\n", "document contains excessive aliasing"},
		{"a list in itself", pods + "items: &a\n  - {kind: List, items: *a}\n", "anchor 'a' value contains itself"},
		{"a mapping in itself", "kind: Pod\nspec: &a\n  <<: *a\n", "anchor 'a' value contains itself"},
	} {
		want := ":1: is not YAML: " + test.want + ": want a manifest that kubectl can read"
		expect(t, "", files{"a.yaml": test.content, "b.yaml": "--- x\n---\n" + test.content}, []string{"deploy/a.yaml:1" + want, "deploy/b.yaml:2" + want}, nil)
	}
	// Nobody looks at the first, and the second is no manifest.
	expect(t, "", files{"a.yaml": lists + "data: *a9\n", "b.yaml": merges + "<<: *m9\n"}, nil,
		[]string{"deploy/b.yaml:1: is not YAML: document contains excessive aliasing"})
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
	findings, _ := checkAll(t, "", files{
		"a.yaml": "apiVersion: v1\nkind: Service\nspec:\n  ports:\n" + strings.Repeat("    - port: x\n", maxFindings+50),
	})
	if len(findings) != maxFindings+1 || !strings.HasSuffix(findings[maxFindings], ": more than 1000 findings: the rest is not shown: want these fixed first") {
		t.Errorf("got %d findings, the last %s", len(findings), findings[len(findings)-1])
	}
}
