package kubernetes

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const chart = root + "/packaging/helm/listen-exporter"

// everything switches on all of the chart that is off by default, except the rights of process names.
var everything = []string{
	"--set=prometheusRule.enabled=true", "--set=dashboards.enabled=true", "--set=policies.portRange=true",
	"--set=policies.privilegedPorts=true", "--set=networkPolicy.enabled=true", "--set=netns=all",
	"--set=networkPolicy.from[0].namespaceSelector.matchLabels.team=monitoring", "--set=webConfig.existingSecret=web",
	"--set-file=registry.ports=" + examples + "/overlays/registry/ports.yml",
}

// helm runs a command of helm and returns all that it prints. An error has that too.
func (c *cluster) helm(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("helm")
	if err != nil {
		t.Skip("needs helm on the PATH; .ci/tools helm fetches it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, arguments...)
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "KUBECONFIG=/dev/null", "HELM_KUBEAPISERVER="+c.server, "HELM_KUBETOKEN="+c.token,
		"HELM_KUBEINSECURE_SKIP_TLS_VERIFY=true")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return output.String(), fmt.Errorf("helm %s: %w\n%s", strings.Join(arguments, " "), err, output.String())
	}
	return output.String(), nil
}

// TestChart has a cluster of its own: objects of the same names are in that of TestExamples.
func TestChart(t *testing.T) {
	c := start(t)
	c.createOperator(t, "podmonitors", "servicemonitors", "prometheusrules")
	for _, namespace := range []string{"listen-exporter", "lower"} {
		c.must(t, "", "create", "namespace", namespace)
	}
	c.must(t, "", "label", "namespace", "listen-exporter", "pod-security.kubernetes.io/enforce=privileged")
	c.must(t, "", "label", "namespace", "lower", "pod-security.kubernetes.io/enforce=baseline")

	t.Run("a namespace that would refuse the pods refuses the chart", func(t *testing.T) {
		output, err := c.helm(t, "install", "listen-exporter", chart, "--namespace=lower")
		if err == nil {
			t.Fatal("it was installed")
		}
		const want = "kubectl label namespace lower --overwrite pod-security.kubernetes.io/enforce=privileged"
		if !strings.Contains(output, want) {
			t.Errorf("the error does not contain %q:\n%s", want, output)
		}
	})
	// One release changes from each shape to the next, as a user's does.
	for _, shape := range []struct {
		name, daemonSet string // daemonSet is a part of it that only this shape has
		arguments       []string
	}{
		{"nobody", `"runAsUser":65534`, nil},
		{"process-names", `"SYS_PTRACE"`, []string{"--set=shape=process-names"}},
		{"events", `"PERFMON"`, []string{"--set=shape=events", "--set=extraCapabilities={NET_ADMIN}"}},
		{"everything with a PodMonitor", `"--collector.netns=all"`, append([]string{"--set=monitor.kind=PodMonitor"}, everything...)},
		{"everything with a ServiceMonitor", `"SYS_PTRACE"`, append([]string{"--set=monitor.kind=ServiceMonitor", "--set=shape=process-names"}, everything...)},
		{"nobody again", `"runAsUser":65534`, nil},
	} {
		t.Run(shape.name, func(t *testing.T) {
			release := append([]string{"listen-exporter", chart, "--namespace=listen-exporter"}, shape.arguments...)
			text, err := c.helm(t, append([]string{"template"}, release...)...)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "chart.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c.run(t, allow("a strict server-side dry run takes each object", apply("--server-side", "--force-conflicts", "--dry-run=server", "--filename", file)...))
			// Without a value, upgrade keeps those of before.
			if _, err := c.helm(t, append([]string{"upgrade", "--install", "--reset-values"}, release...)...); err != nil {
				t.Fatal(err)
			}
			got := c.must(t, "", "get", "daemonset", "listen-exporter", "--namespace=listen-exporter", "--output=jsonpath={.spec.template.spec}")
			if !strings.Contains(got, shape.daemonSet) {
				t.Errorf("the DaemonSet has no %s:\n%s", shape.daemonSet, got)
			}
		})
	}
	t.Run("a changed registry is a new ConfigMap for the same pods", func(t *testing.T) {
		upgrade := func(registry string) (generation, text string) {
			if _, err := c.helm(t, "upgrade", "listen-exporter", chart, "--namespace=listen-exporter", "--set-file=registry.ports="+registry); err != nil {
				t.Fatal(err)
			}
			get := func(arguments ...string) string {
				return c.must(t, "", append([]string{"get", "--namespace=listen-exporter"}, arguments...)...)
			}
			return get("daemonset", "listen-exporter", "--output=jsonpath={.metadata.generation}"),
				get("configmap", "listen-exporter-registry", `--output=jsonpath={.data.ports\.yml}`)
		}
		before, _ := upgrade(examples + "/overlays/registry/ports.yml")
		after, text := upgrade(root + "/examples/registry/ports.yml")
		if want, err := os.ReadFile(root + "/examples/registry/ports.yml"); err != nil || strings.TrimSpace(text) != strings.TrimSpace(string(want)) {
			t.Errorf("the registry is not that of the file (%v):\n%s", err, text)
		}
		if before != after {
			t.Errorf("the DaemonSet's generation changed from %s to %s", before, after)
		}
	})
	t.Run("uninstalled, it leaves nothing", func(t *testing.T) {
		if _, err := c.helm(t, "uninstall", "listen-exporter", "--namespace=listen-exporter"); err != nil {
			t.Fatal(err)
		}
		const kinds = "daemonsets,configmaps,services,serviceaccounts,networkpolicies,podmonitors,servicemonitors,prometheusrules," +
			"priorityclasses,validatingadmissionpolicies,validatingadmissionpolicybindings"
		left := c.must(t, "", "get", kinds, "--namespace=listen-exporter", "--selector=app.kubernetes.io/name=listen-exporter", "--output=name")
		if left != "" {
			t.Errorf("left: %s", left)
		}
	})
}
