package socket

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPortRangesThatAreReadOftenAreThoseOfTheFiles(t *testing.T) {
	procfs := t.TempDir()
	directory := filepath.Join(procfs, "sys/net/ipv4")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	files := newPortRangeFiles(procfs)
	defer files.close()
	for step, test := range []struct{ start, local string }{
		{"", ""}, // before anything was read
		{"", ""},
		{"1024\n", "32768\t60999\n"},
		{"1024\n", "32768\t60999\n"},
		{"80\n", "32768\t60999\n"},
		{"", ""}, // after it
		{"80\n", "10000\t60999\n"},
		{"80\n", ""},
		{"80\n", "10000\t60999\n"},
	} {
		for name, text := range map[string]string{"ip_unprivileged_port_start": test.start, "ip_local_port_range": test.local} {
			if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, wantErr := readPortRanges(procfs)
		if (wantErr != nil) != (test.start == "" || test.local == "") {
			t.Fatal(wantErr)
		}
		got, err := files.read()
		if got != want || (err != nil) != (wantErr != nil) || err != nil && err.Error() != wantErr.Error() {
			t.Errorf("step %d: got %v, %v; want %v, %v", step, got, err, want, wantErr)
		}
	}
}

func TestThePortRangesOfAnotherNamespaceAreTheKernelsDefaults(t *testing.T) {
	if got, err := newPortRangeFiles("").read(); got != defaultPortRanges || err != nil {
		t.Errorf("got %v, %v, want %v", got, err, defaultPortRanges)
	}
}
