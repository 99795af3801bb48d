package socket

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeSysctls writes the files of the port ranges below a procfs.
func writeSysctls(t *testing.T, procfs, start, local string) {
	t.Helper()
	dir := filepath.Join(procfs, "sys/net/ipv4")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"ip_unprivileged_port_start": start, "ip_local_port_range": local} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPortRangesAreThoseOfTheSysctlsOrTheKernelsDefaults(t *testing.T) {
	dir := t.TempDir()
	source := NewProcfs(dir, dir) // which keeps the files open from read to read
	if got, err := source.PortRanges(); err == nil || got != defaultPortRanges {
		t.Errorf("without the files: %v, %v", got, err)
	}
	for _, test := range []struct {
		name, start, local string
		want               PortRanges
		wantErr            string
	}{
		{"empty", "", "", defaultPortRanges, "ip_unprivileged_port_start has 0 values: want 1"},
		{"the_kernels", "1024\n", "32768\t60999\n", defaultPortRanges, ""},
		{"unchanged", "1024\n", "32768\t60999\n", defaultPortRanges, ""},
		{"edited", "80\n", "10000\t65535\n", PortRanges{80, 10000, 65535}, ""},
		{"one_value", "80\n", "10000\n", defaultPortRanges, "ip_local_port_range has 1 values: want 2"},
		{"unchanged_again", "80\n", "10000\t65535\n", PortRanges{80, 10000, 65535}, ""},
		{"no_number", "many\n", "10000\t65535\n", defaultPortRanges, `ip_unprivileged_port_start has the value "many": want a number`},
		{"a_container's", "0\n", "32768\t60999\n", PortRanges{0, 32768, 60999}, ""},
	} {
		writeSysctls(t, dir, test.start, test.local)
		for range 2 {
			got, err := source.PortRanges()
			if got != test.want || (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%s: got %v, %v, want %v, %q", test.name, got, err, test.want, test.wantErr)
			}
		}
	}
	if got, err := NewProcfs(dir, "").PortRanges(); err != nil || got != defaultPortRanges {
		t.Errorf("of another namespace: %v, %v", got, err)
	}
}
