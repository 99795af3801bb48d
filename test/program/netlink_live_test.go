package program_test

import (
	"encoding/binary"
	"errors"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// refusal is a seccomp filter that makes socket(2) fail, as a sandbox does, or ioctl(2).
type refusal struct {
	name           string
	errno          syscall.Errno
	sockDiag       bool // it only refuses NETLINK_SOCK_DIAG, not all of AF_NETLINK
	interfaceNames bool // it only refuses SIOCGIFNAME, and no socket
}

var refusals = []refusal{
	{name: "a_sandbox_that_refuses_netlink", errno: unix.EPERM},
	{name: "RestrictAddressFamilies_of_systemd", errno: unix.EAFNOSUPPORT},
	{name: "a_kernel_without_sock_diag", errno: unix.EPROTONOSUPPORT, sockDiag: true},
	{name: "a_sandbox_that_refuses_ioctl", errno: unix.EACCES, interfaceNames: true},
}

// impose puts the thread of the test, and all processes that it starts, under the filter. The thread ends with the test.
func (r refusal) impose(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked
	// struct seccomp_data, include/uapi/linux/seccomp.h: the number of the system call, and the low half of an argument.
	const number, firstArgument = 0, 16
	low := uint32(0)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 { // big-endian
		low = 4
	}
	argument := func(n uint32) uint32 { return firstArgument + 8*n + low }
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// Of the two last instructions the first refuses and the second allows. To the latter each check jumps that does not hold.
	var filter []unix.SockFilter
	check := func(offset, value uint32) {
		filter = append(filter, load(offset), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value})
	}
	if r.interfaceNames {
		check(number, unix.SYS_IOCTL)
		check(argument(1), unix.SIOCGIFNAME)
	} else {
		check(number, unix.SYS_SOCKET)
		check(argument(0), unix.AF_NETLINK)
	}
	if r.sockDiag {
		check(argument(2), unix.NETLINK_SOCK_DIAG)
	}
	refuse := len(filter)
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(r.errno)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	)
	for n := 1; n < refuse; n += 2 {
		filter[n].Jf = uint8(refuse - n) // to the last instruction
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		t.Fatalf("set a seccomp filter: %v", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if r.interfaceNames && err == nil {
		defer func() { _ = unix.Close(fd) }()
		err = unix.IoctlIfreq(fd, unix.SIOCGIFNAME, new(unix.Ifreq))
	}
	if !errors.Is(err, r.errno) {
		t.Fatalf("under the filter: %v, want %v", err, r.errno)
	}
}

// wantSource checks the source that a page names, and that the metrics that only netlink has are there or not.
func wantSource(t *testing.T, page, source string) {
	t.Helper()
	found := program.Samples(t, page)
	for _, name := range []string{"netlink", "procfs"} {
		want := ""
		if name == source {
			want = "1"
		}
		if got := found[`host_listen_source_info{source="`+name+`"}`]; got != want {
			t.Errorf("host_listen_source_info of %s is %q, want %q", name, got, want)
		}
	}
	detailed := make(map[string]bool)
	for series := range found {
		name, _, _ := strings.Cut(series, "{")
		switch {
		case name == "host_listen_port_accept_queue_limit", name == "host_listen_port_receive_buffer_limit_bytes", name == "host_listen_port_ipv6_only":
			detailed[name] = true
		case name == "host_listen_port_drops_total" && program.Label(series, "proto") == "tcp":
			detailed["drops of TCP"] = true
		}
	}
	if want := map[string]int{"netlink": 4, "procfs": 0}[source]; len(detailed) != want {
		t.Errorf("of the metrics that only netlink has there are %v, want %d of 4", detailed, want)
	}
}

func testWithoutNetlink(t *testing.T) {
	program.Listen(t, "tcp", "[::]:7001")
	program.Listen(t, "udp", "0.0.0.0:7002")
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			r.impose(t)
			for _, command := range []struct {
				name string
				args []string
			}{
				{"by_default", nil}, {"auto", []string{"--collector.source=auto"}},
			} {
				e := program.StartLive(t, append(command.args, "--collector.netns=self")...)
				for range 3 {
					page := e.Scrape()
					e.WantListeners(page, "own", "tcp ipv6 [::]:7001 any user", "udp ipv4 0.0.0.0:7002 any user")
					e.WantSuccess(page, "1", "1")
					wantSource(t, page, "procfs")
				}
				if w := e.Warnings(); len(w) != 1 || !strings.Contains(w[0], r.errno.Error()) || !strings.Contains(w[0], "procfs") {
					t.Errorf("%s: warnings %q, want one that says why it is procfs: %v", command.name, w, r.errno)
				}
				if lines := e.ErrorLines(); len(lines) != 0 {
					t.Errorf("%s: errors %q, want none", command.name, lines)
				}
				e.Stop()
			}

			e := program.StartLive(t, "--collector.source=procfs", "--collector.netns=self")
			wantSource(t, e.Scrape(), "procfs")
			if lines := slices.Concat(e.Warnings(), e.ErrorLines()); len(lines) != 0 {
				t.Errorf("procfs was asked for, and warnings and errors are %q, want none", lines)
			}

			wantRefusedStart(t, r.errno.Error(), "--collector.netns=self")
		})
	}
}

// wantRefusedStart checks that the program does not start with --collector.source=netlink, and says why in one line.
func wantRefusedStart(t *testing.T, reason string, args ...string) {
	t.Helper()
	e := program.Launch(t, exec.Command(program.Path(t), append(args, "--collector.source=netlink", "--web.listen-address=127.0.0.1:0")...))
	if code := e.Wait(); code != 1 {
		t.Errorf("--collector.source=netlink: exit code %d, want 1", code)
	}
	lines := e.ErrorLines()
	if len(lines) != 1 || !strings.Contains(lines[0], reason) || !strings.Contains(lines[0], "--collector.source=netlink") {
		t.Errorf("--collector.source=netlink: error lines %q, want one that says %q", lines, reason)
	}
	if strings.Contains(e.Stderr.String(), "Listening on") {
		t.Error("--collector.source=netlink: it listened before it failed")
	}
}

func testSourceOfAnotherNamespace(t *testing.T) {
	netnstest.Hold(t, syscall.CLONE_NEWPID, func() {
		mount(t, "proc", liveMountPoint, "proc", 0, "")
		for _, proto := range []string{"tcp", "udp"} {
			if _, err := netnstest.Listen(proto, "[::]:7001"); err != nil {
				t.Fatal(err)
			}
		}
	})
	program.Listen(t, "tcp", "0.0.0.0:7003")
	for _, start := range []func(testing.TB, ...string) *program.Exporter{program.StartLive, program.StartNobody} {
		e := start(t, "--path.procfs="+liveMountPoint)
		for range 3 {
			page := e.Scrape()
			e.WantListeners(page, "tcp ipv6 [::]:7001 any user", "udp ipv6 [::]:7001 any user")
			wantSource(t, page, "procfs")
		}
		if w := e.Warnings(); len(w) != 1 || !strings.Contains(w[0], "not the exporter's own") || !strings.Contains(w[0], "procfs") {
			t.Errorf("warnings %q, want one that says why it is procfs", w)
		}
	}
	wantRefusedStart(t, "not the exporter's own", "--path.procfs="+liveMountPoint)
}

// The program keeps its source even if the tables of procfs go away and come back.
func testSourceStays(t *testing.T) {
	program.Listen(t, "tcp", "[::]:7001")
	program.Listen(t, "udp", "0.0.0.0:7002")
	for _, start := range []func(testing.TB, ...string) *program.Exporter{program.StartLive, program.StartNobody} {
		netlink := start(t, "--collector.netns=self")
		procfs := start(t, "--collector.netns=self", "--collector.source=procfs")
		netlink.AwaitReady() // a scrape during the first read would be answered by it, which may have begun before procfs
		procfs.AwaitReady()
		netlinkOwn, procfsOwn := "tcp ipv4 "+netlink.Address+" loopback ephemeral", "tcp ipv4 "+procfs.Address+" loopback ephemeral"
		const tcpPort, udpPort = "tcp ipv6 [::]:7001 any user", "udp ipv4 0.0.0.0:7002 any user"
		check := func(readable bool) {
			t.Helper()
			page := netlink.Scrape()
			netlink.WantListeners(page, "own", procfsOwn, tcpPort, udpPort)
			netlink.WantSuccess(page, "1", "1")
			wantSource(t, page, "netlink")
			page = procfs.Scrape()
			if readable {
				procfs.WantListeners(page, "own", netlinkOwn, tcpPort, udpPort)
				procfs.WantSuccess(page, "1", "1")
			} else {
				procfs.WantListeners(page)
				procfs.WantSuccess(page, "0", "0")
			}
			wantSource(t, page, "procfs")
		}
		check(true)
		mount(t, "tmpfs", "/proc", "tmpfs", 0, "")
		for range 3 {
			check(false)
		}
		if err := unix.Unmount("/proc", 0); err != nil {
			t.Fatal(err)
		}
		check(true)
		if lines := slices.Concat(netlink.Warnings(), procfs.Warnings()); len(lines) != 0 {
			t.Errorf("warnings %q, want none", lines)
		}
		netlink.Stop()
		procfs.Stop()
	}
}
