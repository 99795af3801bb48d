//go:build linux

// Package openrc unpacks the apk where a real OpenRC is, and uses the service as an administrator of Alpine Linux does. OpenRC is
// Debian's, and so are the shell and the C library: there is no apk to install with.
//
// make test-openrc builds the package and names its version.
package openrc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

const (
	service = "listen_exporter"
	user    = "listen_exporter"
	uid     = 991
	url     = "http://127.0.0.1:10190"
	state   = "var/lib/listen_exporter"
	log     = "var/log/listen_exporter.log"
	minute  = time.Minute
)

const (
	systemVariable  = "LISTEN_EXPORTER_OPENRC_SYSTEM"
	packageVariable = "LISTEN_EXPORTER_OPENRC_PACKAGE"
	scratchVariable = "LISTEN_EXPORTER_OPENRC_SCRATCH"
)

func TestMain(m *testing.M) { host.Main(m, map[string]func() error{"machine": beMachine}) }

func TestService(t *testing.T) {
	host.Program(t, "test-openrc")
	host.NeedRoot(t)
	host.NeedTools(t, "chroot", "ip", "tar", "uname")
	system := host.Debian(t, "openrc", "openrc", "procps")
	machine, err := host.Output(minute, "uname", "-m")
	if err != nil {
		t.Fatal(err)
	}
	apk := filepath.Join(host.Root, ".build/packages", "listen-exporter_"+os.Getenv("VERSION")+"_"+strings.TrimSpace(machine)+".apk")
	if _, err := os.Stat(apk); err != nil {
		t.Fatalf("%v: make test-openrc builds it", err)
	}
	host.Own(t, "machine", 2*minute, false, systemVariable+"="+system, packageVariable+"="+apk, scratchVariable+"="+host.OpenDir(t))
}

// machine is a system with OpenRC.
type machine struct {
	host.Report
	tree string // its root directory
}

func beMachine() error {
	m := &machine{tree: filepath.Join(os.Getenv(scratchVariable), "tree")}
	mounts := ""
	for _, dir := range []string{"proc", "sys", "dev"} {
		mounts += " && mount --rbind /" + dir + " " + filepath.Join(m.tree, dir)
	}
	prepare := "mkdir " + m.tree + " && tar -C " + m.tree + " -xf " + os.Getenv(systemVariable) + mounts +
		" && mount -t tmpfs none " + m.tree + "/run && mkdir -p " + m.tree + "/run/openrc && cd " + m.tree + "/run/openrc && touch softlevel" +
		// What OpenRC makes when it boots.
		" && mkdir daemons exclusive failed inactive options scheduled started starting stopping tmp wasinactive"
	if _, err := host.Output(minute, "sh", "-c", prepare); err != nil {
		return err
	}
	for _, checks := range [][]host.Check{m.installs(), m.serves(), m.reloads(), m.restarts(), m.removes()} {
		m.Check(checks...)
	}
	m.End()
	return nil
}

// inside runs a command of the shell in the system.
func (m *machine) inside(script string) (string, error) {
	output, err := host.Output(minute, "chroot", m.tree, "sh", "-c", script)
	return strings.TrimSpace(output), err
}

func (m *machine) run(script string) func() error {
	return func() error {
		_, err := m.inside(script)
		return err
	}
}

// says returns a check's function: the command must print this.
func (m *machine) says(want, script string) func() error {
	return host.Want(want, func() (string, error) { return m.inside(script) })
}

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

func (m *machine) write(path, content string) func() error {
	return func() error { return os.WriteFile(filepath.Join(m.tree, path), []byte(content), 0o644) }
}

// rows returns a check's function: a page must soon have these rows of a metric, see [host.Page.Rows].
func (m *machine) rows(want []string, metric string, labels ...string) func() error {
	return func() error {
		return host.Await(minute, func() error {
			page, err := host.Scrape(url + "/metrics")
			if err != nil {
				return err
			}
			return host.Same(want, page.Rows(metric, labels...))()
		})
	}
}

// pid is that of the exporter, and not of its supervisor.
func (m *machine) pid() (string, error) {
	return m.inside("pgrep --exact --oldest --full '/usr/bin/listen_exporter .*'")
}

func (m *machine) installs() []host.Check {
	// Alpine's addgroup and adduser are BusyBox's, which take other flags than Debian's.
	const called = `addgroup() { echo addgroup "$@" >&3; }; adduser() { echo adduser "$@" >&3; }; exec 3>&1; . /.pre-install`
	account := fmt.Sprintf("useradd --system --user-group --uid %d --home-dir /var/empty --shell /usr/sbin/nologin %s", uid, user)
	return []host.Check{
		{Name: "the apk is an archive", Run: func() error {
			_, err := host.Output(minute, "tar", "-C", m.tree, "--warning=no-unknown-keyword", "-xzf", os.Getenv(packageVariable))
			return err
		}},
		{Name: "its first script makes the service's user", Run: m.says("addgroup -S listen_exporter\n"+
			"adduser -S -D -H -h /var/empty -s /sbin/nologin -G listen_exporter -g listen_exporter listen_exporter", called)},
		{Name: "the next one says how the service starts", Run: steps(m.run(account), m.says("Start listen_exporter now and at each boot: "+
			"rc-update add listen_exporter && rc-service listen_exporter start", "sh /.post-install"))},
		{Name: "and nothing once it is enabled", Run: steps(m.run("rc-update add listen_exporter default"), m.says("", "sh /.post-install"))},
	}
}

func (m *machine) serves() []host.Check {
	var pid string
	return []host.Check{
		{Name: "the service starts", Run: m.run("rc-service listen_exporter start")},
		{Name: "it serves", Run: m.rows([]string{"10190 any 1"}, "host_listen_port", "port", "scope")},
		{Name: "OpenRC says so", Run: m.run("rc-service listen_exporter status")},
		{Name: "as its own user, without any right", Run: func() (err error) {
			if pid, err = m.pid(); err != nil {
				return err
			}
			return m.says(fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\nCapEff:\t0000000000000000", uid), "grep -E '^(Uid|CapEff):' /proc/"+pid+"/status")()
		}},
		{Name: "its state is in a directory of its own", Run: m.says(user+" 700", "stat -c '%U %a' /"+state)},
		{Name: "its log is in a file", Run: func() error {
			return host.Await(minute, m.run("grep -q 'msg=.*istening' /"+log))
		}},
		{Name: "settings are those of conf.d", Run: steps(
			m.write("etc/conf.d/listen_exporter", "LISTEN_EXPORTER_OPTS=\"--web.listen-address=127.0.0.1:10190\"\n"),
			m.run("rc-service listen_exporter restart"), m.rows([]string{"10190 loopback 1"}, "host_listen_port", "port", "scope"))},
	}
}

func (m *machine) reloads() []host.Check {
	declare := func(name string) func() error {
		return m.write("etc/listen_exporter/ports.yml", "services:\n  - {name: "+name+", port: 22}\n")
	}
	return []host.Check{
		{Name: "a registry in the usual place is read", Run: steps(declare("ssh"), m.run("rc-service listen_exporter restart"),
			m.rows([]string{"ssh 0"}, "host_listen_service_up", "service_name"))},
		{Name: "a reload reads it again", Run: steps(declare("telnet"), m.run("rc-service listen_exporter reload"),
			m.rows([]string{"telnet 0"}, "host_listen_service_up", "service_name"),
			func() error { return host.Await(minute, m.run("grep -q 'reloaded the registry.*by=SIGHUP' /"+log)) })},
	}
}

func (m *machine) restarts() []host.Check {
	var before string
	return []host.Check{
		{Name: "an exporter that is killed serves again", Run: func() (err error) {
			if before, err = m.pid(); err != nil {
				return err
			}
			return errors.Join(m.run("kill -KILL "+before)(), host.Await(minute, func() error {
				if now, err := m.pid(); err != nil || now == before {
					return fmt.Errorf("the process is %s: %w", now, err)
				}
				return nil
			}), m.rows([]string{"1"}, "host_listen_state_last_write_successful")())
		}},
		{Name: "and goes on from what it remembered after a restart", Run: steps(m.run("rc-service listen_exporter restart"),
			m.rows([]string{"1"}, "host_listen_state_loaded"))},
	}
}

func (m *machine) removes() []host.Check {
	return []host.Check{
		{Name: "the last script stops it", Run: steps(m.run("sh /.pre-deinstall"), m.says("", "pgrep --full '^/usr/bin/listen_exporter ' || true"))},
		{Name: "and disables it", Run: m.says("", "rc-update show default | grep listen_exporter || true")},
		{Name: "what it remembered stays", Run: m.run("test -s /" + state + "/state")},
	}
}
