package main

import (
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// readmeTables are the socket tables of the host that README.md shows.
var readmeTables = map[string]string{
	"tcp": `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0000000000000000 100 0 0 10 0
   1: 0A01A8C0:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 102 1 0000000000000000 100 0 0 10 0
`,
	"tcp6": `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000000000000:27CE 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 104 1 0000000000000000 100 0 0 10 0
`,
	"udp": `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  323: 0100007F:0143 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 105 2 0000000000000000 0
`,
}

// TestReadmeShowsWhatTheProgramPrints holds the example output of README.md to the program's.
func TestReadmeShowsWhatTheProgramPrints(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(readme), "| grep host_listen_port{\n")
	example, _, closed := strings.Cut(example, "```")
	if !found || !closed {
		t.Fatal("README.md shows no output")
	}

	procfs := t.TempDir()
	if err := os.MkdirAll(filepath.Join(procfs, "1/net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, table := range readmeTables {
		if err := os.WriteFile(filepath.Join(procfs, "1/net", name), []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, _, err := parse([]string{"--path.procfs", procfs}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	logs := newLoggers(io.Discard, "info", "logfmt")
	ports, err := inventory.Open(c.inventory, logs.kit)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := newHandler(c, ports.Snapshot, func() bool { return true }, logs)
	if err != nil {
		t.Fatal(err)
	}
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, httptest.NewRequest("GET", "/metrics", nil))

	printed := ""
	for line := range strings.Lines(response.Body.String()) {
		if strings.HasPrefix(line, "host_listen_port{") {
			printed += line
		}
	}
	if diff := cmp.Diff(printed, example); diff != "" {
		t.Errorf("README.md differs from the program (-program +README.md):\n%s", diff)
	}
}
