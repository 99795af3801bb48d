package program_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// listenerSamples returns the samples about listeners of one protocol.
func listenerSamples(t *testing.T, page, proto string) map[string]string {
	t.Helper()
	found := program.Samples(t, page)
	maps.DeleteFunc(found, func(series, _ string) bool { return !strings.Contains(series, fmt.Sprintf("proto=%q", proto)) })
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
		{"UDP row of 12 columns", "udp", put(program.UDPHeader + "  101: 00000000:0036 00000000:0000 07 0:0 0:0 0 0 0 1024 2 0\n"), `line 2: 12 columns, want at least 13`},
		{"garbage in a table of IPv6", "udp6", put(strings.Repeat("\x00\xff\x7fELF\n\x01: zz\r", 500)), `line 1: .* is not the header`},
		{"line of 4 MB", "tcp", put(program.TCPTable + strings.Repeat("x", 4<<20) + "\n"), `line 6: longer than \d+ bytes`},
		{"empty", "tcp6", put(""), `line 1: .* is not the header`},
		{"missing", "udp", remove, `no such file or directory`},
		{"directory", "tcp", func(t *testing.T, path string) {
			remove(t, path)
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, `is a directory`},
		{"link to itself", "udp", func(t *testing.T, path string) {
			remove(t, path)
			if err := os.Symlink(filepath.Base(path), path); err != nil {
				t.Fatal(err)
			}
		}, `too many levels of symbolic links`},
		{"not readable", "tcp6", func(t *testing.T, path string) {
			if err := os.Chmod(path, 0); err != nil {
				t.Fatal(err)
			}
		}, "permission denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			procfs := program.NewProcfs(t)
			command := []string{program.Path(t), "--path.procfs=" + procfs, "--web.listen-address=127.0.0.1:0"}
			if setpriv, err := exec.LookPath("setpriv"); err == nil && os.Geteuid() == 0 {
				const readAll = "-dac_override,-dac_read_search"
				command = slices.Concat([]string{setpriv, "--bounding-set=" + readAll, "--inh-caps=" + readAll}, command)
			} else if os.Geteuid() == 0 && test.name == "not readable" {
				t.Skip("root may read everything, and setpriv is not on the PATH")
			}
			e := program.Launch(t, exec.Command(command[0], command[1:]...)).Listen()
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

// What looks odd and is not wrong.
func TestInputThatIsNotBadIsRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		tables map[string]string // "" for none
		want   []string
	}{
		{"IPv6 is switched off in the kernel", map[string]string{"tcp6": "", "udp6": ""}, []string{"tcp 22", "tcp 8080", "udp 53"}},
		{"nothing listens", map[string]string{"tcp": program.TCPHeader, "tcp6": program.TCP6Header, "udp": program.UDPHeader, "udp6": program.UDP6Header}, nil},
		{
			"sockets share a port, and a path contains udp",
			map[string]string{"tcp": program.TCPTable + strings.Replace(program.TCP22, "1016", "2016", 1) + strings.Replace(program.TCP22, "1016", "3016", 1)},
			[]string{"tcp 22", "tcp 443", "tcp 8080", "udp 53", "udp 546"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			procfs := program.NewProcfsAt(t, filepath.Join(t.TempDir(), "udp/mein Rechner/прoc-udp6"))
			for name, table := range test.tables {
				program.WriteTable(t, procfs, name, table)
				if table == "" {
					if err := os.Remove(program.TablePath(procfs, name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			e := program.Start(t, "--path.procfs="+procfs)
			page := e.Scrape()
			e.WantSuccess(page, "1", "1")
			if diff := cmp.Diff(test.want, program.Ports(t, page)); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
			if lines := e.ErrorLines(); len(lines) > 0 {
				t.Errorf("errors in the log: %q", lines)
			}
		})
	}
}
