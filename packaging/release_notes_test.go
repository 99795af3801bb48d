//go:build linux

package packaging

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	digest     = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	etcdDigest = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
)

// indexOf returns the index of an OCI archive with one image.
func indexOf(digest string) string { return `{"manifests":[{"digest":"` + digest + `"}]}` }

// releaseNotes makes the text of a release of version 1.2.3, whose images have these indexes and will be in this place.
func releaseNotes(t *testing.T, index, etcdIndex, place string) (string, error) {
	t.Helper()
	for _, program := range []string{"awk", "bash", "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program)
		}
	}
	dir, out := t.TempDir(), t.TempDir()
	const changelog = "# Changelog\n\n## Unreleased\n\n- [FEATURE] Later.\n\n## 1.2.3 / 2026-01-02\n\n- [FEATURE] New.\n- [BUGFIX] Mended.\n\n" +
		"## 1.2 / 2026-01-01\n\n- [BUGFIX] Old.\n"
	for name, text := range map[string]string{
		"CHANGELOG.md": changelog, "go.mod": tools.Read(t, "../go.mod"), "packaging/release-notes": tools.Read(t, "release-notes"),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, index := range map[string]string{"listen_exporter-1.2.3.oci.tar": index, "listen_exporter-etcd-1.2.3.oci.tar": etcdIndex} {
		var text bytes.Buffer
		archive := tar.NewWriter(&text)
		if err := archive.WriteHeader(&tar.Header{Name: "./index.json", Mode: 0o644, Size: int64(len(index))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(index)); err != nil {
			t.Fatal(err)
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, name), text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, "packaging/release-notes"))
	cmd.Env = append(os.Environ(), "VERSION=1.2.3", "OUT="+out, "IMAGE="+place)
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func TestThePageOfAReleaseBeginsWithItsSectionOfTheChangelog(t *testing.T) {
	text, err := releaseNotes(t, indexOf(digest), indexOf(etcdDigest), "")
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	section, _, _ := strings.Cut(text, "## Install")
	if diff := cmp.Diff("- [FEATURE] New.\n- [BUGFIX] Mended.", strings.TrimSpace(section)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestThePageOfAReleaseNamesWhatWasPublished: the files, the image by its digest, and the module, below the project's address.
func TestThePageOfAReleaseNamesWhatWasPublished(t *testing.T) {
	module, _ := readModule(t)
	for _, test := range []struct{ name, place, image string }{
		{"of a dry run", "", "IMAGE"},
		{"of the workflow", "registry.example.org/you/listen_exporter", "registry.example.org/you/listen_exporter"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, err := releaseNotes(t, indexOf(digest), indexOf(etcdDigest), test.place)
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			for _, want := range []string{
				"https://" + module + "/releases/download/v1.2.3/listen-exporter_1.2.3_amd64.deb",
				"https://" + module + "/releases/download/v1.2.3/listen-exporter-1.2.3-1.x86_64.rpm",
				"https://" + module + "/releases/download/v1.2.3/listen-exporter_1.2.3_x86_64.apk",
				" " + test.image + "@" + digest + "\n",
				" " + test.image + "@" + etcdDigest + "\n",
				"go install " + module + "@v1.2.3\n",
				"sha256sum --check --ignore-missing SHA256SUMS\n",
				"without a password",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
		})
	}
}

func TestThePageOfAReleaseIsNotMadeWithoutAnImage(t *testing.T) {
	const none = `{"manifests":[]}`
	for name, indexes := range map[string][2]string{
		"listen_exporter-1.2.3.oci.tar": {none, indexOf(etcdDigest)}, "listen_exporter-etcd-1.2.3.oci.tar": {indexOf(digest), none},
	} {
		text, err := releaseNotes(t, indexes[0], indexes[1], "")
		if err == nil || !strings.Contains(text, name+" names no image") {
			t.Errorf("%v: %s", err, text)
		}
	}
}

// TestNoTextButThatOfAReleaseNamesWhatIsPublished: an address is written down by whoever has published there.
func TestNoTextButThatOfAReleaseNamesWhatIsPublished(t *testing.T) {
	module, _ := readModule(t)
	dir := t.TempDir()
	copyRepository(t, dir)
	for name, text := range readAll(t, dir) {
		if strings.HasPrefix(name, "packaging/release") || name == ".github/workflows/release.yml" {
			continue
		}
		for _, address := range []string{"/releases/" + "download/", module + "@"} {
			if strings.Contains(text, address) && !strings.Contains(text, "\x00") { // a program that somebody has built here
				t.Errorf("%s names %s", name, address)
			}
		}
	}
}
