//go:build linux

package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// The objects of the OCI image specification, as far as they are looked at.
type (
	descriptor struct {
		Digest   string
		Size     int
		Platform struct{ OS, Architecture, Variant string }

		Annotations map[string]string
	}
	index struct {
		Manifests []descriptor
		Config    descriptor
		Layers    []descriptor
	}
	config struct {
		Created, OS, Architecture string
		Config                    struct {
			User       string
			Entrypoint []string
			Labels     map[string]string
		}
	}
)

// blob reads a part of an OCI layout, whose digest must fit.
func blob(t *testing.T, layout string, d descriptor, into any) {
	t.Helper()
	text := tools.Read(t, filepath.Join(layout, "blobs", strings.Replace(d.Digest, ":", "/", 1)))
	if sum := sha256.Sum256([]byte(text)); "sha256:"+hex.EncodeToString(sum[:]) != d.Digest || len(text) != d.Size {
		t.Errorf("%s has %d bytes with the SHA-256 %x, want %d", d.Digest, len(text), sum, d.Size)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// images returns the layout of a release's image of a form, unpacked, and the images of which it is one.
func images(t *testing.T, dir, version string, f form) (layout string, name descriptor, all index) {
	t.Helper()
	host.NeedTools(t, "tar")
	layout = t.TempDir()
	if _, err := host.Output(minute, "tar", "-C", layout, "-xf", filepath.Join(dir, f.image(version))); err != nil {
		t.Fatal(err)
	}
	var top index
	if err := json.Unmarshal([]byte(tools.Read(t, filepath.Join(layout, "index.json"))), &top); err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 1 {
		t.Fatalf("the layout has %d images, want one for all architectures", len(top.Manifests))
	}
	blob(t, layout, top.Manifests[0], &all)
	return layout, top.Manifests[0], all
}

// digests returns the digest of the image of a form for each platform.
func digests(t *testing.T, dir, version string, f form) map[string]string {
	t.Helper()
	_, _, all := images(t, dir, version, f)
	found := make(map[string]string)
	for _, d := range all.Manifests {
		found[d.Platform.Architecture+d.Platform.Variant] = d.Digest
	}
	return found
}

func TestTheImageIsForAllArchitectures(t *testing.T) {
	for _, f := range []form{plain, etcd} {
		t.Run(f.image("VERSION"), func(t *testing.T) { checkImage(t, f) })
	}
}

func checkImage(t *testing.T, f form) {
	t.Helper()
	dir, version := release(t)
	layout, name, all := images(t, dir, version, f)
	if got, want := name.Annotations["org.opencontainers.image.ref.name"], "listen_exporter:"+version+string(f); got != want {
		t.Errorf("it is called %q, want %q", got, want)
	}

	var want, got []string
	for _, a := range f.in(architectures) {
		want = append(want, strings.TrimSuffix(a.goarch+" "+strings.TrimPrefix(a.archive, a.goarch), " "))
	}
	for _, d := range all.Manifests {
		got = append(got, strings.TrimSpace(d.Platform.Architecture+" "+d.Platform.Variant))
		t.Run(d.Platform.Architecture, func(t *testing.T) {
			var manifest index
			blob(t, layout, d, &manifest)
			var c config
			blob(t, layout, manifest.Config, &c)
			if c.OS != "linux" || c.Architecture != d.Platform.Architecture || c.Config.User != "65534:65534" {
				t.Errorf("the image is for %s/%s and user %s", c.OS, c.Architecture, c.Config.User)
			}
			if got := c.Config.Labels["org.opencontainers.image.version"]; got != version {
				t.Errorf("its version is %q, want %q", got, version)
			}
			var files []string
			for _, layer := range manifest.Layers {
				blob(t, layout, layer, nil)
				listed, err := host.Output(minute, "tar", "-tzf", filepath.Join(layout, "blobs", strings.Replace(layer.Digest, ":", "/", 1)))
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, strings.Fields(listed)...)
			}
			slices.Sort(files)
			if diff := cmp.Diff([]string{"LICENSE", "THIRD_PARTY_LICENSES", "bin/", "bin/listen_exporter"}, files); diff != "" {
				t.Errorf("its files (-want +got):\n%s", diff)
			}
		})
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("architectures (-want +got):\n%s", diff)
	}
}

func TestTheImageOfThisArchitectureLoadsAndRuns(t *testing.T) {
	dir, version := release(t)
	host.NeedRoot(t)
	host.NeedTools(t, "podman", "runc")
	run, err := os.MkdirTemp("/run", "release") // podman refuses a path of more than 50 characters
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(run)
	podman := func(arguments ...string) (string, error) {
		return host.Output(minute, "podman", append([]string{
			"--root", filepath.Join(run, "root"), "--runroot", filepath.Join(run, "run"), "--storage-driver", "vfs", "--runtime", "runc",
			"--cgroup-manager", "cgroupfs", "--events-backend", "none",
		}, arguments...)...)
	}
	for _, f := range []form{plain, etcd} {
		if _, err := podman("load", "--input", filepath.Join(dir, f.image(version))); err != nil {
			t.Fatal(err)
		}
		output, err := podman("run", "--rm", "--network", "host", "--read-only", "--cap-drop", "ALL", "--ulimit", "nofile=4096:4096",
			"--ulimit", "nproc=4096:4096", "localhost/listen_exporter:"+version+string(f), "--version")
		if want := "listen_exporter, version " + version + " ("; err != nil || !strings.HasPrefix(output, want) {
			t.Errorf("--version of %s prints %q, %v: want %q", f.image(version), output, err, want)
		}
	}
}
