//go:build linux

package manifest

import (
	"slices"
	"strings"
	"testing"
)

// deployment is a Deployment without a namespace that has a host port.
const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
        - name: web
          ports:
            - {containerPort: 80, hostPort: 30500}
`

func TestWhatAKustomizationMakesOfAFileIsChecked(t *testing.T) {
	const ports = "reserved:\n  - {team: shop, ports: 30000-30999, namespaces: [shop]}\n  - {team: search, ports: 31000-31999, namespaces: [search]}\n"
	const base = "resources: [web.yaml]\n"
	const notReserved = `deploy/base/web.yaml:11:45: hostPort 30500 of Deployment NAME is reserved for team "shop" at ports.yml:2: want one of 31000-31999`
	for _, test := range []struct {
		name  string
		files files
		want  []string // the names of what is not in its range
		not   string   // the directories that are not judged
	}{
		{"its namespace", files{"base/kustomization.yaml": "namespace: shop\n" + base}, nil, ""},
		{"another namespace", files{"base/kustomization.yaml": "namespace: search\n" + base}, []string{"search/web"}, ""},
		{"the outermost namespace", files{
			"base/kustomization.yaml": "namespace: search\n" + base, "over/kustomization.yml": "namespace: shop\nresources: [../base]\n",
		}, nil, ""},
		{"two overlays", files{
			"base/kustomization.yaml": base, "a/Kustomization": "namespace: shop\nbases: [../base]\n",
			"b/kustomization.yaml": "namespace: search\nnamePrefix: b-\nnameSuffix: -1\nresources: [../base/]\n",
		}, []string{"search/b-web-1"}, ""},
		{"a component's namespace", files{
			"base/kustomization.yaml": base + "components: [../c]\n", "c/kustomization.yaml": "kind: Component\nnamespace: search\n",
		}, []string{"search/web"}, ""},
		{"a patch of something else", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "patches:\n  - path: patch.yaml\n  - patch: |-\n      - {op: add, path: /spec/template/spec/containers/0/args/-, value: --file=/ports.yml}\n    target: {kind: Deployment}\n",
			"base/patch.yaml":         "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: web, image: b}]}}}\n",
		}, []string{"search/web"}, ""},
		{"a patch of ports", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "patches: [{path: patch.yaml}]\n",
			"base/patch.yaml":         "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: web, ports: [{containerPort: 80, hostPort: 31500}]}]}}}\n",
		}, nil, "deploy/base"},
		{"a patch of ports in an overlay", files{
			"base/kustomization.yaml": base,
			"over/kustomization.yaml": "namespace: search\nresources: [../base]\npatchesStrategicMerge:\n  - |\n    kind: Deployment\n    spec: {template: {spec: {hostNetwork: true}}}\n",
		}, nil, "deploy/over"},
		{"a JSON patch of ports", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "patchesJson6902: [{path: patch.json, target: {kind: Deployment, name: web}}]\n",
			"base/patch.json":         `[{"op": "replace", "path": "/spec/template/spec/containers/0/ports/0/hostPort", "value": 31500}]`,
		}, nil, "deploy/base"},
		{"a JSON patch of a whole container", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "patches:\n  - target: {kind: Deployment}\n    patch: |\n      - op: remove\n        path: /spec/template/spec/containers/0\n",
		}, nil, "deploy/base"},
		{"a deletion", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "patches: [{patch: '{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, $patch: delete}'}]\n",
		}, nil, "deploy/base"},
		{"a replacement of a port", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "replacements: [{source: {kind: A}, targets: [{select: {kind: Deployment}, fieldPaths: [spec.template.spec.containers.0.ports.0.hostPort]}]}]\n",
		}, nil, "deploy/base"},
		{"a replacement in a file", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "replacements: [{path: r.yaml}]\n",
			"base/r.yaml":             "source: {kind: A}\ntargets:\n  - select: {kind: Deployment}\n    fieldPaths:\n      - spec.template.spec.containers.0.ports.0.hostPort\n",
		}, nil, "deploy/base"},
		{"a replacement of the namespace", files{
			"base/kustomization.yaml": base + "replacements: [{source: {kind: A}, targets: [{select: {kind: Deployment}, fieldPaths: [metadata.namespace]}]}]\n",
		}, nil, "deploy/base"},
		{"a JSON patch of the namespace", files{
			"base/kustomization.yaml": base + "patches:\n  - target: {kind: Deployment}\n    patch: |\n      - op: replace\n        path: /metadata/namespace\n        value: search\n",
		}, nil, "deploy/base"},
		{"a JSON patch of a Service's type", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "patches:\n  - target: {kind: Service}\n    patch: |\n      - op: replace\n        path: /spec/type\n        value: ClusterIP\n",
		}, nil, "deploy/base"},
		{"transformers", files{"base/kustomization.yaml": "namespace: search\n" + base + "transformers: [t.yaml]\n"}, nil, "deploy/base"},
		{"a component that patches ports", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "components: [../c]\n",
			"c/kustomization.yaml":    "kind: Component\npatches: [{patch: '{kind: Deployment, spec: {template: {spec: {nodeName: a}}}}'}]\n",
		}, nil, "deploy/base"},
		{"what is elsewhere as well", files{
			"base/kustomization.yaml": "namespace: search\nresources: [web.yaml, 'https://example.org/x?ref=v1']\n",
		}, []string{"search/web"}, "deploy/base"},
		{"a base that is not here", files{"base/kustomization.yaml": "namespace: search\nresources: [web.yaml, ../../other]\n"}, []string{"search/web"}, "deploy/base"},
		{"a kustomization that is not YAML", files{"base/kustomization.yaml": "a: b: c\n"}, nil, "deploy/base"},
		{"a kustomization with too many values", files{"base/kustomization.yaml": "a: [" + strings.Repeat("[],", maxValues/2) + "]\n"}, nil, "deploy/base"},
		{"a patch with too many values", files{
			"base/kustomization.yaml": "namespace: search\n" + base + "patches: [{path: p.yaml}]\n", "base/p.yaml": "[" + strings.Repeat("[],", maxValues/2) + "]\n",
		}, nil, "deploy/base"},
		{"a circle", files{
			"base/kustomization.yaml": base, "a/kustomization.yaml": "resources: [../b, ../base]\n",
			"b/kustomization.yaml": "resources: [../a]\n", "c/kustomization.yaml": "resources: [../a]\nnamespace: search\n",
		}, []string{"search/web"}, "deploy/c"},
		{"nothing but a circle", files{"base/kustomization.yaml": base + "components: [../base]\nbases: [../b]\n", "b/kustomization.yaml": "resources: [../base]\n"}, nil, "deploy/b deploy/base"},
		{"an empty one", files{"base/kustomization.yaml": ""}, nil, "deploy/base"},
		{"files for a ConfigMap", files{
			"base/kustomization.yaml": "namespace: shop\n" + base + "configMapGenerator: [{name: a, files: [b=data.yaml]}]\n", "base/data.yaml": deployment,
		}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.files["base/web.yaml"] = deployment
			findings, unread, skipped := checkAll(t, Options{}, ports, test.files).lines()
			var want []string
			for _, name := range test.want {
				want = append(want, strings.Replace(notReserved, "NAME", name, 1))
			}
			diff(t, "findings", want, findings)
			diff(t, "unread", nil, unread)
			var dirs []string
			for _, s := range skipped {
				_, command, _ := strings.Cut(s, ": want `kubectl kustomize ")
				dir, _, _ := strings.Cut(command, " | listen_exporter check --manifests=-`")
				dirs = append(dirs, dir)
			}
			if got := strings.Join(slices.Compact(dirs), " "); got != test.not {
				t.Errorf("not judged %q, want %q: %q", got, test.not, skipped)
			}
		})
	}
}

func TestAnObjectIsNotComparedWithItsOwnBase(t *testing.T) {
	expect(t, "", files{
		"base/kustomization.yaml": "resources: [web.yaml]\n", "base/web.yaml": deployment,
		"dev/kustomization.yaml":  "namespace: dev\nnamePrefix: dev-\nresources: [../base]\n",
		"prod/kustomization.yaml": "namespace: prod\nnamePrefix: prod-\nresources: [../base, other.yaml]\n",
		"prod/other.yaml":         strings.Replace(deployment, "name: web", "name: other", 1),
	}, []string{
		"deploy/prod/other.yaml:11:45: hostPort 30500/TCP of Deployment prod/prod-other is already taken by Deployment dev/dev-web at deploy/base/web.yaml:11: want another port",
	}, nil)
}

func TestAFileGivenByItsNameHasTheNamespaceOfItsKustomization(t *testing.T) {
	t.Chdir(t.TempDir())
	files{"deploy/kustomization.yaml": "namespace: shop\nresources: [web.yaml, elsewhere.yaml]\n", "deploy/web.yaml": deployment, "deploy/b.yaml": pod("b", "", "{hostPort: 30500}")}.write(t, ".")
	r, err := Check(Options{}, []string{"deploy/b.yaml", "deploy/web.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	findings, _, skipped := r.lines()
	diff(t, "findings", []string{"deploy/web.yaml:11:45: hostPort 30500/TCP of Deployment shop/web is already taken by Pod default/b at deploy/b.yaml:4: want another port"}, findings)
	diff(t, "skipped", nil, skipped)
}

func TestAKustomizationOfFluxIsLikeOneOfTheDirectoryThatItNames(t *testing.T) {
	const ports = "reserved:\n  - {team: shop, ports: 30000-30999, namespaces: [shop]}\n"
	flux := func(spec string) string {
		return "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: web}\nspec: {" + spec + "}\n"
	}
	for name, test := range map[string]struct {
		files     files
		namespace string // in which port 30500 is found
	}{
		"without a namespace":  {files{"flux/web.yaml": flux("path: ./apps/web")}, "default"},
		"a kustomization":      {files{"flux/web.yaml": flux("path: ./apps/web, targetNamespace: other"), "apps/web/kustomization.yaml": "resources: [web.yaml]\n"}, "other"},
		"that has a namespace": {files{"flux/web.yaml": flux("path: ./apps/web, targetNamespace: shop"), "apps/web/kustomization.yaml": "namespace: other\nresources: [web.yaml]\n"}, ""},
		"plain files":          {files{"flux/web.yaml": flux("path: apps/, targetNamespace: shop")}, ""},
		"in a List": {files{
			"flux/web.yaml": "apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {name: web}, spec: {path: apps/web, targetNamespace: shop}}\n",
		}, ""},
		"a component of the deployment": {files{
			"flux/web.yaml": flux("path: ./apps/web, components: [../c]"), "apps/c/kustomization.yaml": "kind: Component\nnamespace: shop\n",
		}, ""},
		"a path in a whole repository": {files{"flux/web.yaml": flux("path: ./deploy/apps/web, targetNamespace: shop")}, ""},
	} {
		test.files["apps/web/web.yaml"] = deployment
		findings, _, skipped := checkAll(t, Options{}, ports, test.files).lines()
		diff(t, name, nil, skipped)
		if test.namespace == "" {
			diff(t, name, nil, findings)
		} else if len(findings) != 1 || !strings.Contains(findings[0], "hostPort 30500 of Deployment "+test.namespace+"/web is reserved") {
			t.Errorf("%s: got %q, want it in %s", name, findings, test.namespace)
		}
	}
	expect(t, ports, files{"apps/web/web.yaml": deployment, "f.yaml": flux("path: apps, patches: [{patch: 'spec: {template: {spec: {hostNetwork: true}}}'}]")}, nil, []string{
		"deploy/f.yaml:4: it changes more than names and namespaces: want `flux build kustomization web --path deploy/apps | listen_exporter check --manifests=-`",
	})
}

func TestAnApplicationOfArgoGivesItsNamespaceToWhatHasNone(t *testing.T) {
	const ports = "reserved:\n  - {team: shop, ports: 30000-30999, namespaces: [shop]}\n"
	application := func(source string) string {
		return "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: web}\nspec: {source: {" + source + "}, destination: {namespace: shop}}\n"
	}
	inOther := strings.Replace(deployment, "name: web", "name: web\n  namespace: other", 1)
	for name, test := range map[string]struct {
		files     files
		namespace string // in which port 30500 is found
	}{
		"plain files":                  {files{"argo.yaml": application("path: apps/web"), "apps/web/web.yaml": deployment}, ""},
		"one of several sources":       {files{"argo.yaml": strings.Replace(strings.Replace(application("path: apps/web"), "source: {", "sources: [{", 1), "}, dest", "}], dest", 1), "apps/web/web.yaml": deployment}, ""},
		"a namespace of its own":       {files{"argo.yaml": application("path: apps/web"), "apps/web/web.yaml": inOther}, "other"},
		"a directory below":            {files{"argo.yaml": application("path: apps"), "apps/web/web.yaml": deployment}, "default"},
		"a directory below, all of it": {files{"argo.yaml": application("path: apps, directory: {recurse: true}"), "apps/web/web.yaml": deployment}, ""},
		"a kustomization":              {files{"argo.yaml": application("path: apps/web"), "apps/web/web.yaml": deployment, "apps/web/kustomization.yaml": "namespace: other\nresources: [web.yaml]\n"}, "other"},
		"that has no namespace":        {files{"argo.yaml": application("path: apps/web"), "apps/web/web.yaml": deployment, "apps/web/kustomization.yaml": "resources: [web.yaml]\n"}, ""},
		"options of kustomize":         {files{"argo.yaml": application("path: apps/web, kustomize: {namespace: other}"), "apps/web/web.yaml": deployment}, "other"},
	} {
		findings, _, skipped := checkAll(t, Options{}, ports, test.files).lines()
		diff(t, name, nil, skipped)
		if test.namespace == "" {
			diff(t, name, nil, findings)
		} else if len(findings) != 1 || !strings.Contains(findings[0], "hostPort 30500 of Deployment "+test.namespace+"/web is reserved") {
			t.Errorf("%s: got %q, want it in %s", name, findings, test.namespace)
		}
	}
}

func TestWhatAKustomizationAboveGovernsIsNotJudged(t *testing.T) {
	const skip = "k/kustomization.yaml:1: it is above these files: want `kubectl kustomize k | listen_exporter check --manifests=-`"
	for name, test := range map[string]struct {
		files files
		path  string
		want  []string
	}{
		"a directory":              {files{"k/kustomization.yaml": "namespace: shop\nresources: [app/web.yaml]\n"}, "k/app", []string{skip}},
		"a file":                   {files{"k/kustomization.yaml": "namespace: shop\nresources: [app/web.yaml]\n"}, "k/app/web.yaml", []string{skip}},
		"with one of its own":      {files{"k/kustomization.yaml": "namespace: shop\nresources: [app]\n", "k/app/kustomization.yaml": "resources: [web.yaml]\n"}, "k/app", []string{skip}},
		"another directory":        {files{"k/kustomization.yaml": "namespace: shop\nresources: [apple]\n"}, "k/app", nil},
		"one that changes no port": {files{"k/kustomization.yaml": "resources: [app/web.yaml]\n"}, "k/app", nil},
		"another repository":       {files{"k/kustomization.yaml": "namespace: shop\nresources: [app/web.yaml]\n", "k/app/.git/HEAD": ""}, "k/app", nil},
	} {
		t.Chdir(t.TempDir())
		test.files["k/app/web.yaml"] = deployment
		test.files.write(t, ".")
		r, err := Check(Options{}, []string{test.path}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, skipped := r.lines()
		diff(t, name, test.want, skipped)
		if judged := r.Workloads == 1; judged != (test.want == nil) {
			t.Errorf("%s: judged %t", name, judged)
		}
	}
}

func TestWhatOneKustomizationMakesTwiceIsInOneCluster(t *testing.T) {
	shared := files{
		"base/kustomization.yaml": "resources: [web.yaml]\n", "base/web.yaml": deployment,
		"a/kustomization.yaml": "namePrefix: a-\nresources: [../base]\n", "b/kustomization.yaml": "namePrefix: b-\nresources: [../base]\n",
	}
	expect(t, "", shared, nil, nil)
	shared["all/kustomization.yaml"] = "resources: [../a, ../b]\n"
	expect(t, "", shared, []string{
		"deploy/base/web.yaml:11:45: hostPort 30500/TCP of Deployment default/b-web is already taken by Deployment default/a-web at deploy/base/web.yaml:11: want another port",
	}, nil)
}
