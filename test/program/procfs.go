//go:build linux

package program

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The headers of the kernel's socket tables.
const (
	TCPHeader  = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n"
	TCP6Header = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	UDPHeader  = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n"
	UDP6Header = TCP6Header
)

// Rows of the kernel's socket tables.
const (
	TCP22          = "   0: 00000000:0016 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 1016 1 0000000000000000 100 0 0 10 0                      \n"
	TCP8080        = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1017 1 0000000000000000 100 0 0 10 0                      \n"
	TCPEstablished = "   2: 0100007F:1F90 0100007F:98F6 01 00000000:00000000 00:00000000 00000000     0        0 1018 1 0000000000000000 20 4 30 10 -1                     \n"
	TCPTimeWait    = "   3: 0100007F:98F2 0100007F:1F90 06 00000000:00000000 03:00000263 00000000     0        0 0 3 0000000000000000                                      \n"
	TCP6On443      = "   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1019 1 0000000000000000 100 0 0 10 0\n"
	UDP53          = "  100: 00000000:0035 00000000:0000 07 00000000:00000200 00:00000000 00000000     0        0 1020 2 0000000000000000 7           \n"
	UDPEphemeral   = "  200: 0A01010A:9C40 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1021 2 0000000000000000 0           \n" // 10.1.1.10:40000
	UDPConnected   = "  201: 0100007F:9C41 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 1022 2 0000000000000000 0           \n"
	UDP6On546      = "  100: 000080FE000000000000000001000000:0222 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1023 2 0000000000000000 0\n" // fe80::1
)

// Tables of a healthy host.
const (
	TCPTable  = TCPHeader + TCP22 + TCP8080 + TCPEstablished + TCPTimeWait
	TCP6Table = TCP6Header + TCP6On443
	UDPTable  = UDPHeader + UDP53 + UDPEphemeral + UDPConnected
	UDP6Table = UDP6Header + UDP6On546
)

// NewProcfs returns a made-up procfs with PID 1 of a healthy host.
func NewProcfs(t testing.TB) string { return NewProcfsAt(t, t.TempDir()) }

// NewProcfsAt makes the procfs of NewProcfs in a directory.
func NewProcfsAt(t testing.TB, dir string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "1", "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, table := range map[string]string{"tcp": TCPTable, "tcp6": TCP6Table, "udp": UDPTable, "udp6": UDP6Table} {
		WriteTable(t, dir, name, table)
	}
	return dir
}

// TablePath is where a table of NewProcfs lies.
func TablePath(procfs, name string) string { return filepath.Join(procfs, "1", "net", name) }

// WriteTable replaces a table in one step.
func WriteTable(t testing.TB, procfs, name, table string) {
	t.Helper()
	next := filepath.Join(procfs, name+".next")
	if err := os.WriteFile(next, []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, TablePath(procfs, name)); err != nil {
		t.Fatal(err)
	}
}

// Gate holds up whoever reads the table of TCP: it has a lease on the file, so that the kernel lets nobody open it
// (F_SETLEASE in fcntl(2)), for 45 s at most.
type Gate struct {
	t     testing.TB
	table *os.File
}

// CloseGate makes the next read of 1/net/tcp hang.
func CloseGate(t testing.TB, procfs string) *Gate {
	t.Helper()
	table, err := os.Open(TablePath(procfs, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	if _, err := unix.FcntlInt(table.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("the file system gives no lease on a file: %v", err)
	}
	return &Gate{t, table}
}

// Await waits until a reader hangs, and returns a function that gives that reader the table, and later ones too.
func (g *Gate) Await() (open func()) {
	g.t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(5 * time.Millisecond) {
		lease, err := unix.FcntlInt(g.table.Fd(), unix.F_GETLEASE, 0)
		if err != nil {
			g.t.Fatal(err)
		}
		if lease != unix.F_WRLCK { // it is what the reader wants
			return func() { _ = g.table.Close() }
		}
		if time.Now().After(deadline) {
			g.t.Fatal("no reader came")
		}
	}
}

// WriteFile writes a file into a directory of the test's own, and returns its path.
func WriteFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
