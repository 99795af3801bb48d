//go:build linux

package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// app is the program of the template: it listens on the port that it is given.
const app = `#!/usr/bin/perl
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$ARGV[0]", Listen => 8) or die "$!";
sleep;
`

// leases uses the drop-in of the package's examples as its comments say, and then the template of an application.
func (m *machine) leases() []host.Check {
	const (
		example = "/usr/share/doc/listen-exporter/examples/listen_exporter-leases.conf"
		dropIn  = "/etc/systemd/system/" + unit + ".d/leases.conf"
		none    = "0000000000000000"
	)
	as := func(uid string, command ...string) []string {
		return append([]string{"setpriv", "--reuid=" + uid, "--regid=" + uid, "--clear-groups", "listen_exporter", "lease"}, command...)
	}
	var ports, closed []string
	return []host.Check{
		{Name: "systemd lists what the sandbox permits", Run: func() error {
			closed = m.exposed()
			return nil
		}},
		{Name: "with the drop-in for leases the service starts", Run: steps(
			m.run("sh", "-c", "echo app:x:2004:2004::/:/bin/sh >>/etc/passwd"),
			m.example("ports.yml", "etc/listen_exporter/ports.d/leases.yml"),
			m.options("--lease.enable"),
			m.run("install", "-D", "-m", "0644", example, dropIn),
			m.run("systemctl", "daemon-reload"),
			m.run("systemctl", "restart", unit),
			m.scrape,
		)},
		{Name: "systemd finds no fault in it", Run: m.says("", "sh", "-c", "systemd-analyze verify --man=no "+unit+" 2>&1")},
		{Name: "systemd rates the exposure at most 2.0 of 10", Run: m.isHardlyExposed},
		{Name: "the sandbox permits Unix sockets, and nothing else that it did not", Run: host.Want([]string{"RestrictAddressFamilies=~AF_UNIX"}, func() ([]string, error) {
			return slices.DeleteFunc(m.exposed(), func(setting string) bool { return slices.Contains(closed, setting) }), nil
		})},
		{Name: "no capability is there or to be had", Run: steps(
			host.Want(none, func() (string, error) { return m.status("CapEff") }),
			host.Want(none, func() (string, error) { return m.status("CapBnd") }),
		)},
		{Name: "every collector succeeds", Run: func() error { return m.page.Succeeds() }},
		{Name: "everybody may connect, and only its user may read the store", Run: func() error {
			uid, err := m.status("Uid")
			return errors.Join(err, m.says("755 "+uid+"\n666 "+uid+"\n600 "+uid, "stat", "--format", "%a %u",
				"/run/listen_exporter", "/run/listen_exporter/lease.sock", "/var/lib/listen_exporter/leases.db")())
		}},
		{Name: "a user whom the registry names gets a port", Run: m.run(as("2004", "--", "sh", "-c", `[ "$PORT" -ge 22000 ]`)...)},
		{Name: "and another user none", Run: func() error {
			if output, err := m.inside(as("1")...); err == nil {
				return errors.New("it got " + output)
			}
			return nil
		}},
		{Name: "each instance of the template has a port of its own", Run: steps(
			m.example("app@.service", "etc/systemd/system/app@.service"),
			m.write("usr/local/bin/app", app), m.run("chmod", "755", "/usr/local/bin/app"),
			m.says("", "sh", "-c", "systemd-analyze verify --man=no app@blue.service 2>&1"),
			m.run("systemctl", "daemon-reload"), m.run("systemctl", "start", "app@blue", "app@green"),
			func() error {
				return host.Await(minute, m.rows([]string{"apps app-blue 2004 1", "apps app-green 2004 1"}, "host_listen_lease_info", "team", "service_name", "uid"))
			},
		)},
		{Name: "which its file says, and on which it is as declared", Run: func() error {
			return host.Await(minute, func() error {
				ports = nil
				for _, instance := range []string{"blue", "green"} {
					port, err := m.inside("cat", "/run/app-"+instance+"/port")
					if err != nil {
						return err
					}
					ports = append(ports, port)
				}
				if err := m.scrape(); err != nil {
					return err
				}
				registered := m.page.Rows("host_listen_port_registered", "port")
				for _, port := range ports {
					if !slices.Contains(registered, port+" 1") {
						return fmt.Errorf("port %s is not as declared: %q", port, registered)
					}
				}
				return nil
			})
		}},
		{Name: "a stopped one has given its port back, and has not failed", Run: steps(
			m.run("systemctl", "stop", "app@blue"),
			m.says("inactive", "systemctl", "is-active", "app@blue"),
			m.rows([]string{"app-green 1"}, "host_listen_lease_info", "service_name"),
		)},
		{Name: "a restart of the exporter leaves the other as it is", Run: steps(
			m.run("systemctl", "restart", unit),
			m.rows([]string{"app-green 1"}, "host_listen_lease_info", "service_name"),
			m.says("active", "systemctl", "is-active", "app@green"),
		)},
		{Name: "stopped, it leaves no socket", Run: steps(
			m.run("systemctl", "stop", "app@green", unit), m.run("test", "!", "-e", "/run/listen_exporter"),
		)},
		{Name: "without the drop-in it says what is missing", Run: steps(
			m.noDropIn, m.logs("address family not supported"),
		)},
		{Name: "and off, nothing is left of them", Run: steps(
			m.run("sh", "-c", "rm -r /etc/systemd/system/app@.service /usr/local/bin/app /etc/listen_exporter/ports.d/leases.yml && sed -i /^app:/d /etc/passwd"),
			m.options(""), m.run("systemctl", "daemon-reload"), m.run("systemctl", "restart", unit),
			m.rows(nil, "host_listen_lease_store_up"),
		)},
	}
}

// exposed returns what the sandbox of the unit permits, by systemd's list.
func (m *machine) exposed() (settings []string) {
	text, _ := m.inside("systemd-analyze", "security", "--no-pager", unit) // it fails for some levels
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "✗" {
			settings = append(settings, fields[1])
		}
	}
	return settings
}

// example returns a function that copies a file of examples/leases.
func (m *machine) example(name, to string) func() error {
	return func() error {
		text, err := os.ReadFile(filepath.Join(host.Root, "examples/leases", name))
		return errors.Join(err, m.write(to, string(text))())
	}
}
