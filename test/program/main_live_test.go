//go:build linux

package program_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// A directory that every Linux system has, for a test to mount something on. The mounts of a test are its own.
const liveMountPoint = "/mnt"

// mount mounts a file system, which only the test can see.
func mount(t *testing.T, source, target, fstype string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		t.Fatalf("mount %s on %s: %v", source, target, err)
	}
}

func TestLive(t *testing.T) {
	program.Path(t) // before the tests enter their namespaces
	for _, test := range []struct {
		name string
		body func(t *testing.T)
	}{
		{"the_procfs_of_another_host_gives_the_ports_of_that_host_and_needs_no_netlink", testAnotherHostsProcfs},
		{"where_PID_1_is_invisible_the_own_namespace_is_observed_or_the_reads_fail", testInvisiblePID1},
		{"nobody_without_capabilities_on_a_read_only_root_serves_every_listener", testNobody},
		{"where_netlink_is_refused_procfs_is_read", testWithoutNetlink},
		{"the_source_stays_as_long_as_the_program_runs", testSourceStays},
	} {
		t.Run(test.name, func(t *testing.T) {
			netnstest.Run(t, test.body)
		})
	}
}

func testAnotherHostsProcfs(t *testing.T) {
	host := netnstest.Hold(t, syscall.CLONE_NEWPID, func() {
		mount(t, "proc", liveMountPoint, "proc", 0, "") // it shows the PID namespace of the process that mounts it
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
	program.Listen(t, "tcp", "0.0.0.0:7003")
	program.Listen(t, "udp", "0.0.0.0:7004")
	// The exporter's own sysctls, with which all of the other host's ports would lie in another range.
	for file, value := range map[string]string{"ip_local_port_range": "7000 7100", "ip_unprivileged_port_start": "0"} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", file), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	var e *program.Exporter
	for _, start := range []func(testing.TB, ...string) *program.Exporter{program.StartNobody, program.StartLive} {
		e = start(t, "--no-collector.holder", "--path.procfs="+liveMountPoint)
		page := e.Scrape()
		e.WantListeners(page,
			"tcp ipv4 0.0.0.0:22 any privileged",
			"tcp ipv4 0.0.0.0:7001 any user",
			"tcp ipv6 [::]:45000 any ephemeral",
			"udp ipv4 10.0.0.1:7002 private user",
		)
		e.WantSuccess(page, "1", "1")
		wantSource(t, page, "procfs")
		if w := e.Warnings(); len(w) != 1 || !strings.Contains(w[0], "not the exporter's own") || !strings.Contains(w[0], "procfs") || !strings.Contains(w[0], "sysctls") {
			t.Errorf("warnings %q, want one that says why it is procfs and whose port ranges are used", w)
		}
	}
	wantRefusedStart(t, "not the exporter's own", "--path.procfs="+liveMountPoint)

	// A host that has gone is a failed read, and not the exporter's own ports.
	if err := syscall.Kill(host, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.Await("the end of the other host", func() bool {
		_, err := os.Stat(filepath.Join(liveMountPoint, "1/net/tcp"))
		return err != nil
	})
	page := e.Scrape()
	e.WantListeners(page)
	e.WantSuccess(page, "0", "0")
}

func testInvisiblePID1(t *testing.T) {
	program.Listen(t, "tcp", "0.0.0.0:7001")
	program.Listen(t, "udp", "127.0.0.1:7002")
	// Another procfs than /proc may be another host's: there the own namespace would be the wrong one.
	mount(t, "proc", liveMountPoint, "proc", 0, "hidepid=2")
	e := program.StartNobody(t, "--path.procfs="+liveMountPoint)
	page := e.Scrape()
	e.WantListeners(page)
	e.WantSuccess(page, "0", "0")
	for _, file := range []string{liveMountPoint + "/1/net/tcp", liveMountPoint + "/1/net/udp"} {
		// The log may arrive after the page.
		e.Await("one line in the log that says why "+file+" cannot be read", func() bool { return len(e.Logged("level=error", file+":")) == 1 })
	}
	e.Stop()

	mount(t, "proc", "/proc", "proc", 0, "hidepid=2")
	e = program.StartNobody(t)
	page = e.Scrape()
	e.WantListeners(page, "own", "tcp ipv4 0.0.0.0:7001 any user", "udp ipv4 127.0.0.1:7002 loopback user")
	e.WantSuccess(page, "1", "1")
	if w := e.Warnings(); len(w) != 1 || !strings.Contains(w[0], "PID 1 cannot be seen in /proc") {
		t.Errorf("warnings %q, want one that says that PID 1 cannot be seen", w)
	}
}

func testNobody(t *testing.T) {
	program.Listen(t, "tcp", "0.0.0.0:22")
	program.Listen(t, "tcp", "[::]:443")
	for range 4 {
		program.Listen(t, "tcp", "127.0.0.1:7001", netnstest.ReusePort())
	}
	program.Listen(t, "udp", "0.0.0.0:53")
	program.Listen(t, "udp", "[fe80::1%test0]:546")
	mount(t, "", "/", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if err := os.Mkdir("/listen_exporter_test", 0o700); !errors.Is(err, unix.EROFS) {
		t.Fatalf("make a directory on a read-only root: %v, want %v", err, unix.EROFS)
	}

	e := program.StartNobody(t, "--collector.netns=self")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`Uid:\s65534\s65534\s65534\s65534`, `CapPrm:\s0+`, `CapEff:\s0+`, `CapBnd:\s0+`, `NoNewPrivs:\s1`} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).Match(status) {
			t.Errorf("the exporter's status has no %s:\n%s", want, status)
		}
	}

	e.AwaitReady()
	program.Listen(t, "tcp", "0.0.0.0:7002") // which appears later
	page := e.Scrape()
	e.WantSuccess(page, "1", "1")
	e.WantListeners(page, "own",
		"tcp ipv4 0.0.0.0:22 any privileged",
		"tcp ipv6 [::]:443 any privileged",
		"tcp ipv4 127.0.0.1:7001 loopback user",
		"tcp ipv4 0.0.0.0:7002 any user",
		"udp ipv4 0.0.0.0:53 any privileged",
		"udp ipv6 [fe80::1]:546 link-local privileged",
	)
	if lines := slices.Concat(e.Warnings(), e.ErrorLines()); len(lines) != 0 {
		t.Errorf("warnings and errors %q, want none", lines)
	}
}
