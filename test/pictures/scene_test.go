//go:build linux

package pictures

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// users are those of the hosts. The page and the table show them by name.
const users = `root:x:0:0:root:/root:/bin/sh
www-data:x:33:33::/var/www:/usr/sbin/nologin
postfix:x:107:107::/var/spool/postfix:/usr/sbin/nologin
_chrony:x:108:108::/var/lib/chrony:/usr/sbin/nologin
postgres:x:110:110::/var/lib/postgresql:/bin/sh
redis:x:111:111::/var/lib/redis:/usr/sbin/nologin
node_exporter:x:112:112::/:/usr/sbin/nologin
`

// registry says what should listen on the hosts.
const registry = `services:
  - {name: ssh, purpose: remote administration, port: 22, process: sshd}
  - {name: node_exporter, purpose: metrics of the host, port: 9100, process: node_exporter}
  - {name: ntp, purpose: time, port: 323, proto: udp, bind: loopback, process: chronyd}
  - {name: web, purpose: the shop, owner: team web, port: [80, 443], process: nginx, hosts: ["web-*"]}
  - {name: smtp, purpose: outgoing mail, owner: team mail, port: 25, bind: loopback, process: master, hosts: ["web-*"]}
  - {name: postgres, purpose: orders, owner: team data, port: 5432, bind: loopback, process: postgres, hosts: ["web-*"]}
  - {name: redis, purpose: sessions, owner: team web, port: 6379, bind: loopback, process: redis-server, hosts: ["web-*"]}
  - {name: backup, purpose: nightly backup, owner: team data, port: 9102, process: bacula-fd, hosts: ["web-*"]}
  - {name: mail, purpose: incoming mail, owner: team mail, port: 25, process: master, hosts: ["mail-*"]}
  - {name: imap, purpose: mailboxes, owner: team mail, port: 993, process: dovecot, hosts: ["mail-*"]}
forbidden:
  - {port: 23, reason: telnet is not used here}
`

// service is a program that listens: not the real one, but one of this name, in such a unit.
type service struct {
	program, unit string
	uid           uint32
	sockets       []string // such as tcp/0.0.0.0:80
}

var (
	sshd         = service{"sshd", "ssh.service", 0, []string{"tcp/0.0.0.0:22", "tcp/[::]:22"}}
	nodeExporter = service{"node_exporter", "node_exporter.service", 112, []string{"tcp/[::]:9100"}}
	chronyd      = service{"chronyd", "chrony.service", 108, []string{"udp/127.0.0.1:323", "udp/[::1]:323"}}
)

// machine is a host of the scene. Its processes are those of this one; its network and its name are its own.
type machine struct {
	name    string
	number  int
	network string // its network namespace; empty for that of the test
}

// address is that of the host, as Prometheus sees it.
func (m *machine) address() string { return fmt.Sprintf("10.20.%d.2", m.number) }

// inside calls do in the network of the host.
func (m *machine) inside(t *testing.T, do func() error) {
	t.Helper()
	run := do
	if m.network != "" {
		run = func() error { return netnstest.Elsewhere(m.network, do) }
	}
	if err := run(); err != nil {
		t.Fatalf("%s: %v", m.name, err)
	}
}

// newNetwork makes a network namespace, which ends with the test, and returns its path.
func newNetwork(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	process, err := host.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
}

// connect gives a host a cable to the network of Prometheus.
func (m *machine) connect(t *testing.T, to *machine) {
	t.Helper()
	pid := func(m *machine) string {
		if m.network == "" {
			return "1"
		}
		return strings.Split(m.network, "/")[2]
	}
	ip(t, fmt.Sprintf("link add cable%[1]d type veth peer name cable%[1]d_\nlink set cable%[1]d_ netns %[2]s\n", m.number, pid(to)))
	if m.network != "" {
		ip(t, fmt.Sprintf("link set cable%d netns %s\n", m.number, pid(m)))
	}
	m.inside(t, func() error {
		ip(t, fmt.Sprintf("link set lo up\naddr add %[2]s/30 dev cable%[1]d\nlink set cable%[1]d up\n", m.number, m.address()))
		return nil
	})
	to.inside(t, func() error {
		ip(t, fmt.Sprintf("addr add 10.20.%[1]d.1/30 dev cable%[1]d_\nlink set cable%[1]d_ up\n", m.number))
		return nil
	})
}

// ip runs lines of ip(8) commands in the network namespace of the calling thread.
func ip(t *testing.T, lines string) {
	t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s%s", err, lines, output)
	}
}

// start starts services.
func (m *machine) start(t *testing.T, services ...service) (last *netnstest.Process) {
	t.Helper()
	for _, s := range services {
		p := netnstest.Program{Name: s.program, UID: s.uid, Cgroup: netnstest.NewCgroup(t, "system.slice/"+s.unit)}
		m.inside(t, func() error {
			for _, socket := range s.sockets {
				proto, address, _ := strings.Cut(socket, "/")
				var options []netnstest.Option
				if strings.HasPrefix(address, "[") && len(s.sockets) > 1 {
					options = append(options, netnstest.IPv6Only())
				}
				fd, err := netnstest.Listen(proto, address, options...)
				if err != nil {
					return err
				}
				if err := unix.Fchown(fd, int(s.uid), -1); err != nil { // the user who made it
					return err
				}
				p.Sockets = append(p.Sockets, fd)
			}
			return nil
		})
		last = netnstest.HandOver(t, p)
	}
	return last
}

// fill fills the accept queue of a listener of the host, whose program accepts nobody.
func (m *machine) fill(t *testing.T, s service) {
	t.Helper()
	m.inside(t, func() error {
		_, address, _ := strings.Cut(s.sockets[0], "/")
		fd, err := netnstest.Listen("tcp", address)
		if err != nil {
			return err
		}
		if err := unix.Listen(fd, 1); err != nil {
			return err
		}
		netnstest.HandOver(t, netnstest.Program{Name: s.program, UID: s.uid, Cgroup: netnstest.NewCgroup(t, "system.slice/"+s.unit), Sockets: []int{fd}})
		for range 2 { // one more than the limit
			client, err := netnstest.Bind("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			if err := netnstest.Connect(client, address); err != nil {
				return err
			}
		}
		return nil
	})
}

// command returns a command that runs the program on the host.
func (m *machine) command(arguments ...string) *exec.Cmd {
	named := []string{"--uts", "sh", "-c", `echo "$0" >/proc/sys/kernel/hostname && exec "$@"`, m.name}
	return exec.Command("unshare", append(append(named, os.Getenv(host.Variable)), arguments...)...)
}

// watch starts the exporter of the host.
func (m *machine) watch(t *testing.T, flags ...string) (e *program.Exporter) {
	t.Helper()
	flags = append(flags, "--collector.interval=1s")
	if m.network != "" {
		flags = append(flags, "--collector.netns=self")
	}
	m.inside(t, func() error {
		e = program.Launch(t, m.command(flags...)).Listen()
		return nil
	})
	return e
}

// output runs a command of the program on the host.
func (m *machine) output(t *testing.T, arguments ...string) string {
	t.Helper()
	cmd := m.command(arguments...)
	output, err := cmd.Output()                         // stderr says that this is not the machine's first PID namespace
	if err != nil && cmd.ProcessState.ExitCode() != 1 { // 1: there are violations
		t.Fatalf("%s: %v", cmd, err)
	}
	return string(output)
}

// web makes the host that the pictures of the page and the terminal show, and starts its exporter.
func web(t *testing.T, dir string) (*machine, *program.Exporter) {
	t.Helper()
	passwd := filepath.Join(dir, "passwd")
	if err := os.WriteFile(passwd, []byte(users), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(passwd, "/etc/passwd", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ports.yml")
	if err := os.WriteFile(file, []byte(registry), 0o644); err != nil {
		t.Fatal(err)
	}
	m := &machine{name: "web-1", number: 1}
	m.start(t, sshd, nodeExporter, chronyd,
		service{"nginx", "nginx.service", 33, []string{"tcp/0.0.0.0:80", "tcp/[::]:80", "tcp/0.0.0.0:443", "tcp/[::]:443"}},
		service{"master", "postfix@-.service", 107, []string{"tcp/127.0.0.1:25", "tcp/[::1]:25"}},
		service{"postgres", "postgresql@17-main.service", 110, []string{"tcp/0.0.0.0:5432", "tcp/[::]:5432"}},
		service{"redis-server", "redis-server.service", 111, []string{"tcp/127.0.0.1:6379", "tcp/[::1]:6379"}},
		service{"python3", "session-4.scope", 33, []string{"tcp/0.0.0.0:8000"}},
	)
	return m, m.watch(t, "--registry.file="+file)
}
