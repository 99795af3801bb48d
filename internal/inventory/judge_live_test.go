//go:build linux

package inventory_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// livePorts is a registry whose verdicts depend on what the kernel says: holders, families and namespaces. The registry's own tests
// have every form of a declaration.
const livePorts = `
services:
  - {name: ssh, port: 22, process: sshd}
  - {name: dual, port: 9001, bind: 0.0.0.0}
  - {name: six, port: 9002, bind: 0.0.0.0}
  - {name: both, port: 9003}
  - {name: vpn, port: 51820, proto: udp}
  - {name: workers, port: 9301, process: nginx}
  - {name: shared, port: 9302, process: nginx}
  - {name: shell, port: 9303, process: nginx}
  - {name: unit, port: 9304, unit: demo.service, process: demo}
  - {name: stranger, port: 9305, unit: other.service}
  - {name: smtp, port: 9306, process: master, unit: "m?il.service"}
  - {name: executable, port: 9307, process: EXECUTABLE}
  - {name: contained, port: 9308, unit: demo.service}
  - {name: local, port: 9401, bind: loopback}
  - {name: device, port: 9402, bind: "%test0"}
  - {name: wide, port: 9403, bind: ["%test0", 192.0.2.1]}
`

// liveSockets are those that a program called plain holds.
var liveSockets = []struct {
	proto, address string
	options        []netnstest.Option
}{
	{"tcp", "[::]:9001", []netnstest.Option{netnstest.ReusePort()}}, // one of the two takes IPv4
	{"tcp", "[::]:9001", []netnstest.Option{netnstest.ReusePort(), netnstest.IPv6Only()}},
	{"tcp", "[::]:9002", []netnstest.Option{netnstest.IPv6Only()}},
	{"tcp", "[::]:9003", nil},
	{"tcp", "0.0.0.0:9111", nil},
	{"tcp", "0.0.0.0:9401", []netnstest.Option{netnstest.ToDevice("lo")}},
	{"tcp", "0.0.0.0:9402", []netnstest.Option{netnstest.ToDevice(netnstest.Device)}},
	{"tcp", "0.0.0.0:9403", nil},
	{"udp", "0.0.0.0:51820", nil},
	{"udp", "0.0.0.0:51821", nil}, // ephemeral, and nobody declares it: most likely a client
}

// liveVerdicts are the verdicts on them and on the sockets of other programs, and liveUps the services that are up.
func liveVerdicts(exact bool, source string) map[string]string {
	of := map[string]string{
		"tcp 0.0.0.0:22":           " ssh",
		"tcp [::]:9001":            "bind dual",
		"tcp [::]:9002":            "bind six",
		"tcp [::]:9003":            " both",
		"tcp 0.0.0.0:9111":         "unregistered ",
		"udp 0.0.0.0:51820":        " vpn",
		"tcp 0.0.0.0:9301":         " workers",
		"tcp 0.0.0.0:9302":         " shared",
		"tcp 0.0.0.0:9303":         " shell",
		"tcp 0.0.0.0:9304":         " unit",
		"tcp 0.0.0.0:9305":         " stranger",
		"tcp 0.0.0.0:9306":         " smtp",
		"tcp 0.0.0.0:9307":         " executable",
		"tcp 0.0.0.0:9308":         " contained",
		"tcp 0.0.0.0:9401":         " local",
		"tcp 0.0.0.0:9402":         " device",
		"tcp 0.0.0.0:9403":         "bind wide",
		"tcp 0.0.0.0:10190":        " listen_exporter", // the exporter's own
		"another tcp 0.0.0.0:22":   "not judged",
		"another tcp 0.0.0.0:2222": "not judged",
	}
	if exact { // one of two programs is another, one is in another unit, and one in a container that is in none
		of["tcp 0.0.0.0:9302"], of["tcp 0.0.0.0:9303"], of["tcp 0.0.0.0:9305"] = "process shared", "process shell", "process stranger"
		of["tcp 0.0.0.0:9308"] = "process contained"
	}
	if source == "procfs" { // does not know the interface
		of["tcp 0.0.0.0:9401"], of["tcp 0.0.0.0:9403"] = "bind local", " wide"
	}
	return of
}

func liveUps(exact bool, source string) map[string]string {
	of := map[string]string{
		"ssh tcp": "up", "dual tcp": "up", "six tcp": "down", "both tcp": "up", "vpn udp": "up", "workers tcp": "up", "shared tcp": "up",
		"shell tcp": "up", "unit tcp": "up", "stranger tcp": "up", "smtp tcp": "up", "executable tcp": "up", "contained tcp": "up",
		"local tcp": "up", "device tcp": "up", "wide tcp": "down",
	}
	if exact {
		of["contained tcp"], of["shell tcp"], of["stranger tcp"] = "down", "down", "down" // one of the sockets on the port of shared is nginx's
	}
	if source == "procfs" { // does not know, so net.ipv6.bindv6only decides
		of["dual tcp"], of["six tcp"] = "up, assumed", "up, assumed"
		of["local tcp"], of["wide tcp"] = "down", "up"
	}
	return of
}

// openLiveSockets has programs listen, in the test's namespace and in another one.
func openLiveSockets(t *testing.T) {
	t.Helper()
	open := func(proto, address string, options ...netnstest.Option) int {
		fd, err := netnstest.Listen(proto, address, options...)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	program := func(name string, sockets ...int) {
		netnstest.HandOver(t, netnstest.Program{Name: name, UID: serviceUser, Sockets: sockets})
	}
	var plain []int
	for _, s := range liveSockets {
		plain = append(plain, open(s.proto, s.address, s.options...))
	}
	program("plain", plain...)
	program("sshd", open("tcp", "0.0.0.0:22"))
	shared := []netnstest.Option{netnstest.ReusePort()}
	for address, names := range map[string][2]string{"0.0.0.0:9301": {"nginx", "nginx"}, "0.0.0.0:9302": {"nginx", "evil"}} {
		// Both are open before one of them is handed over: only sockets of one user share a port.
		first, second := open("tcp", address, shared...), open("tcp", address, shared...)
		program(names[0], first)
		program(names[1], second)
	}
	program("sh", open("tcp", "0.0.0.0:9303"))
	group := netnstest.NewCgroup(t, "demo.service")
	serve(t, "demo", group, 9304)
	serve(t, "demo", group, 9305)
	mail := netnstest.NewCgroup(t, "mail.service")
	master := netnstest.HandOver(t, netnstest.Program{Name: "master", Cgroup: mail, UID: serviceUser, Sockets: []int{open("tcp", "0.0.0.0:9306")}})
	master.PassOn(t, netnstest.Program{Name: "smtpd", Cgroup: mail, UID: serviceUser})
	serve(t, "web", netnstest.NewCgroup(t, "docker-"+containerA+".scope"), 9308)
	program("MainThread", open("tcp", "0.0.0.0:9307")) // is a shell
	pod(t, 22, 2222)
}

func TestRealSocketsAreJudgedOnce(t *testing.T) {
	netnstest.RunAsHost(t, func(t *testing.T) {
		openLiveSockets(t)
		file := filepath.Join(host.OpenDir(t), "ports.yml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(livePorts, "EXECUTABLE", shell(t))), 0o644); err != nil {
			t.Fatal(err)
		}
		for who, rights := range map[string]netnstest.Rights{"as root": netnstest.AsRoot, "as nobody": netnstest.AsNobody} {
			for _, source := range []string{"netlink", "procfs"} {
				t.Run(who+" by "+source, func(t *testing.T) {
					testLiveVerdicts(t, file, source, rights)
				})
			}
		}
	})
}

// shell returns the name of the executable of netnstest's programs.
func shell(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sh")
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path)
}

func testLiveVerdicts(t *testing.T, file, source string, rights netnstest.Rights) {
	exact := rights != netnstest.AsNobody
	options := optionsOf(source, func(o *inventory.Options) {
		o.Netns, o.Holders, o.RegistryFiles, o.RegistryHost = "all", true, []string{file}, "web-1"
	})
	snapshot := startReader(t, rights, task{Options: options, Own: "0.0.0.0:10190"}).snapshot(t)
	got := make(map[string]string)
	for _, l := range snapshot.Listeners {
		at := fmt.Sprintf("%s %s", l.Proto, l.Addr)
		said := "not judged"
		if l.Judged {
			said = l.Verdict.Reason + " " + l.Verdict.Service
		}
		if l.Netns != "" {
			at = "another " + at
		}
		if _, twice := got[at]; twice {
			t.Errorf("%s is there twice", at)
		}
		got[at] = said
	}
	if diff := cmp.Diff(liveVerdicts(exact, source), got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	up := make(map[string]string)
	for _, s := range snapshot.Compliance.Services {
		state := map[bool]string{true: "up", false: "down"}[s.Up]
		if s.Assumed {
			state += ", assumed"
		}
		up[s.Name+" "+s.Proto] = state
	}
	if diff := cmp.Diff(liveUps(exact, source), up); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}
