//go:build linux

// Package containers runs the program in containers that have the shape of the overlays of examples/kubernetes, and compares
// what it exports with what the host shows.
//
// User, capabilities, mounts and arguments of a container come from what kubectl makes of an overlay: nothing of them is
// repeated here. An overlay with a registry also gets the arguments that base/daemonset.yaml offers in comments, and its
// registry changes as a ConfigMap does. The image is that of the Dockerfile.
package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

const (
	nodeIP   = "192.0.2.10" // RFC 5737, TEST-NET-1
	nodeName = "node-1"
	// minute is more than any command needs that does not take long by itself.
	minute = time.Minute
)

// What a node needs to know: files and directories that the test makes outside.
const (
	manifestVariable = "LISTEN_EXPORTER_CONTAINERS_MANIFEST"
	argumentVariable = "LISTEN_EXPORTER_CONTAINERS_ARGUMENTS" // more of the program, separated by spaces
	scratchVariable  = "LISTEN_EXPORTER_CONTAINERS_SCRATCH"
)

func TestMain(m *testing.M) {
	host.Main(m, map[string]func() error{"node": beNode, "service": beService})
}

func TestEachOverlay(t *testing.T) {
	program := host.Program(t, "test-containers")
	host.NeedRoot(t)
	host.NeedTools(t, "buildah", "ip", "kubectl", "podman", "runc", "ss")
	scratch := host.OpenDir(t)
	buildImage(t, program, scratch)
	more, err := offered()
	if err != nil {
		t.Fatal(err)
	}
	overlays, err := filepath.Glob(filepath.Join(host.Root, "examples/kubernetes/overlays/*/"))
	if err != nil || len(overlays) == 0 {
		t.Fatalf("no overlays: %v", err)
	}
	for _, overlay := range overlays {
		t.Run(filepath.Base(overlay), func(t *testing.T) {
			manifest, err := host.Output(minute, "kubectl", "kustomize", overlay)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "overlay.yaml")
			if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
				t.Fatal(err)
			}
			environment := []string{manifestVariable + "=" + file, scratchVariable + "=" + scratch}
			if strings.HasPrefix(filepath.Base(overlay), "registry") {
				environment = append(environment, argumentVariable+"="+strings.Join(more, " "))
			}
			host.Own(t, "node", 2*minute, true, environment...)
		})
	}
}

// buildImage builds the image of the Dockerfile, with the program, for the podman of a node.
func buildImage(t *testing.T, program, scratch string) {
	t.Helper()
	context := t.TempDir()
	binary := filepath.Join(context, ".build", "linux-"+runtime.GOARCH, "listen_exporter")
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		program: binary,
		filepath.Join(filepath.Dir(program), "THIRD_PARTY_LICENSES"): filepath.Join(filepath.Dir(binary), "THIRD_PARTY_LICENSES"),
		filepath.Join(host.Root, "LICENSE"):                          filepath.Join(context, "LICENSE"),
		filepath.Join(host.Root, "Dockerfile"):                       filepath.Join(context, "Dockerfile"),
	} {
		if err := host.Install(from, to); err != nil {
			t.Fatal(err)
		}
	}
	store := filepath.Join(scratch, "podman")
	if _, err := host.Output(2*minute, "buildah", "--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run"),
		"--storage-driver", "vfs", "bud", "--isolation", "chroot", "--quiet", "--build-arg", "ARCH="+runtime.GOARCH,
		"--tag", "localhost/listen_exporter", context); err != nil {
		t.Fatal(err)
	}
}

// beService listens on the sockets of its arguments, such as tcp/127.0.0.1:80, until it is killed.
func beService() error {
	for _, socket := range os.Args[1:] {
		proto, address, _ := strings.Cut(socket, "/")
		if _, err := netnstest.Listen(proto, address); err != nil {
			return err
		}
	}
	fmt.Println(host.Ready)
	return unix.Pause()
}
