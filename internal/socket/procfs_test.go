//go:build linux

package socket

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

const (
	tcpHeader = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n"
	udpHeader = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops             \n"

	// 0.0.0.0:22 with 3 connections in the accept queue.
	tcpListen = "   0: 00000000:0016 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0                     \n"
	// 127.0.0.1:40000, connected.
	tcpEstablished = "   1: 0100007F:9C40 0100007F:0016 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1                   \n"
	// The kernel prints twelve columns for a socket in TIME_WAIT.
	tcpTimeWait = "   2: 0100007F:9C41 0100007F:0016 06 00000000:00000000 03:000009D4 00000000     0        0 0 3 0000000000000000                                      \n"
	// [::]:22.
	tcp6Listen = "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000 100 0 0 10 0\n"
	// 127.0.0.1:53, 768 bytes queued, 5 drops.
	udpBound = " 1023: 0100007F:0035 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 4714 2 0000000000000000 5          \n"
	// 127.0.0.1:40001 to 127.0.0.1:53, connected.
	udpConnected = " 1024: 0100007F:9C41 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 4715 2 0000000000000000 0          \n"
	// [fe80::1]:546.
	udp6Bound = " 1025: 000080FE000000000000000001000000:0222 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4716 2 0000000000000000 0\n"
)

var (
	tcpSockets = []Socket{
		{Addr: netip.MustParseAddrPort("0.0.0.0:22"), ID: 4711, Inode: 4711, Queue: 3},
		{Addr: netip.MustParseAddrPort("[::]:22"), ID: 4713, Inode: 4713},
	}
	udpSockets = []Socket{
		{Addr: netip.MustParseAddrPort("127.0.0.1:53"), ID: 4714, Inode: 4714, Queue: 768, Drops: 5},
		{Addr: netip.MustParseAddrPort("[fe80::1]:546"), ID: 4716, Inode: 4716},
	}
)

// goodTables are the four tables of a small host.
func goodTables() map[string]string {
	return map[string]string{
		"tcp":  tcpHeader + tcpListen + tcpEstablished + tcpTimeWait,
		"tcp6": tcpHeader + tcp6Listen,
		"udp":  udpHeader + udpBound + udpConnected,
		"udp6": udpHeader + udp6Bound,
	}
}

// processDir makes the directory of a process with the given tables below net/.
func processDir(t testing.TB, tables map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range tables {
		if err := os.WriteFile(filepath.Join(dir, "net", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestProcfsReadsListenersOfBothFamilies(t *testing.T) {
	source := NewProcfs(processDir(t, goodTables()), "")
	for proto, want := range map[Protocol][]Socket{TCP: tcpSockets, UDP: udpSockets} {
		got, _, err := source.Read(proto)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s sockets (-want +got):\n%s", proto, diff)
		}
	}
}

func TestProcfsReadsATreeWhosePathContainsUDP(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "udp", "proc")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(processDir(t, goodTables()), dir); err != nil {
		t.Fatal(err)
	}
	source := NewProcfs(dir, "")
	before := descriptors(t)
	for range 3 {
		got, _, err := source.Read(TCP)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tcpSockets, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("sockets (-want +got):\n%s", diff)
		}
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// hostileTables are tables that cannot be read, by a speaking name, and what the error must say of them.
var hostileTables = map[string]struct {
	file, text string
	want       string
}{
	"udp_row_of_12_columns": {"udp", udpHeader + udpBound + strings.TrimSuffix(strings.TrimSpace(udpConnected), " 0") + "\n", `net/udp: line 3: 12 columns, want at least 13: "1024: `},
	"truncated_row":         {"tcp", tcpHeader + tcpListen + tcpListen[:60], `net/tcp: line 3: 6 columns, want at least 10: "0: 00000000:0016`},
	"non_hex_address":       {"tcp", tcpHeader + strings.Replace(tcpListen, "00000000:0016", "0000000G:0016", 1), `net/tcp: line 2: malformed: "0: 0000000G:0016`},
	"odd_address":           {"tcp", tcpHeader + strings.Replace(tcpListen, "00000000:0016", "00000000000:0016", 1), `net/tcp: line 2: malformed`},
	"address_without_port":  {"tcp", tcpHeader + strings.Replace(tcpListen, "00000000:0016", "00000000", 1), `net/tcp: line 2: malformed`},
	"port_too_large":        {"tcp", tcpHeader + strings.Replace(tcpListen, "00000000:0016", "00000000:10016", 1), `net/tcp: line 2: a local address that does not belong in this table: 0.0.0.0 port 65558`},
	"ipv6_row_in_tcp":       {"tcp", tcpHeader + tcpListen + tcp6Listen, `net/tcp: line 3: a local address that does not belong in this table: :: port 22`},
	"ipv4_row_in_tcp6":      {"tcp6", tcpHeader + tcpListen, `net/tcp6: line 2: a local address that does not belong in this table: 0.0.0.0 port 22`},
	"state_of_three_digits": {"tcp", tcpHeader + strings.Replace(tcpListen, " 0A ", " 0AA ", 1), ""},
	"drops_not_a_number":    {"udp", udpHeader + strings.Replace(udpBound, " 5  ", " x  ", 1), `net/udp: line 2: malformed`},
	"empty_file":            {"tcp", "", `net/tcp: line 1: not the header of a socket table: ""`},
	"empty_ipv6_file":       {"udp6", "", `net/udp6: line 1: not the header of a socket table: ""`},
	"no_header":             {"tcp", tcpListen, `net/tcp: line 1: not the header of a socket table: "   0: 00000000:0"`},
	"blank_row":             {"tcp", tcpHeader + "\n" + tcpListen, `net/tcp: line 2: 0 columns`},
	"binary_garbage":        {"udp", udpHeader + "\x00\xff\xfe\x00\n", `net/udp: line 2: 1 columns`},
	"line_of_4_mb":          {"tcp", tcpHeader + tcpListen + strings.Repeat("7", 4<<20) + "\n", `net/tcp: line 3: longer than 65536 bytes: "777`},
	"header_of_4_mb":        {"tcp", "sl" + strings.Repeat(" ", 4<<20) + "\n" + tcpListen, `net/tcp: line 1: longer than 65536 bytes`},
}

func TestProcfsFailsOnHostileTables(t *testing.T) {
	for name, hostile := range hostileTables {
		t.Run(name, func(t *testing.T) {
			tables := goodTables()
			tables[hostile.file] = hostile.text
			dir := processDir(t, tables)
			proto := TCP
			if strings.HasPrefix(hostile.file, "udp") {
				proto = UDP
			}
			got, _, err := NewProcfs(dir, "").Read(proto)
			if hostile.want == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else if err == nil {
				t.Fatalf("no error, but %v", got)
			} else if want := "read " + dir + "/"; !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), hostile.want) {
				t.Errorf("error %q\nwants the prefix %q and %q", err, want, hostile.want)
			} else if public := publicText(t, err); !publicForm.MatchString(strings.TrimPrefix(public, "read "+dir)) {
				t.Errorf("the network is shown %q of %q", public, err)
			} else if len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is no short line: %d bytes", len(err.Error()))
			}
		})
	}
}

// publicForm is what of an error may be shown to the network: a place and a kind.
var publicForm = regexp.MustCompile(`^/net/(tcp|udp)6?: line \d+: (malformed|longer than 65536 bytes|\d+ columns, want at least 1[03]|` +
	`not the header of a socket table|a local address that does not belong in this table)$`)

// publicText returns what of an error is shown to the network.
func publicText(t *testing.T, err error) string {
	t.Helper()
	var public interface{ Public() string }
	if !errors.As(err, &public) {
		t.Fatalf("all of %q is shown to the network", err)
	}
	return public.Public()
}

// A file of the kernel is a table: to look at its header costs as much as to read it.
func TestFilesOfTheKernelAreNotLookedInto(t *testing.T) {
	if err := checkTable("/proc/self/status"); err != nil { // it has another header
		t.Errorf("a file of the kernel was looked into: %v", err)
	}
}

func TestProcfsTakesAMissingIPv6ForAKernelWithoutIt(t *testing.T) {
	tables := goodTables()
	delete(tables, "tcp6")
	delete(tables, "udp6")
	source := NewProcfs(processDir(t, tables), "")
	for proto, want := range map[Protocol]Socket{TCP: tcpSockets[0], UDP: udpSockets[0]} {
		got, _, err := source.Read(proto)
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %v, %v", proto, got, err)
		}
	}
}

func TestProcfsNamesTheFileThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	for process, want := range map[string]string{"gone": "/gone/net/tcp: no such file", "udp": "/udp: no such file"} {
		_, _, err := NewProcfs(filepath.Join(dir, process), "").Read(TCP)
		if err == nil || !strings.HasPrefix(err.Error(), "read "+dir+want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestProcfsRefusesAProtocolThatHasNoTable(t *testing.T) {
	if _, _, err := NewProcfs(t.TempDir(), "").Read(Protocol(132)); err == nil || !strings.Contains(err.Error(), "protocol 132") {
		t.Errorf("got %v", err)
	}
}

func TestAddressesAreInTheKernelsByteOrder(t *testing.T) {
	// What the library makes of the words that a kernel prints: it reverses each, always.
	for name, test := range map[string]struct {
		printed   []byte // by the kernel, most significant digit first
		bigEndian bool
		want      string
	}{
		"little_endian_ipv4":   {[]byte{1, 0, 0, 127}, false, "127.0.0.1"},
		"big_endian_ipv4":      {[]byte{127, 0, 0, 1}, true, "127.0.0.1"},
		"little_endian_ipv6":   {[]byte{0, 0, 0x80, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, false, "fe80::1"},
		"big_endian_ipv6":      {[]byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, true, "fe80::1"},
		"little_endian_mapped": {[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 127}, false, "::ffff:127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			fromLibrary := make(net.IP, len(test.printed))
			for i := range test.printed {
				fromLibrary[i] = test.printed[i/4*4+3-i%4]
			}
			got, ok := address(fromLibrary, test.bigEndian)
			if !ok || got.String() != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// FuzzTable feeds whole tables to the reader: it must never panic, and what it takes it must take whole.
func FuzzTable(f *testing.F) {
	for _, hostile := range hostileTables {
		if len(hostile.text) < 1<<12 {
			f.Add([]byte(hostile.text), strings.HasPrefix(hostile.file, "udp"))
		}
	}
	for name, text := range goodTables() {
		f.Add([]byte(text), strings.HasPrefix(name, "udp"))
	}
	dir := processDir(f, nil)
	f.Fuzz(func(t *testing.T, text []byte, isUDP bool) {
		proto, file, state := TCP, "tcp", uint64(stateListen)
		if isUDP {
			proto, file, state = UDP, "udp", stateClose
		}
		if err := os.WriteFile(filepath.Join(dir, "net", file), text, 0o644); err != nil {
			t.Fatal(err)
		}
		sockets, _, err := NewProcfs(dir, "").Read(proto)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of more than one line: %q", err)
			}
			return
		}
		want := 0
		for i, row := range bytes.Split(text, []byte("\n")) {
			columns := bytes.Fields(row)
			if i == 0 || len(columns) == 0 {
				continue
			}
			if st, err := strconv.ParseUint(string(columns[3]), 16, 64); err == nil && st == state {
				want++
			}
		}
		if len(sockets) != want {
			t.Errorf("%d rows in the state %02X, but %d sockets", want, state, len(sockets))
		}
		for _, s := range sockets {
			if !s.Addr.IsValid() || !s.Addr.Addr().Is4() {
				t.Errorf("bad address in %v", s)
			}
		}
	})
}

func TestATableThatIsNoRegularFileIsAFailedReadThatNeverWaits(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"fifo": func(path string) error { return unix.Mkfifo(path, 0o644) },
		"fifo_by_link": func(path string) error {
			return errors.Join(unix.Mkfifo(path+".fifo", 0o644), os.Symlink(path+".fifo", path))
		},
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"socket":    func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o644, 0) }, // bind takes only short paths
	} {
		for _, file := range []string{"tcp", "tcp6", "udp", "udp6"} {
			t.Run(name+"_"+file, func(t *testing.T) {
				tables := goodTables()
				delete(tables, file)
				dir := processDir(t, tables)
				path := filepath.Join(dir, "net", file)
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				proto := TCP
				if strings.HasPrefix(file, "udp") {
					proto = UDP
				}
				_, _, err := NewProcfs(dir, "").Read(proto)
				if want := "read " + path + ": not a regular file"; err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
			})
		}
	}
}
