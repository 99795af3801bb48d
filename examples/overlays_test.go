package examples

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withoutPodMonitor returns what an overlay without changes is built of.
func withoutPodMonitor(t *testing.T) *manifests {
	t.Helper()
	m := readManifests(t)
	m.podMonitor = podMonitorManifest{}
	return m
}

func compareManifests(t *testing.T, want, got *manifests) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(manifests{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestThePlainOverlayIsTheBase(t *testing.T) {
	compareManifests(t, withoutPodMonitor(t), buildOverlay(t, "plain"))
}

// checkProcessNames compares the rights of an overlay with those that process names take, and gives it those of the base.
func checkProcessNames(t *testing.T, m *manifests) {
	t.Helper()
	no := false
	pod, base := &m.daemonSet.Spec.Template.Spec, readManifests(t).daemonSet.Spec.Template.Spec
	// A user other than root would have the capabilities, but none of them effective.
	if diff := cmp.Diff(podSecurity{SeccompProfile: map[string]string{"type": "RuntimeDefault"}}, pod.SecurityContext); diff != "" {
		t.Errorf("the pod's securityContext: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(containerSecurity{
		AllowPrivilegeEscalation: &no,
		ReadOnlyRootFilesystem:   true,
		Capabilities:             map[string][]string{"drop": {"ALL"}, "add": {"SYS_PTRACE", "DAC_READ_SEARCH"}},
		AppArmorProfile:          map[string]string{"type": "Unconfined"},
	}, pod.Containers[0].SecurityContext); diff != "" {
		t.Errorf("the container's securityContext: -want +got:\n%s", diff)
	}
	pod.SecurityContext = base.SecurityContext
	pod.Containers[0].SecurityContext = base.Containers[0].SecurityContext
}

func TestTheOverlayForProcessNamesDiffersFromTheBaseInItsRightsAlone(t *testing.T) {
	m := buildOverlay(t, "process-names")
	checkProcessNames(t, m)
	compareManifests(t, withoutPodMonitor(t), m)
}

// checkRegistry holds argument, mount, volume and ConfigMap of an overlay together, and takes the registry away from it.
func checkRegistry(t *testing.T, m *manifests) {
	t.Helper()
	if diff := cmp.Diff(map[string]string{filepath.Base(registryFile): read(t, registryFile)}, m.configMap.Data); diff != "" {
		t.Errorf("the ConfigMap is not %s: -want +got:\n%s", registryFile, diff)
	}
	if m.configMap.Metadata.Namespace != m.namespace.Metadata.Name {
		t.Errorf("the ConfigMap is in the namespace %q, want %q", m.configMap.Metadata.Namespace, m.namespace.Metadata.Name)
	}
	pod := m.daemonSet.Spec.Template.Spec
	c := &pod.Containers[0]
	file, found := strings.CutPrefix(c.Args[len(c.Args)-1], "--registry.file=")
	if !found || filepath.Base(file) != filepath.Base(registryFile) {
		t.Fatalf("the last argument is %s, want the --registry.file", c.Args[len(c.Args)-1])
	}
	c.Args = c.Args[:len(c.Args)-1]
	mounted := ""
	for _, mount := range c.VolumeMounts {
		for _, volume := range pod.Volumes {
			if mount.MountPath == filepath.Dir(file) && mount.Name == volume.Name {
				mounted = volume.ConfigMap.Name
			}
		}
	}
	// A name that follows the content would restart the pods.
	if mounted != "listen-exporter-registry" || m.configMap.Metadata.Name != mounted {
		t.Errorf("at %s the ConfigMap %q is mounted, and there is %q", filepath.Dir(file), mounted, m.configMap.Metadata.Name)
	}
	m.configMap = configMapManifest{}
}

func TestTheOverlayWithARegistryDiffersFromTheBaseInTheRegistryAlone(t *testing.T) {
	m := buildOverlay(t, "registry")
	checkRegistry(t, m)
	compareManifests(t, withoutPodMonitor(t), m)
}

func TestTheOverlayWithBothIsBoth(t *testing.T) {
	m := buildOverlay(t, "registry-process-names")
	checkRegistry(t, m)
	checkProcessNames(t, m)
	compareManifests(t, withoutPodMonitor(t), m)
}
