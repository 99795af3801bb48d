//go:build linux

package socket

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// writeSysctls writes the files of the port ranges below a procfs.
func writeSysctls(t *testing.T, procfs string, texts [3]string) {
	t.Helper()
	dir := filepath.Join(procfs, "sys/net/ipv4")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range portRangeFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(texts[i]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// mostReserved is the longest text of reserved ports that a kernel can have, and its ports.
func mostReserved() (text string, reserved ports.Set) {
	for first := 1; first < 1<<16-1; first += 3 {
		reserved = append(reserved, ports.Range{First: uint16(first), Last: uint16(first + 1)})
	}
	return reserved.String() + "\n", reserved
}

func TestPortRangesAreThoseOfTheSysctlsOrTheKernelsDefaults(t *testing.T) {
	dir := t.TempDir()
	source := NewProcfs(dir, dir)
	if got, err := source.PortRanges(); err == nil || !cmp.Equal(got, defaultPortRanges) {
		t.Errorf("without the files: %v, %v", got, err)
	}
	set := func(ranges ...ports.Range) ports.Set { return ranges }
	most, mostSet := mostReserved()
	kernels := [3]string{"1024\n", "32768\t60999\n", "\n"}
	for _, test := range []struct {
		name    string
		texts   [3]string
		want    PortRanges
		wantErr string
	}{
		{"empty", [3]string{}, defaultPortRanges, "ip_unprivileged_port_start is malformed: want a port: "},
		{"the_kernels", kernels, defaultPortRanges, ""},
		{"unchanged", kernels, defaultPortRanges, ""},
		{"edited", [3]string{"80\n", "10000\t65535\n", "\n"}, PortRanges{80, 10000, 65535, nil}, ""},
		{"reserved", [3]string{"1024\n", "1024\t65535\n", "8125,9000-9010\n"}, PortRanges{1024, 1024, 65535, set(ports.Range{First: 8125, Last: 8125}, ports.Range{First: 9000, Last: 9010})}, ""},
		{"all_are_reserved", [3]string{"1024\n", "1024\t65535\n", "0-65535\n"}, PortRanges{1024, 1024, 65535, set(ports.Range{First: 0, Last: 65535})}, ""},
		{"most_reserved", [3]string{"1024\n", "1024\t65535\n", most}, PortRanges{1024, 1024, 65535, mostSet}, ""},
		{"a_container's", [3]string{"0\n", "10000\t65535\n", "11000\n"}, PortRanges{0, 10000, 65535, set(ports.Range{First: 11000, Last: 11000})}, ""},
		{"one_value", [3]string{"80\n", "10000\n", "\n"}, defaultPortRanges, "ip_local_port_range is malformed: want two ports: "},
		{"no_number", [3]string{"many\n", "10000\t65535\n", "\n"}, defaultPortRanges, `ip_unprivileged_port_start is malformed: want a port: it is "many\n"`},
		{"no_port", [3]string{"80\n", "10000\t65536\n", "\n"}, defaultPortRanges, "ip_local_port_range is malformed: want two ports: "},
		{"no_list", [3]string{"80\n", "10000\t65535\n", "8125,,9000\n"}, defaultPortRanges, `ip_local_reserved_ports is malformed: want ports such as 8125,9000-9010: it is ""`},
		{"backwards", [3]string{"80\n", "10000\t65535\n", "9010-9000\n"}, defaultPortRanges, "ip_local_reserved_ports is malformed: "},
		{"endless", [3]string{"80\n", "10000\t65535\n", strings.Repeat("1,", 1<<20)}, defaultPortRanges, "ip_local_reserved_ports is longer than 262143 bytes"},
		{"the_kernels_again", kernels, defaultPortRanges, ""},
	} {
		writeSysctls(t, dir, test.texts)
		for range 2 {
			got, err := source.PortRanges()
			if (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%s: got the error %v, want %q", test.name, err, test.wantErr)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
		}
	}
	if err := os.Remove(filepath.Join(dir, "sys/net/ipv4", reservedPortsFile)); err != nil {
		t.Fatal(err)
	}
	if got, err := source.PortRanges(); err != nil || !cmp.Equal(got, defaultPortRanges) {
		t.Errorf("of a kernel that reserves no ports: %v, %v", got, err)
	}
	if got, err := NewProcfs(dir, "").PortRanges(); err != nil || !cmp.Equal(got, defaultPortRanges) {
		t.Errorf("of another namespace: %v, %v", got, err)
	}
}

func TestASysctlThatIsNoRegularFileIsAnErrorThatNeverWaits(t *testing.T) {
	for i, name := range portRangeFiles {
		dir := t.TempDir()
		writeSysctls(t, dir, [3]string{"80\n", "10000\t65535\n", "8125\n"})
		path := filepath.Join(dir, "sys/net/ipv4", name)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(path, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := NewProcfs(dir, dir).PortRanges()
		if want := fmt.Sprintf("read port ranges: %s: not a regular file", path); err == nil || err.Error() != want || !cmp.Equal(got, defaultPortRanges) {
			t.Errorf("%d: got %v, %v, want %s", i, got, err, want)
		}
	}
}

// FuzzPortRanges shows that texts which are taken are taken whole.
func FuzzPortRanges(f *testing.F) {
	for _, reserved := range []string{"\n", "8125,9000-9010\n", "0-65535\n", "9010-9000", "1,,2", "-", "65536"} {
		f.Add("1024\n", "32768\t60999\n", reserved)
	}
	f.Fuzz(func(t *testing.T, start, local, reserved string) {
		ranges, err := parsePortRanges([...]string{start, local, reserved})
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
				t.Errorf("the error is no short line: %q", err)
			}
			return
		}
		again, err := parsePortRanges([...]string{
			fmt.Sprint(ranges.UnprivilegedStart), fmt.Sprint(ranges.EphemeralFirst, ranges.EphemeralLast), ranges.Reserved.String(),
		})
		if err != nil || !cmp.Equal(again, ranges) {
			t.Errorf("%q, %q and %q are read as %v, which is read as %v, %v", start, local, reserved, ranges, again, err)
		}
		if want := strings.TrimSpace(reserved); len(ranges.Reserved) != strings.Count(want, ",")+1 && want != "" {
			t.Errorf("%q is read as %v", reserved, ranges.Reserved)
		}
	})
}
