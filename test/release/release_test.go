//go:build linux

// Package release looks at the files of a release as whoever downloads them would, and makes them again.
//
// make release-dry-run builds the release and names it.
package release

import (
	"bufio"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	releaseVariable = "LISTEN_EXPORTER_RELEASE" // the directory with the files
	versionVariable = "LISTEN_EXPORTER_VERSION"
	minute          = time.Minute
)

// architecture is how one architecture is called by those who download for it.
type architecture struct {
	goarch, archive, deb, rpm, apk string

	machine elf.Machine
	form    form
}

// form is how the names of a form of the program end.
type form string

const (
	plain form = ""
	etcd  form = "-etcd" // it can keep leases in etcd as well
)

var architectures = []architecture{
	{"amd64", "amd64", "amd64", "x86_64", "x86_64", elf.EM_X86_64, plain},
	{"arm64", "arm64", "arm64", "aarch64", "aarch64", elf.EM_AARCH64, plain},
	{"arm", "armv6", "armhf", "armv6hl", "armhf", elf.EM_ARM, plain},
	{"386", "386", "i386", "i386", "x86", elf.EM_386, plain},
	{"ppc64le", "ppc64le", "ppc64el", "ppc64le", "ppc64le", elf.EM_PPC64, plain},
	{"s390x", "s390x", "s390x", "s390x", "s390x", elf.EM_S390, plain},
	{"riscv64", "riscv64", "riscv64", "riscv64", "riscv64", elf.EM_RISCV, plain},
	{"amd64", "amd64", "amd64", "x86_64", "x86_64", elf.EM_X86_64, etcd},
	{"arm64", "arm64", "arm64", "aarch64", "aarch64", elf.EM_AARCH64, etcd},
}

// in returns those of some architectures in a form.
func (f form) in(all []architecture) []architecture {
	return slices.DeleteFunc(slices.Clone(all), func(a architecture) bool { return a.form != f })
}

// archiveName is the name of the archive for the architecture, without that of its format.
func (a architecture) archiveName(version string) string {
	return "listen_exporter" + string(a.form) + "-" + version + ".linux-" + a.archive
}

// files are those of a release that are for the architecture.
func (a architecture) files(version string) []string {
	return []string{
		a.archiveName(version) + ".tar.gz",
		a.archiveName(version) + ".cdx.json",
		"listen-exporter" + string(a.form) + "_" + version + "_" + a.deb + ".deb",
		"listen-exporter" + string(a.form) + "-" + version + "-1." + a.rpm + ".rpm",
		"listen-exporter" + string(a.form) + "_" + version + "_" + a.apk + ".apk",
	}
}

// image is the file with the image for all architectures of a form.
func (f form) image(version string) string {
	return "listen_exporter" + string(f) + "-" + version + ".oci.tar"
}

// release returns the directory with the files, and their version.
func release(t *testing.T) (dir, version string) {
	t.Helper()
	dir, version = os.Getenv(releaseVariable), os.Getenv(versionVariable)
	if dir == "" || version == "" {
		t.Skip("make release-dry-run runs it")
	}
	return dir, version
}

func TestAReleaseHasTheseFilesAndNoOthers(t *testing.T) {
	dir, version := release(t)
	want := []string{"SHA256SUMS", plain.image(version), etcd.image(version)}
	for _, a := range architectures {
		want = append(want, a.files(version)...)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// sums returns what SHA256SUMS says, by file.
func sums(t *testing.T, file string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for scanner := bufio.NewScanner(strings.NewReader(tools.Read(t, file))); scanner.Scan(); {
		sum, name, ok := strings.Cut(scanner.Text(), "  ")
		if !ok {
			t.Errorf("%s has the line %q", file, scanner.Text())
		}
		found[name] = sum
	}
	return found
}

func TestTheChecksumsFit(t *testing.T) {
	dir, _ := release(t)
	got := make(map[string]string)
	files, _ := filepath.Glob(dir + "/*")
	for _, file := range files {
		if filepath.Base(file) != "SHA256SUMS" {
			sum := sha256.Sum256([]byte(tools.Read(t, file)))
			got[filepath.Base(file)] = hex.EncodeToString(sum[:])
		}
	}
	if diff := cmp.Diff(got, sums(t, filepath.Join(dir, "SHA256SUMS"))); diff != "" {
		t.Errorf("-files +SHA256SUMS:\n%s", diff)
	}
}

// unpack unpacks an architecture's archive, and returns its only directory.
func unpack(t *testing.T, a architecture) string {
	t.Helper()
	dir, version := release(t)
	host.NeedTools(t, "tar", "gzip")
	name, to := a.archiveName(version), t.TempDir()
	if _, err := host.Output(minute, "tar", "-C", to, "-xzf", filepath.Join(dir, name+".tar.gz")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Fatalf("%s.tar.gz holds %v, want only %s", name, entries, name)
	}
	return filepath.Join(to, name)
}

func TestEachArchiveUnpacksAndRuns(t *testing.T) {
	_, version := release(t)
	for _, a := range architectures {
		t.Run(a.goarch+string(a.form), func(t *testing.T) {
			dir := unpack(t, a)
			for _, name := range []string{
				"LICENSE", "THIRD_PARTY_LICENSES", "README.md", "CHANGELOG.md", "SECURITY.md", "listen_exporter.1.gz",
				"alerts/listen_exporter.rules.yml", "examples/registry/ports.yml", "examples/systemd/listen_exporter.service",
			} {
				if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o644 {
					t.Errorf("%s: %v, %v", name, info, err)
				}
			}
			program := filepath.Join(dir, "listen_exporter")
			file, err := elf.Open(program)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if file.Machine != a.machine {
				t.Errorf("the program is for %v, want %v", file.Machine, a.machine)
			}
			if libraries, err := file.ImportedLibraries(); len(libraries) > 0 {
				t.Errorf("the program needs %q (%v), want a static one", libraries, err)
			}
			if a.goarch != runtime.GOARCH {
				return
			}
			output, err := host.Output(minute, program, "--version")
			if first := fmt.Sprintf("listen_exporter, version %s (", version); err != nil || !strings.HasPrefix(output, first) {
				t.Errorf("--version prints %q, %v: want %q", output, err, first)
			}
			// Only one of them looks for etcd.
			output, err = host.Output(minute, program, "--web.listen-address=127.0.0.1:0", "--registry.file="+filepath.Join(dir, "examples/registry/ports.yml"),
				"--lease.enable", "--lease.listen-address=unix:"+filepath.Join(dir, "sock"), "--lease.store=etcd", "--lease.etcd-endpoint=nowhere")
			if want := map[form]string{plain: "listen-exporter-etcd", etcd: "the endpoint"}[a.form]; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("with --lease.store=etcd: %q, %v, want %s in it", output, err, want)
			}
		})
	}
}
