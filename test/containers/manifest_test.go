//go:build linux

package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// pod is what matters here of a pod's spec: not what is for the kubelet, nor probes and limits. The tests of examples list all
// keys that there may be.
type pod struct {
	HostNetwork, HostPID bool
	SecurityContext      struct {
		RunAsGroup, RunAsUser int
		SeccompProfile        struct{ Type string }
	}
	Volumes []struct {
		Name      string
		HostPath  struct{ Path string }
		ConfigMap struct{ Name string }
		EmptyDir  *struct{ SizeLimit string }
	}
	Containers []container
}

type container struct {
	Args []string
	Env  []struct {
		Name, Value string
		ValueFrom   struct{ FieldRef struct{ FieldPath string } }
	}
	SecurityContext struct {
		AllowPrivilegeEscalation *bool
		AppArmorProfile          struct{ Type string }
		Capabilities             struct{ Add, Drop []string }
		ReadOnlyRootFilesystem   bool
	}
	VolumeMounts []struct {
		MountPath, Name string
		ReadOnly        bool
	}
}

// readOverlay returns the pod of the DaemonSet that kubectl makes of an overlay, and the registry of its ConfigMap, if any.
func readOverlay(manifest string) (p pod, registry string, err error) {
	documents := yaml.NewDecoder(strings.NewReader(manifest))
	for {
		var document any
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return pod{}, "", err
		}
		var object struct {
			Kind string
			Data map[string]string
			Spec struct{ Template struct{ Spec pod } }
		}
		text, err := json.Marshal(document) // whose names have any case
		if err = errors.Join(err, json.Unmarshal(text, &object)); err != nil {
			return pod{}, "", err
		}
		switch object.Kind {
		case "ConfigMap":
			registry = object.Data["ports.yml"]
		case "DaemonSet":
			p = object.Spec.Template.Spec
		}
	}
	if len(p.Containers) != 1 || !p.HostNetwork || !p.HostPID || p.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
		err = fmt.Errorf("not the shape that is known here: %+v", p)
	}
	return p, registry, err
}

// offered returns the arguments in the comments of the base that an overlay with a registry may add.
func offered() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(host.Root, "examples/kubernetes/base/daemonset.yaml"))
	var arguments []string
	for _, found := range regexp.MustCompile(`(?m)^ +# - (--\S+)$`).FindAllSubmatch(text, -1) {
		if argument := string(found[1]); !strings.HasPrefix(argument, "--registry.file=") {
			arguments = append(arguments, argument)
		}
	}
	return arguments, err
}

// podmanArguments are those by which podman runs the pod as a kubelet would. A kubelet mounts no tmpfs on a read-only root, and
// makes a cgroup namespace. A ConfigMap is the directory of its name below configMaps, and an emptyDir below emptyDirs.
func (p *pod) podmanArguments(configMaps, emptyDirs string) []string {
	c := p.Containers[0]
	context := c.SecurityContext
	arguments := []string{
		"--network=host", "--pid=host", "--cgroupns=private",
		fmt.Sprintf("--user=%d:%d", p.SecurityContext.RunAsUser, p.SecurityContext.RunAsGroup),
	}
	add := func(format string, values ...any) { arguments = append(arguments, fmt.Sprintf(format, values...)) }
	variables := make([]string, 0, 2*len(c.Env))
	for _, e := range c.Env {
		switch e.ValueFrom.FieldRef.FieldPath {
		case "status.hostIP":
			e.Value = nodeIP
		case "spec.nodeName":
			e.Value = nodeName
		}
		add("--env=%s=%s", e.Name, e.Value)
		variables = append(variables, "$("+e.Name+")", e.Value)
	}
	paths := make(map[string]string)
	for _, v := range p.Volumes {
		paths[v.Name] = v.HostPath.Path
		if v.ConfigMap.Name != "" {
			paths[v.Name] = filepath.Join(configMaps, v.ConfigMap.Name)
		}
		if v.EmptyDir != nil {
			paths[v.Name] = filepath.Join(emptyDirs, v.Name)
		}
	}
	for _, m := range c.VolumeMounts {
		access := "rw"
		if m.ReadOnly {
			access = "ro"
		}
		add("--volume=%s:%s:%s,rbind,rprivate", paths[m.Name], m.MountPath, access)
	}
	for _, capability := range context.Capabilities.Drop {
		add("--cap-drop=%s", capability)
	}
	for _, capability := range context.Capabilities.Add {
		add("--cap-add=%s", capability)
	}
	if context.ReadOnlyRootFilesystem {
		add("--read-only")
		add("--read-only-tmpfs=false")
	}
	if escalation := context.AllowPrivilegeEscalation; escalation != nil && !*escalation {
		add("--security-opt=no-new-privileges")
	}
	if profile := context.AppArmorProfile.Type; profile != "" {
		add("--security-opt=apparmor=%s", strings.ToLower(profile))
	}
	add("localhost/listen_exporter")
	for _, argument := range c.Args {
		add("%s", strings.NewReplacer(variables...).Replace(argument))
	}
	return arguments
}
