package kubernetes

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	admission "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	strictyaml "sigs.k8s.io/yaml"
)

func TestExamples(t *testing.T) {
	c := start(t)
	// In this order: the policies are in force for all that comes after them, and overlays creates the namespace for operator.
	t.Run("policies", c.testPolicies)
	c.awaitPolicies(t)
	t.Run("overlays", c.testOverlays)
	t.Run("operator", c.testOperator)
	t.Run("port ranges", c.testPortRanges)
	t.Run("unreadable ranges", c.testUnreadableRanges)
	t.Run("objects from before the range", c.testOlderObjects)
	t.Run("controllers", c.testControllers)
	t.Run("privileged ports", c.testPrivilegedPorts)
	t.Run("cost", c.testCost)
	t.Run("agreement of check", c.testAgreement)
	t.Run("warnings", c.testWarnings)
}

// build has kubectl build a directory of the examples, and returns the file with the result.
func (c *cluster) build(t *testing.T, dir string) (file, text string) {
	t.Helper()
	file = filepath.Join(c.dir, filepath.Base(dir)+".yaml")
	text = c.must(t, "", "kustomize", filepath.Join(examples, dir))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, text
}

// decode strictly decodes the first object of a kind in a manifest. A field that the type does not have is an error.
func decode(manifest, kind string, object any) error {
	for documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return errors.New("there is no " + kind)
		}
		if err != nil {
			return err
		}
		if bytes.Contains(document, []byte("\nkind: "+kind+"\n")) {
			return strictyaml.UnmarshalStrict(document, object)
		}
	}
}

func encode(t *testing.T, object any) string {
	t.Helper()
	text, err := strictyaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func apply(arguments ...string) []string {
	return append([]string{"apply", "--warnings-as-errors"}, arguments...)
}

func (c *cluster) testPolicies(t *testing.T) {
	file, text := c.build(t, "policies")
	c.run(t,
		allow("a server-side dry run takes each policy", apply("--dry-run=server", "--filename", file)...),
		allow("they are created", apply("--filename", file)...),
	)
	t.Run("their expressions have no type warnings", func(t *testing.T) {
		if warnings := c.typeWarnings(t, text); len(warnings) > 0 {
			t.Error(warnings)
		}
	})

	t.Run("the roles admin and edit may only read a Namespace", func(t *testing.T) {
		output := c.must(t, "", "get", "clusterroles", "system:aggregate-to-admin", "system:aggregate-to-edit",
			"system:aggregate-to-view", "--output", `jsonpath={range .items[*].rules[*]}{.resources} {.verbs}{"\n"}{end}`)
		found := 0
		for line := range strings.Lines(output) {
			resources, verbs, _ := strings.Cut(strings.TrimSpace(line), " ")
			if strings.Contains(resources, `"namespaces"`) {
				found++
				if verbs != `["get","list","watch"]` {
					t.Errorf("got %s", line)
				}
			}
		}
		if found == 0 {
			t.Errorf("no role has namespaces:\n%s", output)
		}
	})
}

// typeWarnings checks the CEL expressions of the policies in a manifest against the server's schemas, as the controller does
// that fills in status.typeChecking.
func (c *cluster) typeWarnings(t *testing.T, manifest string) (warnings []string) {
	t.Helper()
	client, err := discovery.NewDiscoveryClientForConfig(&rest.Config{
		Host: c.server, BearerToken: c.token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // it signs its own certificate
	})
	if err != nil {
		t.Fatal(err)
	}
	checker := validating.TypeChecker{
		SchemaResolver: &resolver.ClientDiscoveryResolver{Discovery: client},
		RestMapper:     restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client)),
	}
	policies := 0
	for document := range strings.SplitSeq(manifest, "\n---\n") {
		var policy admission.ValidatingAdmissionPolicy
		if decode("\n"+document, "ValidatingAdmissionPolicy", &policy) != nil {
			continue // another kind
		}
		policies++
		for _, warning := range checker.Check(&policy) {
			warnings = append(warnings, policy.Name+": "+warning.FieldRef+": "+warning.Warning)
		}
	}
	if policies != 2 {
		t.Fatalf("%d policies, want 2", policies)
	}
	return warnings
}

// awaitPolicies waits until both policies are in force, some time after they were created. It uses a namespace that nothing
// else uses.
func (c *cluster) awaitPolicies(t *testing.T) {
	t.Helper()
	c.namespace(t, "await", "listen-exporter/port-range: '30000'")
	for _, object := range []string{
		pod("await", "range", containers(container("c", "containerPort: 80, hostPort: 8080"))),
		pod("default", "privileged", containers(container("c", "containerPort: 80, hostPort: 80"))),
	} {
		if err := await(func() error {
			if _, err := c.kubectl(object, "create", "--dry-run=server", "--filename", "-"); err != nil {
				return nil
			}
			return errors.New("the policies deny nothing")
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) testOverlays(t *testing.T) {
	c.must(t, "{apiVersion: v1, kind: Namespace, metadata: {name: lower, labels: {pod-security.kubernetes.io/enforce: baseline}}}",
		"create", "--filename", "-")
	for _, overlay := range []string{"plain", "registry", "process-names", "registry-process-names"} {
		t.Run(overlay, func(t *testing.T) {
			file, text := c.build(t, filepath.Join("overlays", overlay))
			var namespace core.Namespace
			var daemonSet apps.DaemonSet
			if err := errors.Join(decode(text, "Namespace", &namespace), decode(text, "DaemonSet", &daemonSet)); err != nil {
				t.Fatal(err)
			}
			// PodSecurity denies pods, and only warns of what makes them. So the pod is created that the DaemonSet controller would.
			podIn := func(namespace string) string {
				p := core.Pod{
					TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
					ObjectMeta: *daemonSet.Spec.Template.ObjectMeta.DeepCopy(), Spec: *daemonSet.Spec.Template.Spec.DeepCopy(),
				}
				p.Name, p.Namespace = overlay, namespace
				if namespace == "lower" {
					p.Spec.PriorityClassName = ""
				}
				return encode(t, p)
			}
			namespaceFile := filepath.Join(t.TempDir(), "namespace.yaml")
			if err := os.WriteFile(namespaceFile, []byte(encode(t, namespace)), 0o600); err != nil {
				t.Fatal(err)
			}
			c.run(t,
				allow("its namespace claims privileged and is created", apply("--filename", namespaceFile)...),
				allow("a server-side dry run takes each object", apply("--dry-run=server", "--filename", file)...),
				allow("they are created", apply("--filename", file)...),
				admit("the namespace admits the pod", podIn("listen-exporter")),
			)
			for _, reason := range []string{
				`violates PodSecurity "baseline:latest": `, "host namespaces (hostNetwork=true, hostPID=true)", "hostPath volumes",
			} {
				c.run(t, deny("a namespace of the next lower level refuses it: "+reason, reason, podIn("lower")))
			}
			t.Run("a second time nothing changes", func(t *testing.T) {
				for line := range strings.Lines(c.must(t, "", "apply", "--filename", file)) {
					if !strings.HasSuffix(line, " unchanged\n") {
						t.Error(line)
					}
				}
			})
		})
	}
	// As somebody does who tries one out and does not like it.
	c.run(t, allow("from the last overlay back to the first", apply("--kustomize", filepath.Join(examples, "overlays/plain"))...))
}

// createOperator creates custom resources of the Prometheus Operator, and waits until they are served.
func (c *cluster) createOperator(t *testing.T, names ...string) {
	t.Helper()
	for _, crd := range names {
		c.must(t, "", "create", "--filename", filepath.Join(tools, "monitoring.coreos.com_"+crd+".yaml"))
		if err := await(func() error {
			_, err := c.kubectl("", "get", crd+".monitoring.coreos.com", "--all-namespaces")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) testOperator(t *testing.T) {
	c.createOperator(t, "podmonitors", "prometheusrules")
	file, text := c.build(t, "prometheus-operator")
	t.Run("both objects decode strictly into the types of the operator", func(t *testing.T) {
		var monitor monitoring.PodMonitor
		var rule monitoring.PrometheusRule
		if err := errors.Join(decode(text, "PodMonitor", &monitor), decode(text, "PrometheusRule", &rule)); err != nil {
			t.Error(err)
		}
		if len(monitor.Spec.PodMetricsEndpoints) == 0 || len(rule.Spec.Groups) == 0 {
			t.Errorf("got %+v and %+v", monitor.Spec, rule.Spec)
		}
	})
	c.run(t,
		allow("a server-side dry run takes both", apply("--dry-run=server", "--filename", file)...),
		allow("they are created", apply("--filename", file)...),
	)
}
