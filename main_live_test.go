package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// liveBinaryVariable names the program that a test has built to the processes that netnstest makes of that test.
const liveBinaryVariable = "LISTEN_EXPORTER_LIVE_BINARY"

// A directory that every Linux system has, for a test to mount something on. The mounts of a test are its own.
const liveMountPoint = "/mnt"

// liveBinary returns the path of the program as make builds it.
func liveBinary(tb testing.TB) string {
	tb.Helper()
	if built := os.Getenv(liveBinaryVariable); built != "" {
		return built
	}
	if os.Geteuid() != 0 {
		tb.Skip("needs root to make a network namespace")
	}
	binary := filepath.Join(tb.TempDir(), program)
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", build, err, output)
	}
	tb.Setenv(liveBinaryVariable, binary)
	return binary
}

// liveListen opens a listening socket that the test's end closes.
func liveListen(t *testing.T, proto, address string, options ...netnstest.Option) {
	t.Helper()
	fd, err := netnstest.Listen(proto, address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
}

// mount mounts a file system in the mount namespace of the test alone.
func mount(t *testing.T, source, target, fstype string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		t.Fatalf("mount %s on %s: %v", source, target, err)
	}
}

// listeners returns the listeners that a page reports, as "tcp ipv4 127.0.0.1:22 loopback privileged". The exporter's own
// one is called own.
func (e *exporter) listeners(page string) []string {
	e.t.Helper()
	found := []string{}
	for series := range samples(e.t, page) {
		if !strings.HasPrefix(series, "host_listen_port{") {
			continue
		}
		address := net.JoinHostPort(label(series, "address"), label(series, "port"))
		if address == e.address {
			found = append(found, "own")
			continue
		}
		found = append(found, strings.Join([]string{
			label(series, "proto"), label(series, "family"), address, label(series, "scope"), label(series, "range"),
		}, " "))
	}
	slices.Sort(found)
	return found
}

// wantListeners checks the listeners that a page reports.
func (e *exporter) wantListeners(page string, want ...string) {
	e.t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), e.listeners(page)); diff != "" {
		e.t.Errorf("listeners (-want +reported):\n%s", diff)
	}
}

// wantSuccess checks the success gauges of a page.
func (e *exporter) wantSuccess(page, tcp, udp string) {
	e.t.Helper()
	found := samples(e.t, page)
	for proto, want := range map[string]string{"tcp": tcp, "udp": udp} {
		if got := found[fmt.Sprintf("host_listen_collector_success{collector=%q}", proto)]; got != want {
			e.t.Errorf("host_listen_collector_success of %s is %q, want %s", proto, got, want)
		}
	}
}

// warnings returns the log lines of the level warn.
func (e *exporter) warnings() []string {
	return slices.DeleteFunc(e.stderr.lines(), func(line string) bool { return !strings.Contains(line, "level=warn") })
}

func TestLive(t *testing.T) {
	binary := liveBinary(t)
	for _, test := range []struct {
		name string
		body func(t *testing.T, binary string)
	}{
		{"the_procfs_of_another_host_gives_the_ports_of_that_host", testAnotherHostsProcfs},
		{"ip_netns_exec_with_self_gives_the_ports_of_that_namespace", testIPNetnsExec},
		{"where_PID_1_is_invisible_in_proc_the_own_namespace_is_observed", testInvisiblePID1},
		{"where_PID_1_is_invisible_elsewhere_the_reads_fail", testInvisiblePID1Elsewhere},
		{"nobody_without_capabilities_on_a_read_only_root_serves_everything", testNobody},
		{"fifty_scrapes_at_once_are_all_complete_and_share_reads", testManyScrapesAtOnce},
		{"descriptors_goroutines_and_threads_do_not_grow", testNothingGrows},
		{"a_read_that_fails_while_running_takes_its_own_protocol_only", testFailedRead},
		{"where_netlink_is_refused_procfs_is_read", testWithoutNetlink},
		{"another_namespace_is_read_through_procfs", testSourceOfAnotherNamespace},
		{"the_source_stays_as_long_as_the_program_runs", testSourceStays},
	} {
		t.Run(test.name, func(t *testing.T) {
			netnstest.Run(t, func(t *testing.T) { test.body(t, binary) })
		})
	}
}

// liveStart starts the program in the test's namespace.
func liveStart(t *testing.T, binary string, args ...string) *exporter {
	t.Helper()
	return launch(t, exec.Command(binary, append(args, "--web.listen-address=127.0.0.1:0")...)).listen()
}

// liveStartAsNobody starts the program with no privilege.
func liveStartAsNobody(t *testing.T, binary string, args ...string) *exporter {
	t.Helper()
	return launch(t, netnstest.Nobody(t, binary, append(args, "--web.listen-address=127.0.0.1:0")...)).listen()
}

func testAnotherHostsProcfs(t *testing.T, binary string) {
	host := netnstest.Hold(t, syscall.CLONE_NEWPID, func() {
		mount(t, "proc", liveMountPoint, "proc", 0, "") // it shows the PID namespace of who mounts it
		for _, l := range []struct{ proto, address string }{
			{"tcp", "0.0.0.0:22"},
			{"tcp", "0.0.0.0:7001"},
			{"tcp", "[::]:45000"},
			{"udp", "10.0.0.1:7002"},
		} {
			if _, err := netnstest.Listen(l.proto, l.address); err != nil {
				t.Fatal(err)
			}
		}
	})
	liveListen(t, "tcp", "0.0.0.0:7003")
	liveListen(t, "udp", "0.0.0.0:7004")
	// The exporter's own sysctls, with which all of the other host's ports would lie in another range.
	for file, value := range map[string]string{"ip_local_port_range": "7000 7100", "ip_unprivileged_port_start": "0"} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", file), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	e := liveStart(t, binary, "--no-collector.holder", "--path.procfs="+liveMountPoint)
	page := e.scrape()
	e.wantListeners(page,
		"tcp ipv4 0.0.0.0:22 any privileged",
		"tcp ipv4 0.0.0.0:7001 any user",
		"tcp ipv6 [::]:45000 any ephemeral",
		"udp ipv4 10.0.0.1:7002 private user",
	)
	e.wantSuccess(page, "1", "1")
	if w := e.warnings(); len(w) != 1 || !strings.Contains(w[0], "not the exporter's own") || !strings.Contains(w[0], "sysctls") {
		t.Errorf("warnings %q, want one that says whose port ranges are used", w)
	}

	// A host that has gone is a failed read, and not the exporter's own ports.
	if err := syscall.Kill(host, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.await("the end of the other host", func() bool {
		_, err := os.Stat(filepath.Join(liveMountPoint, "1/net/tcp"))
		return err != nil
	})
	page = e.scrape()
	e.wantListeners(page)
	e.wantSuccess(page, "0", "0")
}

func testIPNetnsExec(t *testing.T, binary string) {
	const name, path = "live", "/run/netns/live"
	mount(t, "tmpfs", "/run", "tmpfs", 0, "") // where ip keeps namespaces
	if output, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, output)
	}
	if output, err := exec.Command("ip", "-netns", name, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link set: %v: %s", err, output)
	}
	liveListen(t, "tcp", "0.0.0.0:7001")
	if err := inNetns(path, func() error {
		_, err := netnstest.Listen("tcp", "0.0.0.0:7002")
		return err
	}); err != nil {
		t.Fatal(err)
	}

	// ip mounts another /sys, in which there are no cgroups.
	e := launch(t, exec.Command("ip", "netns", "exec", name, binary, "--no-collector.holder", "--collector.netns=self", "--web.listen-address=127.0.0.1:0")).listen()
	e.client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = inNetns(path, func() (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}}
	page := e.scrape()
	e.wantListeners(page, "own", "tcp ipv4 0.0.0.0:7002 any user")
	e.wantSuccess(page, "1", "1")
	if w := e.warnings(); len(w) != 0 {
		t.Errorf("warnings %q, want none", w)
	}
}

// inNetns calls f on a thread that is in the network namespace at path.
func inNetns(path string, f func() error) error {
	namespace, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = namespace.Close() }()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter %s: %w", path, err)
			return
		}
		done <- f()
	}()
	return <-done
}

func testInvisiblePID1(t *testing.T, binary string) {
	liveListen(t, "tcp", "0.0.0.0:7001")
	liveListen(t, "udp", "127.0.0.1:7002")
	mount(t, "proc", "/proc", "proc", 0, "hidepid=2")
	e := liveStartAsNobody(t, binary)
	for range 3 {
		page := e.scrape()
		e.wantListeners(page, "own", "tcp ipv4 0.0.0.0:7001 any user", "udp ipv4 127.0.0.1:7002 loopback user")
		e.wantSuccess(page, "1", "1")
	}
	if w := e.warnings(); len(w) != 1 || !strings.Contains(w[0], "PID 1 cannot be seen in /proc") {
		t.Errorf("warnings %q, want one that says that PID 1 cannot be seen", w)
	}
}

func testInvisiblePID1Elsewhere(t *testing.T, binary string) {
	liveListen(t, "tcp", "0.0.0.0:7001")
	mount(t, "proc", liveMountPoint, "proc", 0, "hidepid=2")
	e := liveStartAsNobody(t, binary, "--path.procfs="+liveMountPoint)
	for range 3 {
		page := e.scrape()
		e.wantListeners(page)
		e.wantSuccess(page, "0", "0")
	}
	for _, file := range []string{liveMountPoint + "/1/net/tcp", liveMountPoint + "/1/net/udp"} {
		naming := slices.DeleteFunc(e.errorLines(), func(line string) bool { return !strings.Contains(line, file+":") })
		if len(naming) != 1 {
			t.Errorf("log lines that say why %s cannot be read: %q, want one", file, naming)
		}
	}
}
