//go:build linux

package command

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// What the lines of TestWhatIsNotKnownIsOneLine say.
const (
	notSeen    = "listen_exporter: warning: the processes of 4 listeners are not known for certain: that needs "
	notChecked = "listen_exporter: warning: the processes of 2 listeners were not checked: that needs "
	noDetails  = "the interfaces and queue limits of 4 listeners are not known: that needs netlink\n"
	rights     = "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
)

func TestWhatIsNotKnownIsOneLine(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	netnstest.Run(t, func(t *testing.T) {
		program.Listen(t, "tcp", "0.0.0.0:22")
		program.Listen(t, "tcp", "0.0.0.0:80")
		program.Listen(t, "udp", "0.0.0.0:53")
		program.Listen(t, "tcp", "0.0.0.0:5432", netnstest.ToDevice("lo"))
		name := netnstest.OwnName(t)
		file := filepath.Join(host.OpenDir(t), "ports.yml")
		if err := os.WriteFile(file, []byte("services:\n"+
			"- {name: ssh, port: 22, process: "+name+"}\n- {name: web, port: 80}\n"+
			"- {name: dns, port: 53, proto: udp, process: "+name+"}\n- {name: db, port: 5432, bind: loopback}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		bare := func(args ...string) *exec.Cmd {
			cmd := netnstest.Nobody(t, program.Path(t), args...)
			cmd.Args[1], cmd.Args[2] = "--reuid=0", "--regid=0"
			return cmd
		}
		nobody := func(args ...string) *exec.Cmd { return netnstest.Nobody(t, program.Path(t), args...) }
		root := func(args ...string) *exec.Cmd { return exec.Command(program.Path(t), args...) }
		audit := []string{"audit", "--registry.file=" + file}
		test := func(who, want string, command func(args ...string) *exec.Cmd, args ...string) (stdout string) {
			t.Helper()
			e := program.Launch(t, command(append(args, "--collector.netns=self")...))
			e.Wait()
			if diff := cmp.Diff(want, e.Stderr.String()); diff != "" {
				t.Errorf("%s: %q (-want +got on stderr):\n%s", who, args, diff)
			}
			return e.Stdout.String()
		}

		test("root", "", root, "list")
		test("root", "", root, audit...)
		test("nobody", notSeen+"root, or "+rights+"\n", nobody, "list")
		test("nobody", notChecked+"root, or "+rights+"\n", nobody, audit...)
		test("nobody", "", nobody, "list", "--no-collector.holder")
		test("root without capabilities", notSeen+rights+"\n", bare, "list")
		test("root without capabilities", notChecked+rights+"\n", bare, audit...)
		test("root", notChecked+"--collector.holder\n", root, append(audit, "--no-collector.holder")...)
		test("root", "listen_exporter: warning: "+noDetails, root, "list", "--collector.source=procfs")
		test("root", "listen_exporter: warning: the interfaces of 1 listener were not checked: that needs netlink\n", root, append(audit, "--collector.source=procfs")...)
		test("nobody", notSeen+"root, or "+rights+"; "+noDetails, nobody, "list", "--collector.source=procfs")

		// In the formats for programs it is in the answer.
		test("nobody", "", nobody, "list", "--format=registry")
		e := program.Launch(t, nobody("list", "--format=json", "--collector.netns=self"))
		e.Wait()
		var list jsonList
		if err := json.Unmarshal([]byte(e.Stdout.String()), &list); err != nil || e.Stderr.String() != "" {
			t.Fatalf("%v, and on stderr %q", err, e.Stderr.String())
		}
		if diff := cmp.Diff([]string{strings.TrimPrefix(notSeen, "listen_exporter: warning: ") + "root, or " + rights}, list.Unknown); diff != "" {
			t.Errorf("JSON (-want +got):\n%s", diff)
		}

		// A socket of the kernel has no process, whatever the rights.
		vxlan := exec.Command("ip", "-batch", "-")
		vxlan.Stdin = strings.NewReader("link add vxlan7 type vxlan id 7 dstport 4789 dev " + netnstest.Device + "\nlink set vxlan7 up\n")
		if output, err := vxlan.CombinedOutput(); err != nil {
			t.Logf("no VXLAN: %v: %s", err, output)
		} else if table := test("root, and a socket of the kernel", "", root, "list", "--collector.port-include=4789"); !strings.Contains(table, "4789") {
			t.Errorf("VXLAN does not listen:\n%s", table)
		}

		// Processes that are not shown are not known either.
		if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
			t.Fatal(err)
		}
		test("nobody, with hidepid", notSeen+"root, or "+rights+"\n", nobody, "list", "--collector.port-exclude=4789")
		test("root, with hidepid", "", root, "list")
	})
}
