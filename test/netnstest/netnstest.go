//go:build linux

// Package netnstest runs tests in network namespaces of their own, where they can open any port and meet nobody else's sockets. It
// is only for tests.
//
// A thread is in a namespace, and goroutines move between threads. So these functions run the test binary once more in the
// namespace, with the same test selected, and call the test's own code when they find themselves in that second process.
//
// Each namespace has a loopback interface that is up, and the interface [Device] with addresses.
package netnstest

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Device is the name of an interface of the namespace. It is one end of a veth pair whose other end is in the same namespace.
const Device = "test0"

// interfaces makes them, as input of ip -batch, with an address of [Device] for each scope: private (RFC 1918, RFC 4193), public
// (RFC 5737, RFC 3849) and link-local. With nodad an address works at once: nobody else can have it.
const interfaces = `link set lo up
link add ` + Device + ` type veth peer name test1
link set ` + Device + ` up
link set test1 up
addr add 10.0.0.1/24 broadcast + dev ` + Device + `
addr add 203.0.113.1/24 dev ` + Device + `
addr add fe80::1/64 dev ` + Device + ` nodad
addr add fd00::1/64 dev ` + Device + ` nodad
addr add 2001:db8::1/64 dev ` + Device + ` nodad
`

// roleVariable holds the role of a process that this package started.
const roleVariable = "LISTEN_EXPORTER_NETNSTEST"

// The roles of a process. The one that go test started has none.
const (
	roleInside = "inside" // runs a test's body in the namespace, as root
	roleNobody = "nobody" // runs what a test does as nobody, in the same namespace
	roleHolder = "holder" // holds sockets for another process
)

// numberVariable holds the number of a holder of [HoldInside].
const numberVariable = "LISTEN_EXPORTER_NETNSTEST_NUMBER"

// heldMark is what a holder prints when it is ready.
const heldMark = "netnstest: held"

// graceTime is how much earlier than the test itself the second process times out, so that its goroutines are shown.
const graceTime = 5 * time.Second

// Run runs body as root in a fresh network namespace, and in a mount namespace whose mounts nobody else sees.
//
// If that is not possible the test is skipped. A test can have one Run. What comes before it runs in both processes. The output of
// the second process is logged.
func Run(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	switch os.Getenv(roleVariable) {
	case "":
		needRoot(t)
		cmd := again(t, roleInside)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
		finish(t, t.Name(), cmd)
	case roleInside:
		Configure(t)
		body(t)
	default:
		body(t)
	}
}

// RunAsRootAndNobody runs hold and then read as root in a fresh network namespace, like [Run]. Then it runs read in the same
// namespace as nobody, with no privilege and no way to gain one. What hold opened stays open meanwhile, but the process that runs
// as nobody does not see variables that hold set. hold may be nil.
func RunAsRootAndNobody(t *testing.T, hold, read func(t *testing.T)) {
	t.Helper()
	if os.Getenv(roleVariable) == roleNobody {
		checkNobody(t)
		read(t)
		return
	}
	Run(t, func(t *testing.T) {
		if hold != nil {
			hold(t)
		}
		t.Run("as root", read)
		whole := t
		t.Run("as nobody", func(t *testing.T) {
			same := again(whole, roleNobody)
			cmd := Nobody(t, same.Path, same.Args[1:]...)
			cmd.Env = same.Env
			finish(t, whole.Name(), cmd)
		})
	})
}

// Hold starts a process in a fresh network namespace, has it call hold there, and returns its pid when hold has returned. The
// process ends with the test or benchmark.
//
// cloneFlags are further namespaces for it, such as CLONE_NEWPID, which makes it PID 1. A test can have one Hold. What comes before
// it runs in the holder too.
func Hold(tb testing.TB, cloneFlags uintptr, hold func()) (pid int) {
	tb.Helper()
	if os.Getenv(roleVariable) == roleHolder {
		Configure(tb)
		hold()
		held()
	}
	needRoot(tb)
	cmd := again(tb, roleHolder)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | cloneFlags}
	return startHolder(tb, cmd)
}

// HoldInside starts processes in the test's namespace, one after the other, and has each call hold with its own number, from 0. It
// returns when hold has returned in the last one. They end with the test.
//
// A test can have one HoldInside, inside [Run]. What comes before it runs in each holder too.
func HoldInside(t *testing.T, processes int, hold func(number int)) {
	t.Helper()
	if os.Getenv(roleVariable) == roleHolder {
		number, err := strconv.Atoi(os.Getenv(numberVariable))
		if err != nil {
			t.Fatal(err)
		}
		hold(number)
		held()
	}
	for number := range processes {
		cmd := again(t, roleHolder)
		cmd.Env = append(cmd.Env, numberVariable+"="+strconv.Itoa(number))
		startHolder(t, cmd)
	}
}

// held reports that the process holds what it should, and ends it with the test.
func held() {
	fmt.Println(heldMark)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test closes it, or is no more
	os.Exit(0)
}

// startHolder starts a process and waits until it holds what it should.
func startHolder(tb testing.TB, cmd *exec.Cmd) (pid int) {
	tb.Helper()
	end, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		skipIfRefused(tb, err)
		tb.Fatalf("start a process that holds sockets: %v", err)
	}
	tb.Cleanup(func() {
		_ = end.Close()
		_ = cmd.Wait()
	})
	var said strings.Builder
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if strings.HasSuffix(lines.Text(), heldMark) { // a benchmark's name may come before it
			return cmd.Process.Pid
		}
		said.WriteString(lines.Text() + "\n")
	}
	tb.Fatalf("the process that should hold sockets ended:\n%s", &said)
	return 0
}

// needRoot skips the test where no namespace can be made.
func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root to make a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		tb.Skip("needs ip, of iproute2, to configure a network namespace")
	}
}

// skipIfRefused skips the test if err is what root in a container gets when it may not make namespaces.
func skipIfRefused(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL) {
		tb.Skipf("the kernel refuses to make a network namespace: %v", err)
	}
}

// again returns the command that runs the same test once more.
func again(tb testing.TB, role string) *exec.Cmd {
	tb.Helper()
	binary, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	arguments := []string{"-test.v", "-test.count=1"}
	switch tb := tb.(type) {
	case *testing.T:
		arguments = append(arguments, "-test.run="+pattern(tb.Name()))
		if deadline, ok := tb.Deadline(); ok && role != roleHolder {
			arguments = append(arguments, fmt.Sprintf("-test.timeout=%s", max(time.Until(deadline)-graceTime, time.Second)))
		}
	default:
		arguments = append(arguments, "-test.run=^$", "-test.bench="+pattern(tb.Name()), "-test.benchtime=1x")
	}
	if testing.Short() {
		arguments = append(arguments, "-test.short")
	}
	// The directory for the coverage of several processes. Nobody could not write there.
	if coverage := flag.Lookup("test.gocoverdir"); coverage != nil && coverage.Value.String() != "" && role != roleNobody {
		arguments = append(arguments, "-test.gocoverdir="+coverage.Value.String())
	}
	cmd := exec.Command(binary, arguments...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}

// pattern returns what -test.run or -test.bench must be to select exactly the test with a name.
func pattern(name string) string {
	levels := strings.Split(name, "/")
	for i, level := range levels {
		levels[i] = "^" + regexp.QuoteMeta(level) + "$"
	}
	return strings.Join(levels, "/")
}

// finish runs the command that again made for the test called name, and makes its end that of t.
func finish(t *testing.T, name string, cmd *exec.Cmd) {
	t.Helper()
	output, err := cmd.CombinedOutput()
	exit := new(exec.ExitError)
	if err != nil && !errors.As(err, &exit) {
		skipIfRefused(t, err)
		t.Fatalf("run %s: %v", cmd, err)
	}
	// Not at the start of a line, where the tools that read the output of go test would take it for this process's own.
	t.Logf("another process:\n| %s", strings.ReplaceAll(strings.TrimSpace(string(output)), "\n", "\n| "))
	switch {
	case err != nil:
		t.Fatalf("another process: %v", err)
	case regexp.MustCompile(`(?m)^[ |]*--- SKIP: `).Match(output):
		t.Skip("all or a part of it was skipped in another process, for the reason above")
	case !regexp.MustCompile(`(?m)^ *--- PASS: ` + regexp.QuoteMeta(name) + ` `).Match(output):
		t.Fatalf("another process ran no test called %s", name)
	}
}

// Configure makes the interfaces of a new network namespace that the calling thread is in.
func Configure(tb testing.TB) {
	tb.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(interfaces)
	if output, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("configure a network namespace: ip -batch: %v\n%s", err, output)
	}
}

// checkNobody fails the test if it has kept a privilege.
func checkNobody(t *testing.T) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`Uid:\t65534\t65534\t65534\t65534`, `Gid:\t65534\t65534\t65534\t65534`, `Groups:\s*`,
		`CapInh:\t0+`, `CapPrm:\t0+`, `CapEff:\t0+`, `CapBnd:\t0+`, `CapAmb:\t0+`, `NoNewPrivs:\t1`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).Match(status) {
			t.Fatalf("/proc/self/status has no line %q:\n%s", want, status)
		}
	}
}
