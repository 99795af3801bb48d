//go:build linux

package systemd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// inChroot installs where no systemd runs, as when an image is made: a maintainer script must not fail there.
func (m *machine) inChroot() []host.Check {
	var before []string
	return []host.Check{
		{Name: "the deb installs where no systemd runs", Run: func() (err error) {
			before, err = m.paths()
			return errors.Join(err, runs("chroot", m.tree, "dpkg", "-i", "/deb")())
		}},
		{Name: "and enables the service there", Run: func() error {
			_, err := os.Lstat(filepath.Join(m.tree, "etc/systemd/system/multi-user.target.wants", unit))
			return err
		}},
		{Name: "the deb can be purged there", Run: runs("chroot", m.tree, "dpkg", "-P", "listen-exporter")},
		{Name: "and leaves nothing", Run: func() error { return host.Want(before, m.paths)() }},
	}
}

func (m *machine) installs() []host.Check {
	return []host.Check{
		{Name: "the deb installs", Run: m.run("dpkg", "-i", "/deb")},
		{Name: "its files are those of the package", Run: m.says("", "dpkg", "-V", "listen-exporter")},
		{Name: "no unit speaks of an installation by hand", Run: m.says("", "grep", "-E", "/usr/local|install -m|daemon-reload",
			"/usr/lib/systemd/system/"+unit, "/usr/lib/systemd/system/"+socket)},
		{Name: "the service is enabled, the socket is not", Run: m.says("enabled\ndisabled", "systemctl", "is-enabled", unit, socket)},
		{Name: "it serves metrics", Run: m.scrape},
		{Name: "the service is active", Run: m.has("active", "ActiveState")},
		{Name: "systemd finds no fault in the units", Run: m.says("", "sh", "-c", "systemd-analyze verify --man=no "+unit+" "+socket+" 2>&1")},
		{Name: "systemd rates the exposure at most 2.0 of 10", Run: m.isHardlyExposed},
		{Name: "systemd warns of nothing", Run: host.Want("", func() (string, error) {
			text, _ := m.journal("--priority", "warning")
			return text, nil
		})},
		{Name: "nor does the program", Run: host.Want("", func() (string, error) {
			text, err := m.journal()
			var warnings string
			for line := range strings.Lines(text) {
				// It warns of the PID namespace, because this is no machine of its own.
				if (strings.Contains(line, "level=warn") || strings.Contains(line, "level=error")) && !strings.Contains(line, "PID namespace") {
					warnings += line
				}
			}
			return warnings, err
		})},
		{Name: "the line of its description that keeps it to this host does so", Run: m.keepsToThisHost},
		{Name: "the example registry is a good one", Run: m.run("listen_exporter", "check", "/usr/share/doc/listen-exporter/examples/ports.yml")},
	}
}

func (m *machine) isHardlyExposed() error {
	text, _ := m.inside("systemd-analyze", "security", "--no-pager", unit)
	found := regexp.MustCompile(`Overall exposure level .*: ([0-9.]+) `).FindStringSubmatch(text)
	if found == nil {
		return errors.New("no exposure level in:\n" + text)
	}
	if exposure, err := strconv.ParseFloat(found[1], 64); err != nil || exposure > 2 {
		return fmt.Errorf("got %s, %w", found[1], err)
	}
	return nil
}

// keepsToThisHost writes the line that the package's description offers into the file that it names.
func (m *machine) keepsToThisHost() error {
	const settings = "etc/default/listen_exporter"
	before, err := os.ReadFile(filepath.Join(m.tree, settings))
	if err != nil {
		return err
	}
	text, err := m.inside("dpkg-query", "--show", "--showformat", "${Description}", "listen-exporter")
	line := regexp.MustCompile(`(?m)^ *(LISTEN_EXPORTER_OPTS=.*)$`).FindStringSubmatch(text)
	if err != nil || line == nil || !strings.Contains(text, " /"+settings+" ") {
		return fmt.Errorf("the description has no such line, or does not say that it goes into /%s: %w\n%s", settings, err, text)
	}
	own := func(scope string) func() error {
		return func() error {
			return host.Await(minute, m.rows([]string{"10190 " + scope + " 1", "8081 loopback 1"}, "host_listen_port", "port", "scope"))
		}
	}
	restart := m.run("systemctl", "restart", unit)
	return steps(m.write(settings, line[1]+"\n"), restart, own("loopback"), m.write(settings, string(before)), restart, own("any"))()
}

// status returns the value of a line of /proc/<pid>/status of the service.
func (m *machine) status(key string) (string, error) {
	pid, err := m.properties("MainPID")
	if err != nil {
		return "", err
	}
	value, err := m.inside("sed", "-n", `s/^`+key+`:\s*\(\S*\).*/\1/p`, "/proc/"+pid+"/status")
	return value, err
}

func (m *machine) sandbox() []host.Check {
	return []host.Check{
		{Name: "the user is one of systemd's dynamic ones", Run: func() error {
			text, err := m.status("Uid")
			uid, err2 := strconv.Atoi(text)
			if uid < 61184 || uid > 65519 {
				err = errors.Join(fmt.Errorf("the uid is %s", text), err, err2)
			}
			return err
		}},
		{Name: "what it remembers is in a file that only its user can read", Run: func() error {
			return host.Await(minute, func() error {
				uid, err := m.status("Uid")
				return errors.Join(err, m.says("600 "+uid, "stat", "--format", "%a %u", stateFile)())
			})
		}},
		{Name: "the root is read-only", Run: func() error {
			pid, err := m.properties("MainPID")
			return errors.Join(err, m.run("grep", "-E", `^\S+ \S+ \S+ \S+ / ro\b`, "/proc/"+pid+"/mountinfo")())
		}},
		{Name: "no capability is there or to be had, and system calls are filtered", Run: func() error {
			const none = "0000000000000000"
			want := map[string]string{
				"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2",
			}
			got := make(map[string]string)
			var err error
			for key := range want {
				if got[key], err = m.status(key); err != nil {
					return err
				}
			}
			return host.Same(want, got)()
		}},
	}
}

// sees checks the metrics. process is the program of demo.service, or - if the exporter may not know it.
func (m *machine) sees(process string) []host.Check {
	return []host.Check{
		{Name: "the kernel is asked by netlink", Run: m.rows([]string{"netlink 1"}, "host_listen_source_info", "source")},
		{Name: "every collector succeeds", Run: func() error { return m.page.Succeeds() }},
		{Name: "the listeners are those that ss shows", Run: func() error {
			listeners, err := host.Listeners(false)
			return errors.Join(err, m.rows(listeners, "host_listen_port", "proto", "address", "port")())
		}},
		{Name: "their holders are the units, and the process of the demo is " + process, Run: func() error {
			uid, err := m.status("Uid")
			return errors.Join(err, m.rows([]string{
				"tcp 127.0.0.1 8081 " + process + " demo.service 1 1",
				"tcp :: 10190 listen_exporter " + unit + " " + uid + " 1",
			}, "host_listen_port_holder_info", "proto", "address", "port", "process", "unit", "uid")())
		}},
	}
}

// dropIn returns a function that makes the nth drop-in that the comments of the unit offer, from 0.
func (m *machine) dropIn(n int) func() error {
	return func() error {
		text, err := os.ReadFile(filepath.Join(m.tree, "usr/lib/systemd/system", unit))
		offered := regexp.MustCompile(`(?m)^#   \[Service\]\n(#   .*\n)+`).FindAllString(string(text), -1)
		if err != nil || n >= len(offered) {
			return fmt.Errorf("%d drop-ins are offered: %w", len(offered), err)
		}
		return steps(
			m.write("etc/systemd/system/"+unit+".d/override.conf", strings.ReplaceAll(offered[n], "#   ", "")),
			m.run("systemctl", "daemon-reload"), m.run("systemctl", "restart", unit),
		)()
	}
}

func (m *machine) noDropIn() error {
	return steps(m.run("rm", "-r", "/etc/systemd/system/"+unit+".d"),
		m.run("systemctl", "daemon-reload"), m.run("systemctl", "restart", unit))()
}

func (m *machine) dropIns() []host.Check {
	checks := append([]host.Check{{
		Name: "with the drop-in for exact processes it has two capabilities",
		Run:  steps(m.dropIn(0), m.scrape, host.Want("0000000000080004", func() (string, error) { return m.status("CapEff") })),
	}}, m.sees("perl")...)
	return append(checks, host.Check{
		Name: "with the drop-in for TLS it speaks TLS, and wants a password",
		Run:  steps(m.noDropIn, m.prepareTLS, m.dropIn(1), wantsPassword, m.run("sh", "-c", "rm "+tlsFiles), m.noDropIn),
	})
}

// tlsFiles are what prepareTLS writes, for a shell. The directory of registries is next to them.
const tlsFiles = "/etc/listen_exporter/web-config.yml /etc/listen_exporter/listen_exporter.*"

// prepareTLS writes the files that the drop-in for TLS names, which only root can read.
func (m *machine) prepareTLS() error {
	etc := filepath.Join(m.tree, "etc/listen_exporter")
	return errors.Join(
		host.Install(filepath.Join(host.Root, "examples/web-config/web-config.yml"), filepath.Join(etc, "web-config.yml")),
		runs("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
			"-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
			"-keyout", filepath.Join(etc, "listen_exporter.key"), "-out", filepath.Join(etc, "listen_exporter.crt"))(),
		m.run("sh", "-c", "chmod 600 "+tlsFiles)(),
	)
}

// wantsPassword gives a wrong password, since the one in the example is nobody's. The answer shows that the file is in force.
func wantsPassword() error {
	client := http.Client{Timeout: minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	request, err := http.NewRequest(http.MethodGet, strings.Replace(url, "http", "https", 1)+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	request.SetBasicAuth("prometheus", "wrong")
	return host.Await(minute, host.Want(http.StatusUnauthorized, func() (int, error) {
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}))
}

// demoIs returns a check's function: the demo must be up or down by the registry, and the last reload good or not.
func (m *machine) demoIs(up, reloaded int) func() error {
	return steps(
		m.rows([]string{fmt.Sprintf("demo %d", up)}, "host_listen_service_up", "service_name"),
		m.rows([]string{strconv.Itoa(reloaded)}, "host_listen_registry_last_reload_successful"),
	)
}

func (m *machine) reloads() []host.Check {
	var pid string
	reload := m.run("systemctl", "reload", unit)
	const services = 10000 // so many that the registry is not read yet when the reload comes
	var large strings.Builder
	large.WriteString("services:\n")
	for n := range services {
		fmt.Fprintf(&large, "  - {name: demo-%[1]d, port: %[1]d, required: false}\n", n+1)
	}
	return []host.Check{
		{Name: "with a registry in the usual place, and no flag, the demo is as declared", Run: steps(m.declare(8081), m.options(""),
			m.run("systemctl", "restart", unit), m.demoIs(1, 1), m.keepPID(&pid))},
		{Name: "systemctl reload succeeds", Run: steps(m.declare(8082), reload)},
		{Name: "the registry is read again, and the journal says so", Run: m.logs("reloaded the registry. by=SIGHUP")},
		{Name: "the demo is judged by the new content", Run: steps(m.demoIs(0, 1), func() error {
			return host.Same(true, slices.Contains(m.page.Rows("host_listen_port_violation", "port", "reason"), "8081 unregistered 1"))()
		})},
		{Name: "systemctl reload succeeds with a bad registry too", Run: steps(
			m.write(registry, "services: [{name: demo, port: 99999}]\n"), reload)},
		{Name: "the journal says what is wrong, and where", Run: m.logs(registry + ":1:[0-9]+: .*99999")},
		{Name: "the last good registry stays in force", Run: m.demoIs(0, 0)},
		{Name: "a mended one is taken", Run: steps(m.declare(8081), reload, func() error { return host.Await(minute, m.demoIs(1, 1)) })},
		{Name: "all of that was one process", Run: m.samePID(true, &pid)},
		{Name: "a reload right after a start does not end it", Run: steps(
			m.write(registry, large.String()), m.run("sh", "-c", "systemctl restart "+unit+" && systemctl reload "+unit), m.keepPID(&pid),
			m.logs("services="+strconv.Itoa(services)), m.samePID(true, &pid), m.has("active 0", "ActiveState", "NRestarts"), m.declare(8081))},
	}
}

func (m *machine) restarts() []host.Check {
	var pid string
	return []host.Check{
		{Name: "systemctl restart succeeds", Run: steps(m.scrape, m.keepPID(&pid), m.run("systemctl", "restart", unit))},
		{Name: "it serves again", Run: m.scrape},
		{Name: "it is another process", Run: m.samePID(false, &pid)},
		{Name: "and goes on from what it remembered", Run: m.remembers},
		{Name: "SIGTERM ends it with status 0", Run: steps(m.run("systemctl", "stop", unit),
			m.has("success 1 0", "Result", "ExecMainCode", "ExecMainStatus"))},
		{Name: "after SIGKILL it serves again", Run: steps(m.run("systemctl", "start", unit), m.scrape,
			m.run("systemctl", "kill", "--signal=KILL", unit), func() error { time.Sleep(time.Second); return nil }, m.scrape)},
		{Name: "started by systemd", Run: m.has("1", "NRestarts")},
		{Name: "and goes on from what it remembered then too", Run: m.remembers},
		{Name: "a registry that is bad at the start leaves the last good one in force", Run: steps(
			m.write(registry, "services: [{name: demo, port: 99999}]\n"), m.run("systemctl", "restart", unit), m.demoIs(1, 0), m.declare(8081))},
	}
}

// remembers checks that the program goes on from its state file, and can write it.
func (m *machine) remembers() error {
	return steps(m.rows([]string{"1"}, "host_listen_state_loaded"), m.rows([]string{"1"}, "host_listen_state_last_write_successful"))()
}

// inode is the number of the listening socket, which stays the same while it is never closed.
func inode() (string, error) {
	text, err := host.Output(minute, "ss", "-Htlne", "sport = 10190")
	return regexp.MustCompile(`ino:\d+`).FindString(text), err
}

func (m *machine) activates() []host.Check {
	var pid, before string
	keepInode := func() (err error) {
		before, err = inode()
		return err
	}
	return []host.Check{
		{Name: "the socket can be enabled", Run: steps(m.options("--web.systemd-socket"), m.run("systemctl", "stop", unit),
			m.run("systemctl", "enable", "--now", socket))},
		{Name: "the service does not run yet", Run: steps(m.has("inactive", "ActiveState"), keepInode)},
		{Name: "the first scrape starts it and is answered in time", Run: func() (err error) {
			m.page, err = host.Scrape(url + "/metrics")
			return err
		}},
		{Name: "the service is active then", Run: m.has("active", "ActiveState")},
		{Name: "the holder of the port is the socket", Run: func() error {
			return host.Same(true, slices.Contains(
				m.page.Rows("host_listen_port_holder_info", "port", "process", "unit"), "10190 listen_exporter "+socket+" 1"))()
		}},
		{Name: "no request is refused during a restart", Run: steps(m.keepPID(&pid), m.restartUnderLoad)},
		{Name: "it is another process, with the same socket", Run: steps(m.samePID(false, &pid), func() error {
			return host.Want(before, inode)()
		})},
	}
}

// restartUnderLoad restarts the service while requests come one after the other, and returns those that failed.
func (m *machine) restartUnderLoad() error {
	enough, failures := make(chan struct{}), make(chan error)
	go func() {
		var all error
		for {
			select {
			case <-enough:
				failures <- all
				return
			default:
				// Go's server closes a connection that it has accepted and not heard of yet when it is stopped.
				if _, err := host.Get(url + "/-/healthy"); err != nil && !errors.Is(err, io.EOF) {
					all = errors.Join(all, err)
				}
			}
		}
	}()
	err := steps(m.run("systemctl", "restart", unit), m.scrape)()
	close(enough)
	return errors.Join(err, <-failures)
}

func (m *machine) upgrades() []host.Check {
	var pid string
	return []host.Check{
		{Name: "an upgrade succeeds", Run: steps(m.run("systemctl", "--quiet", "disable", "--now", socket),
			m.options("--registry.file="+registry), m.run("systemctl", "restart", unit), m.scrape, m.keepPID(&pid), m.run("dpkg", "-i", "/deb"))},
		{Name: "and serves", Run: m.scrape},
		{Name: "as another process", Run: m.samePID(false, &pid)},
		{Name: "with the options of before", Run: m.demoIs(1, 1)},
		{Name: "and what it remembered", Run: m.remembers},
		{Name: "an upgrade succeeds with a service that is disabled", Run: steps(m.run("systemctl", "--quiet", "disable", unit),
			m.run("dpkg", "-i", "/deb"))},
		{Name: "which it stays", Run: m.says("disabled", "systemctl", "is-enabled", unit)},
		{Name: "only the configuration differs from the package", Run: m.says("??5?????? c /etc/default/listen_exporter",
			"dpkg", "-V", "listen-exporter")},
	}
}

// changesForm replaces the package by that which can keep leases in etcd as well, and back.
func (m *machine) changesForm() []host.Check {
	var checks []host.Check
	for _, change := range []struct{ deb, from, to string }{
		{"/etcd-deb", "listen-exporter", "listen-exporter-etcd"}, {"/deb", "listen-exporter-etcd", "listen-exporter"},
	} {
		var pid string
		checks = append(checks,
			host.Check{Name: change.to + " replaces " + change.from, Run: steps(m.run("systemctl", "--quiet", "enable", "--now", unit), m.scrape,
				m.keepPID(&pid), m.run("dpkg", "-i", change.deb))},
			host.Check{Name: "and serves", Run: m.scrape},
			host.Check{Name: "as another process", Run: steps(m.samePID(false, &pid), m.keepPID(&pid))},
			host.Check{Name: "with the options of before", Run: m.demoIs(1, 1)},
			host.Check{Name: "and what it remembered", Run: m.remembers},
			host.Check{Name: "to purge the other package takes nothing from it", Run: steps(m.run("dpkg", "-P", change.from),
				m.run("test", "-e", stateFile), m.run("test", "-e", "/etc/default/listen_exporter"),
				m.says("enabled", "systemctl", "is-enabled", unit), m.scrape, m.samePID(true, &pid))},
			host.Check{Name: "nor from the package", Run: m.says("??5?????? c /etc/default/listen_exporter", "dpkg", "-V", change.to)},
		)
	}
	return checks
}

func (m *machine) removes(before []string) []host.Check {
	return []host.Check{
		{Name: "it can be removed", Run: steps(m.run("systemctl", "--quiet", "enable", unit, socket), m.run("dpkg", "-r", "listen-exporter"))},
		{Name: "it does not run any more", Run: host.Want("", inode)},
		{Name: "the configuration stays", Run: m.run("test", "-e", "/etc/default/listen_exporter")},
		{Name: "it can be purged", Run: m.run("dpkg", "-P", "listen-exporter")},
		{Name: "only the registry that was written by hand is left", Run: host.Want(
			[]string{"/etc/listen_exporter", registry}, func() ([]string, error) {
				after, err := m.paths()
				for _, path := range before {
					if !slices.Contains(after, path) {
						err = errors.Join(err, errors.New(path+" is gone"))
					}
				}
				return slices.DeleteFunc(after, func(path string) bool { return slices.Contains(before, path) }), err
			})},
		{Name: "no user is left", Run: m.says("", "getent", "passwd", "listen_exporter")},
		{Name: "systemd does not know it any more", Run: m.has("not-found", "LoadState")},
	}
}
