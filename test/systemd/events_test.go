//go:build linux

package systemd

import (
	"github.com/listen-exporter/listen_exporter/test/host"
)

// events uses the drop-in of the package's examples as its comments say.
func (m *machine) events() []host.Check {
	const (
		example = "/usr/share/doc/listen-exporter/examples/listen_exporter-events.conf"
		dropIn  = "/etc/systemd/system/" + unit + ".d/events.conf"
		rights  = "000000c000000000" // CAP_BPF, 39, and CAP_PERFMON, 38
	)
	return []host.Check{
		{Name: "with the drop-in for events the service starts", Run: steps(
			m.options("--collector.events=on"),
			m.run("install", "-D", "-m", "0644", example, dropIn),
			m.run("systemctl", "daemon-reload"),
			m.run("systemctl", "restart", unit),
			m.scrape,
		)},
		{Name: "systemd finds no fault in it", Run: m.says("", "sh", "-c", "systemd-analyze verify --man=no "+unit+" 2>&1")},
		{Name: "it has two capabilities, and can have no other", Run: steps(
			host.Want(rights, func() (string, error) { return m.status("CapEff") }),
			host.Want(rights, func() (string, error) { return m.status("CapBnd") }),
		)},
		{Name: "every collector succeeds", Run: func() error { return m.page.Succeeds() }},
		{Name: "no listener escapes, however short it lives", Run: func() error {
			return host.CountsShortListeners(100, func() (host.Page, error) {
				err := m.scrape()
				return m.page, err
			})
		}},
		{Name: "without the drop-in there are no events, and all else is there", Run: steps(
			m.noDropIn, m.rows([]string{"event 0", "holder 1", "tcp 1", "udp 1"}, "host_listen_collector_success", "collector"),
			m.logs("CAP_BPF"),
		)},
		{Name: "and off, nothing is left of them", Run: steps(
			m.options(""), m.run("systemctl", "restart", unit),
			m.rows([]string{"holder 1", "tcp 1", "udp 1"}, "host_listen_collector_success", "collector"),
		)},
	}
}
