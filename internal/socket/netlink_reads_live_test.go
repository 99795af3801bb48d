package socket

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

func TestAnUnchangedReadAllocatesNothingHoweverManyListen(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		n := liveNetlink(t)
		for listeners := range 1000 {
			if listeners == 100 {
				wantNoAllocations(t, n, listeners)
			}
			for _, proto := range []Protocol{TCP, UDP} {
				openedSocket{address: fmt.Sprintf("127.0.0.1:%d", 1024+listeners)}.open(t, proto)
			}
		}
		wantNoAllocations(t, n, 1000)
	})
}

func wantNoAllocations(t *testing.T, n *Netlink, listeners int) {
	t.Helper()
	for _, proto := range []Protocol{TCP, UDP} {
		if got := len(readLive(t, n, proto)); got != listeners {
			t.Errorf("%d %s sockets, want %d", got, proto, listeners)
		}
		allocations := testing.AllocsPerRun(20, func() {
			if _, same, err := n.Read(proto); err != nil || !same {
				t.Fatal(same, err)
			}
		})
		if allocations != 0 {
			t.Errorf("a read of %d %s sockets makes %.0f allocations, want 0", listeners, proto, allocations)
		}
	}
}

func TestADatagramThatDoesNotFitIsAFailedRead(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		n := liveNetlink(t)
		for port := range 100 {
			openedSocket{address: fmt.Sprintf("127.0.0.1:%d", 9000+port)}.open(t, TCP)
		}
		want := readLive(t, n, TCP)
		row := headerLength + len(n.tables[TCP].readings[0].last.reply(0))
		buffer := n.buffer
		// The last of them end where a row ends: what does fit is whole.
		for _, size := range []int{0, 1, headerLength, row - 1, row, 2 * row, 7 * row} {
			n.buffer = buffer[:size]
			sockets, same, err := n.Read(TCP)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("does not fit into %d", size)) {
				t.Errorf("with a buffer of %d bytes: %d sockets, same %t, %v", size, len(sockets), same, err)
			}
			n.buffer = buffer
			sockets, same, err = n.Read(TCP)
			if err != nil || same {
				t.Errorf("after that: same %t, %v", same, err)
			}
			if diff := cmp.Diff(want, sockets, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("after that (-before +after):\n%s", diff)
			}
		}
	})
}

// Whoever may send to other netlink sockets can say what the kernel does, but not from the kernel's address.
func TestWhatAnotherProcessSaysIsNotTakenForTheKernels(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		n := liveNetlink(t)
		openedSocket{address: "127.0.0.1:9000"}.open(t, TCP)
		want := readLive(t, n, TCP)
		other, err := dialSockDiag()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(other) }()
		for range 3 {
			next := exchange{sequence: n.sequence + 1, port: n.port}
			lie := messageOf(next, headerLength+4, unix.NLMSG_DONE, 0, code(0))
			if err := unix.Sendto(other, lie, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: n.port}); err != nil {
				t.Fatal(err)
			}
			if got := readLive(t, n, TCP); !slices.Equal(got, want) {
				t.Errorf("a read gives %+v, want %+v", got, want)
			}
		}
	})
}

func TestASocketHasItsUserItsInodeAndItsCgroup(t *testing.T) {
	netnstest.RunAsRootAndNobody(t, nil, func(t *testing.T) {
		parent := cgroupDirectory(t)
		child := filepath.Join(parent, fmt.Sprintf("listen_exporter_test_%d", os.Getpid()))
		if err := os.Mkdir(child, 0o755); err == nil { // else the one that it is in has to do
			defer func() {
				enterCgroup(t, parent)
				if err := os.Remove(child); err != nil {
					t.Error(err)
				}
			}()
			enterCgroup(t, child)
		}
		var directory unix.Stat_t
		if err := unix.Stat(cgroupDirectory(t), &directory); err != nil {
			t.Fatal(err)
		}
		n := liveNetlink(t)
		for _, proto := range []Protocol{TCP, UDP} {
			for port, address := range []string{"127.0.0.1", "[::1]"} {
				address = fmt.Sprintf("%s:%d", address, 9000+port)
				fd, err := netnstest.Listen(proto.String(), address)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = unix.Close(fd) }()
				var stat unix.Stat_t
				if err := unix.Fstat(fd, &stat); err != nil {
					t.Fatal(err)
				}
				sockets := readLive(t, n, proto)
				at := slices.IndexFunc(sockets, func(s Socket) bool { return s.Addr == netip.MustParseAddrPort(address) })
				if at < 0 {
					t.Fatalf("no %s socket on %s, but %+v", proto, address, sockets)
				}
				type owner struct {
					UID           uint32
					Inode, Cgroup uint64
				}
				want := owner{stat.Uid, stat.Ino, directory.Ino}
				if int(want.UID) != os.Geteuid() {
					t.Errorf("fstat gives the user %d, want %d", want.UID, os.Geteuid())
				}
				if diff := cmp.Diff(want, owner{sockets[at].UID, sockets[at].Inode, sockets[at].Cgroup}); diff != "" {
					t.Errorf("%s %s (-want +got):\n%s", proto, address, diff)
				}
			}
		}
	})
}

func enterCgroup(t *testing.T, directory string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, "cgroup.procs"), []byte("0"), 0); err != nil { // 0 is the writer
		t.Fatal(err)
	}
}

// cgroupDirectory returns the directory of the cgroup2 hierarchy that the test is in.
func cgroupDirectory(t *testing.T) string {
	t.Helper()
	path, root, mount := "", "", ""
	eachLine(t, "/proc/self/cgroup", func(line string) {
		if own, ok := strings.CutPrefix(line, "0::"); ok {
			path = own
		}
	})
	eachLine(t, "/proc/self/mountinfo", func(line string) {
		// 36 35 0:30 /root /mount options shared:1 - type source options, proc(5).
		before, after, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(before); strings.HasPrefix(after, "cgroup2 ") {
			root, mount = fields[3], fields[4]
		}
	})
	below, err := filepath.Rel(root, path)
	if path == "" || mount == "" || err != nil || strings.HasPrefix(below, "..") {
		t.Skipf("needs to see its own cgroup %q below the mount of %q at %q", path, root, mount)
	}
	return filepath.Join(mount, below)
}

func eachLine(t *testing.T, path string, take func(line string)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		take(lines.Text())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
