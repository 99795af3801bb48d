//go:build linux

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

	"github.com/listen-exporter/listen_exporter/test/program"
)

// refusal is a seccomp filter under which a system call with these arguments fails, as in a sandbox. Arguments that are 0 may be
// any.
type refusal struct {
	name      string
	errno     syscall.Errno
	call      uint32
	arguments [3]uint32
}

var refusals = []refusal{
	{"a_sandbox_that_refuses_netlink", unix.EPERM, unix.SYS_SOCKET, [3]uint32{unix.AF_NETLINK}},
	{"a_kernel_without_sock_diag", unix.EPROTONOSUPPORT, unix.SYS_SOCKET, [3]uint32{unix.AF_NETLINK, 0, unix.NETLINK_SOCK_DIAG}},
	{"a_sandbox_that_refuses_names_of_interfaces", unix.EACCES, unix.SYS_IOCTL, [3]uint32{0, unix.SIOCGIFNAME}},
	{"a_sandbox_that_refuses_flags_of_interfaces", unix.EACCES, unix.SYS_IOCTL, [3]uint32{0, unix.SIOCGIFFLAGS}},
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
	var filter []unix.SockFilter
	check := func(offset, value uint32) {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value})
	}
	check(number, r.call)
	for n, value := range r.arguments {
		if value != 0 {
			check(firstArgument+8*uint32(n)+low, value)
		}
	}
	// Of the two last instructions the first refuses and the second allows. To the latter each check jumps that does not hold.
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
	if r.call == unix.SYS_IOCTL && err == nil {
		defer func() { _ = unix.Close(fd) }()
		err = unix.IoctlIfreq(fd, uint(r.arguments[1]), new(unix.Ifreq))
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
			e := program.StartLive(t, "--collector.netns=self")
			for range 3 {
				page := e.Scrape()
				e.WantListeners(page, "own", "tcp ipv6 [::]:7001 any user", "udp ipv4 0.0.0.0:7002 any user")
				e.WantSuccess(page, "1", "1")
				wantSource(t, page, "procfs")
			}
			if w := e.Warnings(); len(w) != 1 || !strings.Contains(w[0], r.errno.Error()) || !strings.Contains(w[0], "procfs") {
				t.Errorf("warnings %q, want one that says why it is procfs: %v", w, r.errno)
			}
			if lines := e.ErrorLines(); len(lines) != 0 {
				t.Errorf("errors %q, want none", lines)
			}
			e.Stop()

			e = program.StartLive(t, "--collector.source=procfs", "--collector.netns=self")
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

// The program keeps its source even if the tables of procfs go away and come back.
func testSourceStays(t *testing.T) {
	program.Listen(t, "tcp", "[::]:7001")
	program.Listen(t, "udp", "0.0.0.0:7002")
	e := program.StartNobody(t, "--collector.netns=self")
	e.AwaitReady() // a scrape during the first read would be answered by it, which may have begun before
	check := func() {
		t.Helper()
		page := e.Scrape()
		e.WantListeners(page, "own", "tcp ipv6 [::]:7001 any user", "udp ipv4 0.0.0.0:7002 any user")
		e.WantSuccess(page, "1", "1")
		wantSource(t, page, "netlink")
	}
	check()
	mount(t, "tmpfs", "/proc", "tmpfs", 0, "")
	check()
	if err := unix.Unmount("/proc", 0); err != nil {
		t.Fatal(err)
	}
	check()
	if lines := e.Warnings(); len(lines) != 0 {
		t.Errorf("warnings %q, want none", lines)
	}
}
