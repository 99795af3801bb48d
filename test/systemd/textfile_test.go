//go:build linux

package systemd

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// writesTextfile uses the timer of the package's examples as its comments say, and has node_exporter serve what it writes.
func (m *machine) writesTextfile() []host.Check {
	const (
		directory = "/var/lib/prometheus/node-exporter"
		file      = directory + "/listen_exporter.prom"
		example   = "/usr/share/doc/listen-exporter/examples/listen_exporter-textfile"
		timer     = "listen_exporter-textfile.timer"
		service   = "listen_exporter-textfile.service"
	)
	var page string
	serves := func(pattern string) func() error {
		return func() error {
			if !regexp.MustCompile(`(?m)^` + pattern + `$`).MatchString(page) {
				return fmt.Errorf("no line %s in:\n%s", pattern, page)
			}
			return nil
		}
	}
	return []host.Check{
		{Name: "the timer of the examples starts", Run: steps(
			m.run("mkdir", "-p", directory),
			m.run("cp", example+".service", example+".timer", "/etc/systemd/system/"),
			m.run("systemctl", "daemon-reload"),
			m.run("systemctl", "enable", "--now", timer),
		)},
		{Name: "its service writes the file", Run: m.run("systemctl", "start", service)}, // without the wait for the next full minute
		{Name: "systemd finds no fault in it", Run: m.says("", "sh", "-c", "systemd-analyze verify --man=no "+timer+" "+service+" 2>&1")},
		{Name: "everybody may read the file", Run: m.says("644 root", "stat", "-c", "%a %U", file)},
		{Name: "nothing else is next to it", Run: m.says("listen_exporter.prom", "ls", "-A", directory)},
		{Name: "the service succeeds", Run: m.says("success", "systemctl", "show", "--value", "--property", "Result", service)},
		{Name: "the timer starts it again", Run: func() error {
			next, err := m.inside("systemctl", "show", "--value", "--property", "NextElapseUSecRealtime", timer)
			if err != nil || strings.TrimSpace(next) == "" {
				return fmt.Errorf("the timer elapses at %q: %w", next, err)
			}
			return nil
		}},
		{Name: "a node_exporter of another user serves it", Run: steps(
			m.run("systemd-run", "--unit=node_exporter", "--property=User=nobody", "/node_exporter", "--collector.disable-defaults",
				"--collector.textfile", "--collector.textfile.directory="+directory, "--web.listen-address=127.0.0.1:9100"),
			func() error {
				return host.Await(minute, func() (err error) {
					page, err = host.Get("http://127.0.0.1:9100/metrics")
					return err
				})
			},
			serves(`node_textfile_scrape_error 0`),
		)},
		{Name: "every collector succeeds in the sandbox of the service", Run: steps(
			serves(`host_listen_collector_success{collector="tcp"} 1`),
			serves(`host_listen_collector_success{collector="udp"} 1`),
			serves(`host_listen_collector_success{collector="holder"} 1`),
		)},
		{Name: "the listeners are there with the units that hold them", Run: steps(
			serves(`host_listen_port_holder_info{[^}]*port="8081"[^}]*unit="demo.service"} 1`),
			serves(`host_listen_port_holder_info{[^}]*port="10190"[^}]*unit="`+unit+`"} 1`),
		)},
		{Name: "the timer goes", Run: steps(
			m.run("systemctl", "stop", "node_exporter.service"),
			m.run("systemctl", "disable", timer),
			m.run("systemctl", "stop", timer, service),
			m.run("rm", "-r", "/etc/systemd/system/"+timer, "/etc/systemd/system/"+service, "/var/lib/prometheus"),
			m.run("systemctl", "daemon-reload"),
		)},
	}
}
