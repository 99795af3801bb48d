//go:build linux

package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestAuditPassesWhatListWroteUntilAPortOpensOrCloses(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	netnstest.Run(t, testFromListToAudit)
}

// runAs runs the program to its end as root or nobody, in the test's network namespace.
func runAs(t *testing.T, user string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	args = append(args, "--collector.netns=self")
	if user == "root" {
		return program.Run(t, args...)
	}
	e := program.Launch(t, netnstest.Nobody(t, program.Path(t), args...))
	return e.Wait(), e.Stdout.String(), e.Stderr.String()
}

func TestAuditSaysWhatItAssumesOfItsOwnNamespace(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	netnstest.Run(t, func(t *testing.T) {
		file := filepath.Join(host.OpenDir(t), "ports.yml")
		if err := os.WriteFile(file, []byte(`services: [{name: web, port: 443, bind: 0.0.0.0}, {name: web6, port: 443, bind: "::"}]`), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			bindV6Only, want string
			code             int
		}{
			{"0", "tcp 443: assumed: web " + assumedUp, ExitOK}, {"1", "tcp 443: missing: web " + assumedDown, ExitFound},
		} {
			if err := os.WriteFile("/proc/sys/net/ipv6/bindv6only", []byte(test.bindV6Only), 0); err != nil {
				t.Fatal(err)
			}
			closeNow := program.Listen(t, "tcp", "[::]:443")
			for _, user := range []string{"root", "nobody"} {
				code, stdout, stderr := runAs(t, user, "audit", "--collector.source=procfs", "--registry.file="+file)
				if code != test.code || !strings.Contains(stdout, test.want) {
					t.Errorf("bindv6only %s, as %s: exit code %d, want %d, and %q in:\n%s%s", test.bindV6Only, user, code, test.code, test.want, stdout, stderr)
				}
			}
			closeNow()
		}
	})
}

func testFromListToAudit(t *testing.T) {
	users := []string{"root", "nobody"}
	for _, l := range []struct{ proto, address string }{
		{"tcp", "[::]:443"}, {"udp", "0.0.0.0:53"}, {"tcp", "127.0.0.1:8080"}, {"udp", "[fe80::1%" + netnstest.Device + "]:546"}, {"tcp", "10.0.0.1:5432"},
	} {
		program.Listen(t, l.proto, l.address)
	}
	program.Listen(t, "tcp", "0.0.0.0:22", netnstest.ReusePort())
	program.Listen(t, "tcp", "0.0.0.0:22", netnstest.ReusePort())
	program.Listen(t, "tcp", "[::]:22", netnstest.IPv6Only())
	program.Listen(t, "udp", "0.0.0.0:45000") // a client
	line := fmt.Sprintf(`(?m)^tcp +127\.0\.0\.1 +8080 +loopback +- +- +%s\S* +0/%d +%d +root$`, regexp.QuoteMeta(netnstest.OwnName(t)), unix.SOMAXCONN, os.Getpid())
	if _, table, _ := runAs(t, "root", "list"); !regexp.MustCompile(line).MatchString(table) {
		t.Errorf("list as root: no line %s in:\n%s", line, table)
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, author := range users {
		if _, text, _ := runAs(t, author, "list", "--format=json"); strings.Contains(text, fmt.Sprintf("\n            %q\n", own)) != (author == "root") {
			t.Errorf("list as %s shows %s wrongly:\n%s", author, own, text)
		}
		redis := program.Listen(t, "tcp", "127.0.0.1:6379")
		code, text, stderr := runAs(t, author, "list", "--format=registry")
		if code != 0 || stderr != "" {
			t.Fatalf("list as %s: exit code %d, want 0: %s", author, code, stderr)
		}
		if names := strings.Contains(text, "process: "); names != (author == "root") {
			t.Errorf("list as %s declares processes: %t:\n%s", author, names, text)
		}
		file := filepath.Join(host.OpenDir(t), "ports.yml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		audit := func(when string, code int, want ...string) {
			t.Helper()
			for _, user := range users {
				gotCode, stdout, stderr := runAs(t, user, "audit", "--registry.file="+file)
				warned := strings.Contains(stderr, " were not checked: that needs root")
				if gotCode != code || !slices.EqualFunc(program.Lines(stdout), want, strings.HasPrefix) || warned != (user == "nobody" && author == "root") {
					t.Errorf("audit as %s of the registry by %s, %s: exit code %d, want %d, and lines that start with %q:\n%s%s",
						user, author, when, gotCode, code, want, stdout, stderr)
				}
			}
		}
		audit("as it was", 0, "8 listeners as declared, 0 violations, 0 missing services")
		mail := program.Listen(t, "tcp", "0.0.0.0:25")
		audit("with another port", 1, "tcp 0.0.0.0:25: unregistered: no service declares the port", "8 listeners as declared, 1 violation, 0 missing services")
		mail()
		redis()
		audit("without a service", 1, "tcp 6379: missing: ", "7 listeners as declared, 0 violations, 1 missing service")
		exposed := program.Listen(t, "tcp", "0.0.0.0:6379")
		audit("with a service at another address", 1, "tcp 0.0.0.0:6379: bind: ", "7 listeners as declared, 1 violation, 0 missing services")
		exposed()
	}
}

func TestListOfAllNamespacesNamesThem(t *testing.T) {
	pid := netnstest.Hold(t, 0, func() {
		if _, err := netnstest.Listen("tcp", "0.0.0.0:22"); err != nil {
			t.Fatal(err)
		}
	})
	procfs := t.TempDir() // of a host on which nothing listens
	program.NewProcfsAt(t, procfs)
	if err := os.Symlink(fmt.Sprintf("/proc/%d", pid), filepath.Join(procfs, "7")); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := program.Run(t, "list", "--collector.netns=all", "--path.procfs="+procfs)
	lines := columns(stdout)
	if code != 0 || len(lines) < 2 || len(lines[0]) != 11 || lines[0][8] != "NETNS" {
		t.Fatalf("exit code %d, want 0, and a column NETNS:\n%s%s", code, stdout, stderr)
	}
	if last := lines[len(lines)-1]; last[2] != "22" || !regexp.MustCompile(`^(unknown-\d+|[0-9a-f-]{12,36})$`).MatchString(last[8]) {
		t.Errorf("the last line is %q, want port 22 of a namespace with a name", last)
	}
	for _, line := range lines[1 : len(lines)-1] {
		if line[8] != "-" {
			t.Errorf("%q is not before the listeners of other namespaces", line)
		}
	}
	_, stdout, _ = program.Run(t, "list", "--collector.netns=all", "--format=json", "--path.procfs="+procfs)
	if want := fmt.Sprintf(`"netns": %q`, lines[len(lines)-1][8]); !strings.Contains(stdout, want) {
		t.Errorf("no %s in:\n%s", want, stdout)
	}
	_, stdout, _ = program.Run(t, "list", "--collector.netns=all", "--format=registry", "--path.procfs="+procfs)
	if strings.Count(stdout, "port: 22\n") != 1 {
		t.Errorf("want only port 22 of the main namespace:\n%s", stdout)
	}
}

// runOnTerminal runs the program on a terminal with so many columns, and returns its output.
func runOnTerminal(t *testing.T, columns uint16, environment []string, args ...string) string {
	t.Helper()
	cmd, master := startOnTerminal(t, unix.Winsize{Row: 24, Col: columns}, environment, args...)
	return readToEnd(t, cmd, master)
}

// startOnTerminal starts the program on a terminal of this size, and returns the other end of the terminal.
func startOnTerminal(t *testing.T, size unix.Winsize, environment []string, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	cmd := program.Command(t, args...)
	cmd.Env = append(cmd.Env, environment...)
	return cmd, startCommandOnTerminal(t, size, cmd)
}

func startCommandOnTerminal(t *testing.T, size unix.Winsize, cmd *exec.Cmd) *os.File {
	t.Helper()
	master, slave := openTerminal(t, size)
	cmd.Stdout = slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	return master
}

// openTerminal returns both ends of a terminal of this size: the one where somebody types, and the one of the program.
func openTerminal(t *testing.T, size unix.Winsize) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs a terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &size),
	); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a terminal: %v", err)
	}
	return master, slave
}

// readToEnd returns what a program writes on its terminal until it ends well.
func readToEnd(t *testing.T, cmd *exec.Cmd, master *os.File) string {
	t.Helper()
	seen, err := io.ReadAll(master)
	if err != nil && !errors.Is(err, unix.EIO) { // the other end is closed
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return strings.ReplaceAll(string(seen), "\r\n", "\n")
}

func TestListOnATerminal(t *testing.T) {
	procfs, file := program.NewProcfs(t), program.WriteFile(t, "ports.yml", commandRegistry)
	args := []string{"list", "--path.procfs=" + procfs, "--registry.file=" + file, "--log.level=error"}
	for _, test := range []struct {
		name        string
		environment []string
		colours     bool
	}{
		{"colours", []string{"TERM=xterm-256color", "NO_COLOR="}, true},
		{"NO_COLOR", []string{"TERM=xterm-256color", "NO_COLOR=1"}, false},
		{"a dumb terminal", []string{"TERM=dumb", "NO_COLOR="}, false},
		{"an unknown terminal", []string{"TERM=", "NO_COLOR="}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen := runOnTerminal(t, 80, test.environment, args...)
			if coloured := strings.Contains(seen, paintBad+"missing"+paintNormal); coloured != test.colours || strings.Contains(seen, "\x1b") != test.colours {
				t.Errorf("colours: %t, want %t:\n%q", coloured, test.colours, seen)
			}
			want := "\n\n6 listeners: 2 as declared, 3 violations, 1 ephemeral; 1 missing service\nthe holders of 6 listeners are not known"
			if !strings.HasSuffix(seen, want+"\n") {
				t.Errorf("no summary at the end:\n%s", seen)
			}
		})
	}
	// Other formats are the same everywhere.
	for _, format := range []string{FormatJSON, FormatRegistry} {
		if seen := runOnTerminal(t, 80, []string{"TERM=xterm"}, append(args, "--format="+format)...); strings.Contains(seen, "\x1b") || strings.Contains(seen, "6 listeners:") {
			t.Errorf("%s:\n%q", format, seen)
		}
	}
}
