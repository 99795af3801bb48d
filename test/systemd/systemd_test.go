// Package systemd installs the deb on a minimal Debian that runs a real systemd, uses the service as an administrator does, and
// removes it. It also compares the deb with the rpm.
//
// make test-systemd builds the packages and names their version. Debian comes from the mirror of the machine's own apt and is
// kept in .tools/systemd/SUITE.tar; remove a file to fetch it again.
package systemd

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

const (
	unit     = "listen_exporter.service"
	socket   = "listen_exporter.socket"
	registry = "/etc/listen_exporter/ports.yml"
	url      = "http://127.0.0.1:10190"
	// minute is more than any command needs that does not take long by itself.
	minute = time.Minute
)

const (
	// suitesVariable may name other suites of Debian.
	suitesVariable = "LISTEN_EXPORTER_SYSTEMD_SUITES"
	// What a machine needs to know: its system, its packages, and a directory for its files.
	systemVariable  = "LISTEN_EXPORTER_SYSTEMD_SYSTEM"
	debVariable     = "LISTEN_EXPORTER_SYSTEMD_DEB"
	scratchVariable = "LISTEN_EXPORTER_SYSTEMD_SCRATCH"
)

func TestMain(m *testing.M) { host.Main(m, map[string]func() error{"machine": beMachine}) }

func suites() []string { return strings.Fields(cmp.Or(os.Getenv(suitesVariable), "bookworm")) }

// TestFetch fetches what the tests below need. make fetch runs only this one, because it takes minutes.
func TestFetch(t *testing.T) {
	host.Program(t, "test-systemd")
	for _, suite := range suites() {
		t.Run(suite, func(t *testing.T) { fetch(t, suite) })
	}
}

// fetch returns a file with a minimal system of the suite.
func fetch(t *testing.T, suite string) string {
	t.Helper()
	host.NeedRoot(t)
	file := filepath.Join(host.Root(), ".tools/systemd", suite+".tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	host.NeedTools(t, "debootstrap", "tar")
	mirror, err := host.Output(minute, filepath.Join(host.Root(), ".ci/debian-mirror"))
	if err != nil {
		t.Fatal(err)
	}
	tree := host.OpenDir(t)
	// procps is what the package depends on.
	if _, err := host.Output(10*minute, "debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,procps",
		"--keyring=/usr/share/keyrings/debian-archive-keyring.gpg", suite, tree, strings.TrimSpace(mirror)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Output(minute, "tar", "-C", tree, "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*",
		"--exclude=./var/log/*", "-cf", file+".part", "."); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".part", file); err != nil { // whole or not at all
		t.Fatal(err)
	}
	return file
}

// packages returns the paths of the deb and of the rpm for this machine.
func packages(t *testing.T) (deb, rpm string) {
	t.Helper()
	host.Program(t, "test-systemd")
	host.NeedRoot(t)
	host.NeedTools(t, "dpkg", "dpkg-deb", "rpm")
	version := os.Getenv("VERSION")
	arch, err := host.Output(minute, "dpkg", "--print-architecture")
	if err != nil {
		t.Fatal(err)
	}
	machine, err := host.Output(minute, "uname", "-m")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(host.Root(), ".build/packages")
	deb = filepath.Join(dir, fmt.Sprintf("listen-exporter_%s_%s.deb", version, strings.TrimSpace(arch)))
	rpm = filepath.Join(dir, fmt.Sprintf("listen-exporter-%s-1.%s.rpm", version, strings.TrimSpace(machine)))
	for _, file := range []string{deb, rpm} {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%v: make test-systemd builds it", err)
		}
	}
	return deb, rpm
}

func TestPackages(t *testing.T) {
	deb, rpm := packages(t)
	tree := t.TempDir()
	if _, err := host.Output(minute, "dpkg-deb", "-x", deb, tree); err != nil {
		t.Fatal(err)
	}
	for _, c := range []host.Check{
		{Name: "the rpm is whole", Run: runs("rpm", "-K", "--nosignature", rpm)},
		{Name: "the rpm has the configuration", Run: host.Want("/etc/default/listen_exporter\n", func() (string, error) {
			return host.Output(minute, "rpm", "-qcp", rpm)
		})},
		{Name: "no unit speaks of an installation by hand", Run: host.Want("", func() (string, error) {
			found, _ := host.Output(minute, "grep", "-rE", "/usr/local|install -m|daemon-reload", filepath.Join(tree, "usr/lib/systemd"))
			return found, nil
		})},
		{Name: "both packages have the same files", Run: func() error {
			want, err := filesOfDeb(tree)
			if err != nil {
				return err
			}
			return host.Want(want, func() ([]string, error) { return filesOfRPM(rpm) })()
		}},
		{Name: "one commit always makes the same packages, whatever the umask", Run: func() error {
			before, err := host.Output(minute, "sha256sum", deb, rpm)
			if err != nil {
				return err
			}
			build := "umask 077 && rm " + deb + " " + rpm + " && packaging/build $(go env GOARCH) >&2 && sha256sum " + deb + " " + rpm
			return host.Want(before, func() (string, error) { return host.Output(minute, "sh", "-c", "cd "+host.Root()+" && "+build) })()
		}},
	} {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Run(); err != nil {
				t.Error(err)
			}
		})
	}
}

// runs returns a check's function: the command must succeed.
func runs(name string, arguments ...string) func() error {
	return func() error {
		_, err := host.Output(minute, name, arguments...)
		return err
	}
}

// filesOfDeb returns the files of an unpacked deb, where the rpm has them, with their sums.
func filesOfDeb(tree string) ([]string, error) {
	license := filepath.Join(tree, "usr/share/doc/listen-exporter/copyright")
	if err := host.Install(filepath.Join(host.Root(), "LICENSE"), license); err != nil {
		return nil, err
	}
	sums, err := host.Output(minute, "sh", "-c", "cd "+tree+" && find . -type f -exec sha256sum {} +")
	moved := strings.NewReplacer("zsh/vendor-completions/", "zsh/site-functions/",
		"/usr/share/doc/listen-exporter/copyright", "/usr/share/licenses/listen-exporter/LICENSE")
	var files []string
	for line := range strings.Lines(moved.Replace(sums)) {
		fields := strings.Fields(line)
		files = append(files, fields[1][1:]+" "+fields[0])
	}
	slices.Sort(files)
	return files, err
}

// filesOfRPM does not unpack the rpm: its paths begin at the root.
func filesOfRPM(rpm string) ([]string, error) {
	list, err := host.Output(minute, "rpm", "-qp", "--queryformat", "[%{FILENAMES} %{FILEDIGESTS}\n]", rpm)
	var files []string
	for line := range strings.Lines(list) {
		if line = strings.TrimRight(line, " \n"); strings.Contains(line, " ") { // a directory has no digest
			files = append(files, line)
		}
	}
	slices.Sort(files)
	return files, err
}

func TestService(t *testing.T) {
	deb, _ := packages(t)
	host.NeedTools(t, "ip", "nsenter", "openssl", "podman", "runc", "ss")
	for _, suite := range suites() {
		t.Run(suite, func(t *testing.T) {
			host.Own(t, "machine", 4*minute, true,
				systemVariable+"="+fetch(t, suite), debVariable+"="+deb, scratchVariable+"="+host.OpenDir(t))
		})
	}
}
