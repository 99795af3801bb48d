//go:build linux

package systemd

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// TestPlaybook runs the Ansible playbook of examples/ on the machine itself. The rpm is not
// tried: that needs another distribution.
func TestPlaybook(t *testing.T) {
	deb, _ := packages(t, "")
	host.NeedTools(t, "ip", "nsenter", "podman", "runc", "ss")
	system := host.Debian(t, "ansible", "systemd", "systemd-sysv", "procps", "ansible-core", "python3-apt")
	host.Own(t, "playbook", 15*minute, true, systemVariable+"="+system, debVariable+"="+deb, scratchVariable+"="+host.OpenDir(t))
}

func bePlaybook() error {
	m := newMachine()
	if err := errors.Join(
		m.unpack(),
		host.Install(os.Getenv(debVariable), filepath.Join(m.tree, filepath.Base(os.Getenv(debVariable)))),
		host.Install(filepath.Join(host.Root, "examples/ansible/listen_exporter.yml"), filepath.Join(m.tree, "listen_exporter.yml")),
		m.boot(),
	); err != nil {
		return err
	}
	m.Check(m.plays()...)
	m.End()
	return nil
}

// play runs the playbook with these variables, and returns what it printed.
func (m *machine) play(variables ...string) (string, error) {
	arguments := []string{
		"--target", m.init, "--mount", "--uts", "--ipc", "--pid", "--",
		"env", "LANG=C.UTF-8", "HOME=/root", "ansible-playbook", "--inventory", "localhost,", "--connection", "local", "/listen_exporter.yml",
	}
	for _, variable := range append([]string{
		"ansible_become=false", "listen_exporter_packages=/", "listen_exporter_registry=/ports.yml", "listen_exporter_version=" + os.Getenv("VERSION"),
	}, variables...) {
		arguments = append(arguments, "--extra-vars", variable)
	}
	return host.Output(5*minute, "nsenter", arguments...)
}

// changes returns a check's function: a run must succeed and change only what these tasks do. A handler is one too.
func (m *machine) changes(tasks []string, variables ...string) func() error {
	return host.Want(tasks, func() ([]string, error) {
		output, err := m.play(variables...)
		if err == nil && !strings.Contains(output, "failed=0 ") {
			err = errors.New("there is no recap in:\n" + output)
		}
		return changed(output), err
	})
}

// changed returns the names of the tasks and handlers that have changed something.
func changed(output string) []string {
	var all []string
	for _, found := range regexp.MustCompile(`(?m)^(?:TASK|RUNNING HANDLER) \[(.*)\] \*+\nchanged: `).FindAllStringSubmatch(output, -1) {
		all = append(all, found[1])
	}
	return all
}

func (m *machine) plays() []host.Check {
	var pid string
	const (
		local   = `listen_exporter_options="--web.listen-address=127.0.0.1:10190"`
		restart = "Restart listen_exporter"
	)
	declared := func(port int) func() error { return m.write("ports.yml", declaration(port)) }
	demoIs := func(up int) func() error {
		return func() error { return host.Await(minute, m.demoIs(up, 1)) }
	}
	return []host.Check{
		{Name: "the first run installs the package, its registry and its flags, and restarts once", Run: steps(
			m.run("systemctl", "start", "demo.service"), declared(8081),
			m.changes([]string{"Copy the package", "Install the deb", "Set the flags", "Copy the first registry", restart}, local))},
		{Name: "the service is active and enabled", Run: steps(m.has("active", "ActiveState"), m.says("enabled", "systemctl", "is-enabled", unit))},
		{Name: "it judges the demo by the registry", Run: demoIs(1)},
		{Name: "and serves only this host", Run: m.rows([]string{"10190 loopback 1", "8081 loopback 1"}, "host_listen_port", "port", "scope")},
		{Name: "a second run changes nothing", Run: steps(m.keepPID(&pid), m.changes(nil, local))},
		{Name: "a changed registry is copied", Run: steps(declared(8082), m.changes([]string{"Copy the registry"}, local))},
		{Name: "and taken", Run: demoIs(0)},
		{Name: "a faulty one is refused, with its line", Run: steps(declared(99999), func() error {
			output, err := m.play(local)
			if err == nil || !regexp.MustCompile(`:\d+:\d+: .*99999`).MatchString(output+err.Error()) {
				return errors.Join(errors.New("the run did not fail, or does not say what is wrong:\n"+output), err)
			}
			return host.Same(nil, changed(output))()
		})},
		{Name: "the old one stays", Run: steps(m.run("grep", "-q", "8082", registry), demoIs(0))},
		{Name: "all of that was one process", Run: m.samePID(true, &pid)},
		{Name: "other flags restart it", Run: steps(declared(8082), m.changes([]string{"Set the flags", restart}), m.samePID(false, &pid),
			func() error {
				err := m.scrape()
				if rows := m.page.Rows("host_listen_port", "port", "scope"); !slices.Contains(rows, "10190 any 1") {
					err = errors.Join(err, errors.New("it does not serve all: "+strings.Join(rows, ", ")))
				}
				return err
			})},
	}
}
