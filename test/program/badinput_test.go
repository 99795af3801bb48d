//go:build linux

package program_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// listenerSamples returns the samples about listeners of one protocol.
func listenerSamples(t *testing.T, page, proto string) map[string]string {
	t.Helper()
	found := program.Samples(t, page)
	maps.DeleteFunc(found, func(series, _ string) bool {
		return !strings.HasPrefix(series, "host_listen_port") || !strings.Contains(series, fmt.Sprintf("proto=%q", proto))
	})
	return found
}

// A protocol whose sockets cannot be read loses its series and its success, and nothing else: the page is served, the other
// protocol is complete, and one log line names the file and the cause. The next good read ends that.
func TestBadInputFailsOneProtocolAndNothingElse(t *testing.T) {
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	put := func(table string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			remove(t, path)
			if err := os.WriteFile(path, []byte(table), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name, file string
		harm       func(t *testing.T, path string)
		want       string // regular expression, in the error
	}{
		{"truncated row", "tcp", put(program.TCPTable + "   4: 00000000:0050 00000000:0000 0A 0000"), `line 6: 5 columns, want at least 10`},
		{"line of 4 MB", "tcp", put(program.TCPTable + strings.Repeat("x", 4<<20) + "\n"), `line 6: longer than \d+ bytes`},
		{"garbage in a table of IPv6", "udp6", put(strings.Repeat("\x00\xff\x7fELF\n\x01: zz\r", 500)), `line 1: not the header of a socket table`},
		{"missing", "udp", remove, `no such file or directory`},
		{"FIFO", "tcp", func(t *testing.T, path string) {
			remove(t, path)
			if err := syscall.Mkfifo(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}, `not a regular file`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			procfs := program.NewProcfs(t)
			e := program.Start(t, "--path.procfs="+procfs)
			healthy := e.Scrape()
			path := program.TablePath(procfs, test.file)
			test.harm(t, path)
			proto, other := "tcp", "udp"
			if strings.HasPrefix(test.file, "udp") {
				proto, other = other, proto
			}
			success := map[string]string{proto: "0", other: "1"}
			for range 3 {
				page := e.Scrape()
				e.WantSuccess(page, success["tcp"], success["udp"])
				if diff := cmp.Diff(map[string]string{}, listenerSamples(t, page, proto)); diff != "" {
					t.Errorf("series of %s (-want +got):\n%s", proto, diff)
				}
				if diff := cmp.Diff(listenerSamples(t, healthy, other), listenerSamples(t, page, other)); diff != "" {
					t.Errorf("series of %s (-want +got):\n%s", other, diff)
				}
			}
			e.Await("a line in the log", func() bool { return len(e.ErrorLines()) > 0 })
			lines := e.ErrorLines()
			if len(lines) != 1 || len(lines[0]) > 2000 {
				t.Fatalf("%d error lines, want a short one: %.3000q", len(lines), lines)
			}
			line := program.CheckLines(t, "logfmt", lines[0]+"\n")[0]
			if msg := line.Get("msg"); msg != "cannot read listening "+proto+" sockets" {
				t.Errorf("message %q", msg)
			}
			// The file's bytes go to the log only.
			shown := e.Get("/").Body
			if !strings.Contains(shown, path+": ") || strings.Contains(shown, "00000000:0050") || strings.Contains(shown, "xxx") || strings.Contains(shown, "ELF") {
				t.Errorf("the page does not name %s, or shows what it holds:\n%s", path, shown)
			}
			if err := line.Get("err"); !regexp.MustCompile(regexp.QuoteMeta(path) + ": .*" + test.want).MatchString(err) {
				t.Errorf("the error %q does not say %s: …%s", err, path, test.want)
			}

			remove(t, filepath.Join(procfs, "1"))
			program.NewProcfsAt(t, procfs)
			page := e.Scrape()
			e.WantSuccess(page, "1", "1")
			if diff := cmp.Diff(program.Ports(t, healthy), program.Ports(t, page)); diff != "" {
				t.Errorf("ports of a good read (-want +got):\n%s", diff)
			}
		})
	}
}
