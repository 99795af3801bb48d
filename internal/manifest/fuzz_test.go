//go:build linux

package manifest

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/listen-exporter/listen_exporter/internal/registry"
)

func FuzzCheck(f *testing.F) {
	r, err := registry.Parse("ports.yml", []byte("reserved:\n  - {team: a, ports: 100-200, namespaces: [a]}\n  - {team: b, ports: 300}\n"))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", "---\n", "\ufeff---\n--- a\n...\n%YAML 1.1\n---\n", "{{ a }}\n", "a: {{ b }}\n---\n{% c %}", "a: b: c", "kind: Pod\n\t", "&a [*a]", "&a <<: *a\n", "'", "kind: *a\n",
		pod("a", "", "{hostPort: 80}", "{hostPort: 80, hostIP: 10.0.0.1, protocol: UDP}") + "---\n" + pod("b", "hostNetwork: true, ", "{containerPort: 80, hostPort: 81}"),
		"apiVersion: v1\nkind: List\nitems: &a\n  - {kind: List, items: *a}\n  - {kind: Service, metadata: {namespace: a}, spec: {ports: [{port: 300, nodePort: 0x64}]}}\n",
		"apiVersion: batch/v1\nkind: CronJobList\nitems: [{spec: {jobTemplate: {spec: {template: {spec: {initContainers: [{restartPolicy: Always, ports: [{hostPort: '1'}]}]}}}}}}]\n",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: {listen-exporter/port-range: '100-200,300, 301'}}\n",
		"apiVersion: v1\nkind: NamespaceList\nitems: [{metadata: {name: b, annotations: {listen-exporter/port-range: 300}}}, {metadata: {name: a}}]\n",
		"{\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\", \"a\": \"\\ud83d\"}", "namespace: a\nresources: [web.yaml, ., ../k, b, 'https://a']\ncomponents: [.]\npatches: [{path: ../a.yaml}, {patch: 'ports: 1'}]\n",
		"apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec: {path: ./a/k, targetNamespace: b, patches: [~]}\n",
		"apiVersion: v1\nkind: Service\nspec: {<<: [{ports: [{port: ${P}}]}, ~]}\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, json bool) {
		dir := t.TempDir()
		name := "a.yaml"
		if json {
			name = "a.json"
		}
		files{name: string(data), "b.yaml": pod("b", "", "{hostPort: 80}"), "k/kustomization.yaml": string(data), "k/web.yaml": deployment}.write(t, dir)
		report, err := Check(Options{Registry: r, ServicePorts: true}, []string{dir}, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := 1 + max(strings.Count(string(data), "\n"), strings.Count(deployment, "\n"))
		// YAML ends lines in more ways than editors do.
		if strings.ContainsAny(string(data), "\r\ufeff") || !utf8.Valid(data) {
			lines = 1 << 30
		}
		valid := func(line int, text string) {
			if line < 1 || line > lines || text == "" || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\x1b\x00") {
				t.Errorf("line %d: %q", line, text)
			}
		}
		for _, finding := range slices.Concat(report.Findings, report.Unread) {
			valid(finding.Line, finding.Text)
			if finding.Column < 1 {
				t.Errorf("%s", finding)
			}
		}
		for _, s := range report.Skipped {
			valid(s.Line, s.Reason)
		}
	})
}
