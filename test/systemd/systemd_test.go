//go:build linux

// Package systemd installs the deb on a minimal Debian that runs a real systemd, uses the service as an administrator does, and
// removes it.
//
// make test-systemd builds the packages and names their version.
package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

const (
	unit     = "listen_exporter.service"
	socket   = "listen_exporter.socket"
	registry = "/etc/listen_exporter/ports.yml"
	// stateFile is where the unit has what is remembered: /var/lib/listen_exporter is a link to it.
	stateFile = "/var/lib/private/listen_exporter/state"
	url       = "http://127.0.0.1:10190"
	// minute is more than any command needs that does not take long by itself.
	minute = time.Minute
)

const (
	// What a machine needs to know: its system, its packages, a node_exporter, and a directory for its files.
	systemVariable       = "LISTEN_EXPORTER_SYSTEMD_SYSTEM"
	debVariable          = "LISTEN_EXPORTER_SYSTEMD_DEB"
	etcdDebVariable      = "LISTEN_EXPORTER_SYSTEMD_ETCD_DEB"
	nodeExporterVariable = "LISTEN_EXPORTER_SYSTEMD_NODE_EXPORTER"
	scratchVariable      = "LISTEN_EXPORTER_SYSTEMD_SCRATCH"
)

func TestMain(m *testing.M) {
	host.Main(m, map[string]func() error{"machine": beMachine, "playbook": bePlaybook})
}

// TestFetch fetches what TestService needs. make fetch runs only this one, because it takes minutes.
func TestFetch(t *testing.T) {
	host.Program(t, "test-systemd")
	fetch(t)
}

// fetch returns a file with a minimal system. procps is what the package depends on.
func fetch(t *testing.T) string {
	t.Helper()
	return host.Debian(t, "systemd", "systemd", "systemd-sysv", "procps")
}

// packages returns the paths of the deb and of the rpm for this machine. form is what their names have, such as -etcd.
func packages(t *testing.T, form string) (deb, rpm string) {
	t.Helper()
	host.Program(t, "test-systemd")
	host.NeedRoot(t)
	host.NeedTools(t, "dpkg", "rpm")
	version := os.Getenv("VERSION")
	arch, err := host.Output(minute, "dpkg", "--print-architecture")
	if err != nil {
		t.Fatal(err)
	}
	machine, err := host.Output(minute, "uname", "-m")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(host.Root, ".build/packages")
	deb = filepath.Join(dir, fmt.Sprintf("listen-exporter%s_%s_%s.deb", form, version, strings.TrimSpace(arch)))
	rpm = filepath.Join(dir, fmt.Sprintf("listen-exporter%s-%s-1.%s.rpm", form, version, strings.TrimSpace(machine)))
	for _, file := range []string{deb, rpm} {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%v: make test-systemd builds it", err)
		}
	}
	return deb, rpm
}

func TestPackages(t *testing.T) {
	for form, other := range map[string]string{"": "listen-exporter-etcd", "-etcd": "listen-exporter"} {
		_, rpm := packages(t, form)
		for _, c := range []host.Check{
			{Name: "the rpm is whole", Run: runs("rpm", "-K", "--nosignature", rpm)},
			{Name: "the rpm has the configuration", Run: host.Want("/etc/default/listen_exporter\n", func() (string, error) {
				return host.Output(minute, "rpm", "-qcp", rpm)
			})},
			// With Obsoletes, an upgrade of one would install the other.
			{Name: "the rpm conflicts with the other form, and does not replace it", Run: host.Want(other+"\n", func() (string, error) {
				return host.Output(minute, "rpm", "-qp", "--conflicts", "--obsoletes", rpm)
			})},
		} {
			t.Run(c.Name+form, func(t *testing.T) {
				if err := c.Run(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// runs returns a check's function: the command must succeed.
func runs(name string, arguments ...string) func() error {
	return func() error {
		_, err := host.Output(minute, name, arguments...)
		return err
	}
}

func TestService(t *testing.T) {
	deb, _ := packages(t, "")
	etcdDeb, _ := packages(t, "-etcd")
	host.NeedTools(t, "ip", "nsenter", "openssl", "podman", "runc", "ss")
	host.Own(t, "machine", 6*minute, true,
		systemVariable+"="+fetch(t), debVariable+"="+deb, etcdDebVariable+"="+etcdDeb, nodeExporterVariable+"="+tools.Look(t, "node_exporter"), scratchVariable+"="+host.OpenDir(t))
}
