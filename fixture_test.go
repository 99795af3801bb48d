package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The headers of the kernel's socket tables.
const (
	tcpHeader  = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n"
	tcp6Header = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	udpHeader  = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n"
	udp6Header = tcp6Header
)

// Rows of the kernel's socket tables.
const (
	tcp22          = "   0: 00000000:0016 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 1016 1 0000000000000000 100 0 0 10 0                      \n"
	tcp8080        = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1017 1 0000000000000000 100 0 0 10 0                      \n"
	tcpEstablished = "   2: 0100007F:1F90 0100007F:98F6 01 00000000:00000000 00:00000000 00000000     0        0 1018 1 0000000000000000 20 4 30 10 -1                     \n"
	tcpTimeWait    = "   3: 0100007F:98F2 0100007F:1F90 06 00000000:00000000 03:00000263 00000000     0        0 0 3 0000000000000000                                      \n"
	tcp6On443      = "   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1019 1 0000000000000000 100 0 0 10 0\n"
	udp53          = "  100: 00000000:0035 00000000:0000 07 00000000:00000200 00:00000000 00000000     0        0 1020 2 0000000000000000 7           \n"
	udpEphemeral   = "  200: 0A01010A:9C40 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1021 2 0000000000000000 0           \n" // 10.1.1.10:40000
	udpConnected   = "  201: 0100007F:9C41 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 1022 2 0000000000000000 0           \n"
	udp6On546      = "  100: 000080FE000000000000000001000000:0222 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1023 2 0000000000000000 0\n" // fe80::1
)

// Tables of a healthy host.
const (
	tcpTable  = tcpHeader + tcp22 + tcp8080 + tcpEstablished + tcpTimeWait
	tcp6Table = tcp6Header + tcp6On443
	udpTable  = udpHeader + udp53 + udpEphemeral + udpConnected
	udp6Table = udp6Header + udp6On546
)

// newProcfs returns a procfs in which a healthy host's PID 1 can be seen.
func newProcfs(t *testing.T) string { return newProcfsAt(t, t.TempDir()) }

func newProcfsAt(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "1", "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, table := range map[string]string{"tcp": tcpTable, "tcp6": tcp6Table, "udp": udpTable, "udp6": udp6Table} {
		writeTable(t, dir, name, table)
	}
	return dir
}

// tablePath is where a table of newProcfs lies.
func tablePath(procfs, name string) string { return filepath.Join(procfs, "1", "net", name) }

// writeTable replaces a table in one step.
func writeTable(t *testing.T, procfs, name, table string) {
	t.Helper()
	next := filepath.Join(procfs, name+".next")
	if err := os.WriteFile(next, []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, tablePath(procfs, name)); err != nil {
		t.Fatal(err)
	}
}

// gate holds up whoever reads a table.
type gate struct {
	t      *testing.T
	procfs string
	fifo   string
	table  string
}

// closeGate puts a FIFO in the place of 1/net/tcp, so that the next read hangs.
func closeGate(t *testing.T, procfs string) *gate {
	t.Helper()
	g := &gate{t: t, procfs: procfs, fifo: filepath.Join(procfs, "fifo")}
	place := tablePath(procfs, "tcp")
	table, err := os.ReadFile(place)
	if err != nil {
		t.Fatal(err)
	}
	g.table = string(table)
	inPlace := filepath.Join(procfs, "tcp.fifo")
	if err := syscall.Mkfifo(g.fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(g.fifo, inPlace); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(inPlace, place); err != nil {
		t.Fatal(err)
	}
	return g
}

// await waits until a reader hangs, and returns what lets it go on.
func (g *gate) await() (open func()) {
	g.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		// Without O_NONBLOCK a reader that never comes would hang the test.
		w, err := os.OpenFile(g.fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			return sync.OnceFunc(func() { g.release(w) })
		}
		if !errors.Is(err, syscall.ENXIO) || time.Now().After(deadline) {
			g.t.Fatalf("no reader came: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// release gives the one reader that hangs the table through the FIFO, and all later ones the table itself.
func (g *gate) release(w *os.File) {
	g.t.Helper()
	writeTable(g.t, g.procfs, "tcp", g.table)
	if _, err := io.WriteString(w, g.table); err != nil && !errors.Is(err, syscall.EPIPE) {
		g.t.Errorf("write into the FIFO: %v", err)
	}
	if err := w.Close(); err != nil {
		g.t.Error(err)
	}
	if err := os.Remove(g.fifo); err != nil {
		g.t.Error(err)
	}
}

// samples returns the samples of a metrics page by their series, such as name{a="b"}.
func samples(t *testing.T, page string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, line := range completeLines(page) {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		if end < 0 {
			t.Fatalf("%q is no sample", line)
		}
		series := line[:end]
		if _, twice := found[series]; twice {
			t.Errorf("%s is there twice", series)
		}
		found[series] = line[end+1:]
	}
	return found
}

// listenerSamples returns those samples that are about listeners of one protocol.
func listenerSamples(t *testing.T, page, proto string) map[string]string {
	t.Helper()
	found := samples(t, page)
	for series := range found {
		if !strings.Contains(series, fmt.Sprintf("proto=%q", proto)) {
			delete(found, series)
		}
	}
	return found
}

// ports returns which ports a metrics page says to listen, as "tcp 22".
func ports(t *testing.T, page string) []string {
	t.Helper()
	var found []string
	for series := range samples(t, page) {
		if strings.HasPrefix(series, "host_listen_port{") {
			found = append(found, label(series, "proto")+" "+label(series, "port"))
		}
	}
	slices.Sort(found)
	return found
}

// label returns the value of a label of a series.
func label(series, name string) string {
	_, after, _ := strings.Cut(series, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}
