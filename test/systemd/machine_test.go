//go:build linux

package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// machine is a container with systemd as its PID 1, on a host of the test's own.
type machine struct {
	host.Report
	tree   string // its root directory
	podDir string
	init   string // its PID 1, as the host numbers it
	page   host.Page
}

func newMachine() *machine {
	scratch := os.Getenv(scratchVariable)
	return &machine{tree: filepath.Join(scratch, "tree"), podDir: filepath.Join(scratch, "podman")}
}

// unpack makes the tree of the machine, with the demo.
func (m *machine) unpack() error {
	return errors.Join(
		os.Mkdir(m.tree, 0o755),
		runs("tar", "-C", m.tree, "-xf", os.Getenv(systemVariable))(),
		os.WriteFile(filepath.Join(m.tree, "etc/systemd/system/demo.service"), []byte(demo), 0o644),
	)
}

func beMachine() error {
	m := newMachine()
	if err := errors.Join(
		m.unpack(),
		host.Install(os.Getenv(debVariable), filepath.Join(m.tree, "deb")),
		host.Install(os.Getenv(etcdDebVariable), filepath.Join(m.tree, "etcd-deb")),
		host.Install(os.Getenv(nodeExporterVariable), filepath.Join(m.tree, "node_exporter")),
	); err != nil {
		return err
	}
	m.Check(m.inChroot()...)
	if err := m.boot(); err != nil {
		return err
	}
	before, err := m.paths()
	if err != nil {
		return err
	}
	version, err := m.inside("systemctl", "--version")
	if err != nil {
		return err
	}
	m.Note("%s", strings.SplitN(version, "\n", 2)[0])
	if _, err := m.inside("systemctl", "start", "demo.service"); err != nil {
		return err
	}
	for _, checks := range [][]host.Check{
		m.installs(), m.sandbox(), m.sees("-"), m.writesTextfile(), m.dropIns(), m.events(), m.leases(), m.reloads(), m.restarts(), m.activates(), m.upgrades(), m.changesForm(), m.removes(before),
	} {
		m.Check(checks...)
	}
	m.Check(host.Check{Name: "no unit has failed", Run: steps(
		m.says("", "systemctl", "list-units", "--failed", "--plain", "--no-legend"), m.says("running", "systemctl", "is-system-running"),
	)})
	m.End()
	return nil
}

// demo is a service of two programs, so that only a look at the processes shows which has the port.
const demo = `[Service]
User=daemon
ExecStart=/bin/sh -c 'sleep infinity & exec perl -MIO::Socket::INET -e \
  "push @held, IO::Socket::INET->new(LocalAddr => q(127.0.0.1:8081), Listen => 8) || die; sleep"'
`

// boot starts systemd at the root of a slice of the real hierarchy, because a program in a cgroup namespace cannot tell units
// apart. Mounts are shared, as systemd has them on a machine: it passes credentials on by a mount.
func (m *machine) boot() error {
	script := fmt.Sprintf(`mkdir -p /sys/fs/cgroup%[1]s/host.slice/init.scope &&
		echo 0 >/sys/fs/cgroup%[1]s/host.slice/init.scope/cgroup.procs &&
		mount --make-rshared / && exec /sbin/init`, host.Slice())
	if _, err := host.Podman(m.podDir, "run", "--detach", "--name", "system", "--hostname", "system", "--network", "host", "--cgroupns", "host",
		"--cgroup-parent", host.Slice()+"/podman", "--systemd=always", "--pids-limit", "0",
		"--cap-add", "SYS_ADMIN,MKNOD,SYS_PTRACE,DAC_READ_SEARCH,BPF,PERFMON", "--security-opt", "apparmor=unconfined",
		"--security-opt", "seccomp=unconfined", "--rootfs", m.tree, "/bin/sh", "-c", script); err != nil {
		return err
	}
	var err error
	if m.init, err = host.Podman(m.podDir, "inspect", "--format", "{{.State.Pid}}", "system"); err != nil {
		return err
	}
	return host.Await(minute, m.says("running", "systemctl", "is-system-running"))
}

// inside runs a command in the container. podman exec would be too slow for so many.
func (m *machine) inside(command ...string) (string, error) {
	output, err := host.Output(minute, "nsenter", append([]string{"--target", m.init, "--mount", "--uts", "--ipc", "--pid", "--"}, command...)...)
	return strings.TrimRight(output, "\n"), err
}

// run returns a check's function: the command must succeed in the container.
func (m *machine) run(command ...string) func() error {
	return func() error {
		_, err := m.inside(command...)
		return err
	}
}

// says returns a check's function: the command must print this, whatever its exit status.
func (m *machine) says(want string, command ...string) func() error {
	return host.Want(want, func() (string, error) {
		output, _ := m.inside(command...)
		return output, nil
	})
}

// properties are those of the service, separated by spaces.
func (m *machine) properties(names ...string) (string, error) {
	var values []string
	for _, name := range names {
		value, err := m.inside("systemctl", "show", "--value", "--property", name, unit)
		if err != nil {
			return "", err
		}
		values = append(values, value)
	}
	return strings.Join(values, " "), nil
}

func (m *machine) has(want string, properties ...string) func() error {
	return host.Want(want, func() (string, error) { return m.properties(properties...) })
}

// keepPID stores the pid of the service, and samePID compares it with a stored one.
func (m *machine) keepPID(pid *string) func() error {
	return func() (err error) {
		*pid, err = m.properties("MainPID")
		return err
	}
}

func (m *machine) samePID(want bool, pid *string) func() error {
	return host.Want(want, func() (bool, error) {
		now, err := m.properties("MainPID")
		return now == *pid, err
	})
}

// steps runs functions until one fails.
func steps(functions ...func() error) func() error {
	return func() error {
		for _, f := range functions {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	}
}

// scrape takes the next page of the program, as soon as it answers.
func (m *machine) scrape() error {
	return host.Await(minute, func() (err error) {
		m.page, err = host.Scrape(url + "/metrics")
		return err
	})
}

// rows returns a check's function: a new page must have these rows of a metric, see [host.Page.Rows].
func (m *machine) rows(want []string, metric string, labels ...string) func() error {
	return steps(m.scrape, func() error { return host.Same(want, m.page.Rows(metric, labels...))() })
}

func (m *machine) journal(arguments ...string) (string, error) {
	return m.inside(append([]string{"journalctl", "--no-pager", "--quiet", "--output", "cat", "--unit", unit}, arguments...)...)
}

// logs returns a check's function: the journal of the service must soon match a pattern.
func (m *machine) logs(pattern string) func() error {
	return func() error {
		return host.Await(minute, func() error {
			_, err := m.journal("--grep", pattern)
			return err
		})
	}
}

// write writes a file of the container in one step.
func (m *machine) write(path, content string) func() error {
	path = filepath.Join(m.tree, path)
	return func() error {
		return errors.Join(
			os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path+".new", []byte(content), 0o644),
			os.Rename(path+".new", path),
		)
	}
}

// options returns a function that sets the flags of the next start.
func (m *machine) options(flags string) func() error {
	return m.write("etc/default/listen_exporter", "LISTEN_EXPORTER_OPTS=\""+flags+"\"\n")
}

// declaration is a registry in which the demo has this port.
func declaration(port int) string {
	return fmt.Sprintf("---\nservices:\n  - {name: demo, port: %d, bind: loopback}\n", port)
}

// declare returns a function that writes the registry of [declaration].
func (m *machine) declare(port int) func() error { return m.write(registry, declaration(port)) }

// paths lists the files of the container but those that every system writes while it runs.
func (m *machine) paths() ([]string, error) {
	written := []string{
		"/dev", "/etc/resolv.conf", "/run", "/tmp", "/var/cache/ldconfig", "/var/lib/dpkg", "/var/log", "/var/tmp",
	}
	var paths []string
	err := filepath.WalkDir(m.tree, func(path string, _ fs.DirEntry, err error) error {
		path = strings.TrimPrefix(path, m.tree)
		if slices.Contains(written, path) {
			return fs.SkipDir
		}
		paths = append(paths, path)
		return err
	})
	return paths, err
}
