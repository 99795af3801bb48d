package examples

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What follows is as much of the Kubernetes API as the examples use. A field that is not here (as one that is misspelled,
// or privileged, which the exporter does not need) is an error.

type metadata struct {
	Name, Namespace string
	Labels          map[string]string
}

type namespaceManifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   metadata
}

type serviceAccountManifest struct {
	APIVersion                   string `yaml:"apiVersion"`
	Kind                         string
	Metadata                     metadata
	AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
}

type priorityClassManifest struct {
	APIVersion         string `yaml:"apiVersion"`
	Kind               string
	Metadata           metadata
	Value              int
	Description        string
	PreemptionPolicy   string `yaml:"preemptionPolicy"`
	GlobalDefaultValue bool   `yaml:"globalDefault"`
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type daemonSetManifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   metadata
	Spec       struct {
		Selector       selector
		UpdateStrategy struct {
			Type          string
			RollingUpdate struct {
				MaxUnavailable string `yaml:"maxUnavailable"`
			} `yaml:"rollingUpdate"`
		} `yaml:"updateStrategy"`
		Template struct {
			Metadata metadata
			Spec     podSpec
		}
	}
}

type podSpec struct {
	ServiceAccountName           string            `yaml:"serviceAccountName"`
	AutomountServiceAccountToken *bool             `yaml:"automountServiceAccountToken"`
	EnableServiceLinks           *bool             `yaml:"enableServiceLinks"`
	PriorityClassName            string            `yaml:"priorityClassName"`
	HostNetwork                  bool              `yaml:"hostNetwork"`
	HostPID                      bool              `yaml:"hostPID"`
	DNSPolicy                    string            `yaml:"dnsPolicy"`
	NodeSelector                 map[string]string `yaml:"nodeSelector"`
	Tolerations                  []map[string]string
	SecurityContext              podSecurity `yaml:"securityContext"`
	Containers                   []container
	Volumes                      []volume
}

type volume struct {
	Name     string
	HostPath struct{ Path, Type string } `yaml:"hostPath"`
	// A subPath of a mount would not follow a change of it, and is no field here.
	ConfigMap struct {
		Name     string
		Optional bool
	} `yaml:"configMap"`
}

type podSecurity struct {
	RunAsNonRoot   bool              `yaml:"runAsNonRoot"`
	RunAsUser      int               `yaml:"runAsUser"`
	RunAsGroup     int               `yaml:"runAsGroup"`
	SeccompProfile map[string]string `yaml:"seccompProfile"`
}

type containerSecurity struct {
	AllowPrivilegeEscalation *bool               `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool                `yaml:"readOnlyRootFilesystem"`
	Capabilities             map[string][]string `yaml:"capabilities"`
	AppArmorProfile          map[string]string   `yaml:"appArmorProfile"`
}

type container struct {
	Name, Image     string
	ImagePullPolicy string `yaml:"imagePullPolicy"`
	Args            []string
	Env             []struct {
		Name, Value string
		ValueFrom   struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
		} `yaml:"valueFrom"`
	}
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
		Protocol      string
	}
	SecurityContext containerSecurity `yaml:"securityContext"`
	VolumeMounts    []volumeMount     `yaml:"volumeMounts"`
	LivenessProbe   probe             `yaml:"livenessProbe"`
	ReadinessProbe  probe             `yaml:"readinessProbe"`
	Resources       struct{ Requests, Limits map[string]string }
}

type volumeMount struct {
	Name      string
	MountPath string `yaml:"mountPath"`
	ReadOnly  bool   `yaml:"readOnly"`
}

type probe struct {
	HTTPGet        struct{ Path, Port string } `yaml:"httpGet"`
	PeriodSeconds  int                         `yaml:"periodSeconds"`
	TimeoutSeconds int                         `yaml:"timeoutSeconds"`
}

type configMapManifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   metadata
	Data       map[string]string
}

type podMonitorManifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   metadata
	Spec       struct {
		JobLabel            string `yaml:"jobLabel"`
		Selector            selector
		PodMetricsEndpoints []struct {
			Port, Path, Interval string
			Relabelings          []struct {
				Action, Regex, Replacement string
				SourceLabels               []string `yaml:"sourceLabels"`
				TargetLabel                string   `yaml:"targetLabel"`
			}
		} `yaml:"podMetricsEndpoints"`
	}
}

const (
	baseFile       = "kubernetes/base/daemonset.yaml"
	podMonitorFile = "kubernetes/prometheus-operator/podmonitor.yaml"
	// registryFile is what the ConfigMap of two overlays is made of.
	registryFile = "kubernetes/overlays/registry/ports.yml"
)

// manifests are the objects of an overlay, or those of baseFile with podMonitorFile.
type manifests struct {
	namespace      namespaceManifest
	serviceAccount serviceAccountManifest
	priorityClass  priorityClassManifest
	daemonSet      daemonSetManifest
	podMonitor     podMonitorManifest
	configMap      configMapManifest
}

// readManifests decodes baseFile and podMonitorFile.
func readManifests(t *testing.T) *manifests {
	t.Helper()
	m := &manifests{}
	m.decode(t, baseFile, read(t, baseFile))
	m.decode(t, podMonitorFile, read(t, podMonitorFile))
	for what, got := range map[string]string{
		"Namespace": m.namespace.Kind, "ServiceAccount": m.serviceAccount.Kind, "PriorityClass": m.priorityClass.Kind,
		"DaemonSet": m.daemonSet.Kind, "PodMonitor": m.podMonitor.Kind, "": m.configMap.Kind,
	} {
		if got != what {
			t.Fatalf("got the kind %q, want %q", got, what)
		}
	}
	return m
}

// buildOverlay decodes what kubectl makes of an overlay.
func buildOverlay(t *testing.T, name string) *manifests {
	t.Helper()
	built, err := exec.Command(tool(t, "kubectl"), "kustomize", "kubernetes/overlays/"+name).Output()
	if err != nil {
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		t.Fatalf("overlay %s: %v", name, err)
	}
	m := &manifests{}
	m.decode(t, name, string(built))
	return m
}

// decode adds the objects of a file. It fails on any field or kind that it does not know.
func (m *manifests) decode(t *testing.T, file, text string) {
	t.Helper()
	into := map[string]any{
		"v1 Namespace":                        &m.namespace,
		"v1 ServiceAccount":                   &m.serviceAccount,
		"scheduling.k8s.io/v1 PriorityClass":  &m.priorityClass,
		"apps/v1 DaemonSet":                   &m.daemonSet,
		"monitoring.coreos.com/v1 PodMonitor": &m.podMonitor,
		"v1 ConfigMap":                        &m.configMap,
	}
	for documents := yaml.NewDecoder(strings.NewReader(text)); ; {
		var document yaml.Node
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var head struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
		}
		if err := document.Decode(&head); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		kind := head.APIVersion + " " + head.Kind
		if into[kind] == nil {
			t.Fatalf("%s: %q is there twice, or not expected", file, kind)
		}
		object, err := yaml.Marshal(&document)
		if err != nil {
			t.Fatal(err)
		}
		strict := yaml.NewDecoder(bytes.NewReader(object))
		strict.KnownFields(true)
		if err := strict.Decode(into[kind]); err != nil {
			t.Fatalf("%s: %s: %v", file, kind, err)
		}
		delete(into, kind)
	}
}
