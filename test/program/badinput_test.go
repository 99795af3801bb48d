package program_test

import (
	"fmt"
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

// A protocol whose sockets cannot be read loses its series and its success, and nothing else: the page is served, the other
// protocol is whole, and one log line says what is wrong in which file.
func TestBadInputFailsOneProtocolAndNothingElse(t *testing.T) {
	put := func(name, table string) func(*testing.T, string) {
		return func(t *testing.T, procfs string) { program.WriteTable(t, procfs, name, table) }
	}
	remove := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, procfs string) {
			for _, name := range names {
				if err := os.RemoveAll(program.TablePath(procfs, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	directory := func(name string) func(*testing.T, string) {
		return func(t *testing.T, procfs string) {
			remove(name)(t, procfs)
			if err := os.Mkdir(program.TablePath(procfs, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	linkToItself := func(name string) func(*testing.T, string) {
		return func(t *testing.T, procfs string) {
			remove(name)(t, procfs)
			if err := os.Symlink(name, program.TablePath(procfs, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	garbage := strings.Repeat("\x00\xff\x7fELF\n\x01: zz\r", 500)

	for _, test := range []struct {
		name string
		harm func(t *testing.T, procfs string)
		fail string // the protocol that fails
		file string
		want string // regular expression, in the error
	}{
		{"UDP row of 12 columns", put("udp", program.UDPHeader+program.UDP53+"  101: 00000000:0036 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1024 2 0000000000000000\n"), "udp", "udp", `line 3: 12 columns, want at least 13`},
		{"UDP row of 12 columns, IPv6", put("udp6", strings.TrimSuffix(program.UDP6Table, " 0\n")+"\n"), "udp", "udp6", `line 2: 12 columns, want at least 13`},
		{"truncated row", put("tcp", program.TCPTable+"   4: 00000000:0050 00000000:0000 0A 0000"), "tcp", "tcp", `line 6: 5 columns, want at least 10`},
		{"row cut off in the local address", put("tcp", program.TCPTable+"   4: 00000000:00"), "tcp", "tcp", `line 6: 2 columns, want at least 10`},
		{"address that is not hexadecimal", put("tcp", program.TCPHeader+strings.Replace(program.TCP22, "00000000:0016", "localhos:0016", 1)), "tcp", "tcp", `line 2: malformed: .*localhos`},
		{"port that is not hexadecimal", put("udp", program.UDPHeader+strings.Replace(program.UDP53, ":0035", ":00zz", 1)), "udp", "udp", `line 2: malformed: .*00zz`},
		{"port above 65535", put("tcp", program.TCPHeader+strings.Replace(program.TCP22, ":0016", ":10016", 1)), "tcp", "tcp", `line 2: `},
		{"IPv6 address in the IPv4 table", put("tcp", program.TCPHeader+program.TCP6On443), "tcp", "tcp", `line 2: `},
		{"IPv4 address in the IPv6 table", put("udp6", program.UDP6Header+program.UDP53), "udp", "udp6", `line 2: `},
		{"state that is not hexadecimal", put("tcp", program.TCPHeader+strings.Replace(program.TCP22, " 0A ", " LI ", 1)), "tcp", "tcp", `line 2: malformed`},
		{"inode that is no number", put("udp", program.UDPHeader+strings.Replace(program.UDP53, " 1020 ", " -1 ", 1)), "udp", "udp", `line 2: malformed`},
		{"empty line in the middle", put("tcp", program.TCPHeader+"\n"+program.TCP22), "tcp", "tcp", `line 2: 0 columns, want at least 10`},
		{"line of 4 MB", put("tcp", program.TCPTable+strings.Repeat("x", 4<<20)+"\n"), "tcp", "tcp", `line 6: longer than \d+ bytes`},
		{"line of 4 MB of UDP", put("udp6", program.UDP6Header+strings.Repeat(" ", 4<<20)+"\n"), "udp", "udp6", `line 2: longer than \d+ bytes`},
		{"header of 4 MB", put("tcp", strings.Repeat("sl ", 4<<20/3)), "tcp", "tcp", `line 1: longer than \d+ bytes`},
		{"garbage", put("udp", garbage), "udp", "udp", `line 1: .* is not the header`},
		{"garbage after the header", put("udp", program.UDPHeader+garbage), "udp", "udp", `line 2: `},
		{"empty file", put("tcp", ""), "tcp", "tcp", `line 1: .* is not the header`},
		{"empty file of IPv6", put("tcp6", ""), "tcp", "tcp6", `line 1: .* is not the header`},
		{"empty file of UDP", put("udp", ""), "udp", "udp", `line 1: .* is not the header`},
		{"missing tcp", remove("tcp"), "tcp", "tcp", `no such file or directory`},
		{"missing udp", remove("udp"), "udp", "udp", `no such file or directory`},
		{"missing tcp and tcp6", remove("tcp", "tcp6"), "tcp", "tcp", `no such file or directory`},
		{"directory in the place of tcp", directory("tcp"), "tcp", "tcp", `is a directory`},
		{"directory in the place of tcp6", directory("tcp6"), "tcp", "tcp6", `is a directory`},
		{"directory in the place of udp", directory("udp"), "udp", "udp", `is a directory`},
		{"link to itself in the place of udp", linkToItself("udp"), "udp", "udp", `too many levels of symbolic links`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			procfs := program.NewProcfs(t)
			test.harm(t, procfs)
			e := program.Start(t, "--path.procfs="+procfs)
			checkFailure(t, e, test.fail, program.TablePath(procfs, test.file), test.want)
			if err := os.RemoveAll(filepath.Join(procfs, "1")); err != nil {
				t.Fatal(err)
			}
			program.NewProcfsAt(t, procfs)
			page := e.Scrape()
			e.WantSuccess(page, "1", "1")
			if diff := cmp.Diff(healthySamples[test.fail], listenerSamples(t, page, test.fail)); diff != "" {
				t.Errorf("mended: series of %s differ (-want +got):\n%s", test.fail, diff)
			}
		})
	}
}

// checkFailure checks that exactly one protocol fails, because of one file.
func checkFailure(t *testing.T, e *program.Exporter, proto, file, want string) {
	t.Helper()
	e.AwaitReady()
	for range 2 {
		e.Scrape()
	}
	page := e.Scrape()
	found := program.Samples(t, page)
	for _, p := range []string{"tcp", "udp"} {
		success, whole := "1", healthySamples[p]
		if p == proto {
			success, whole = "0", map[string]string{}
		}
		if got := found[fmt.Sprintf("host_listen_collector_success{collector=%q}", p)]; got != success {
			t.Errorf("host_listen_collector_success of %s is %q, want %s", p, got, success)
		}
		if _, there := found[fmt.Sprintf("host_listen_collector_duration_seconds{collector=%q}", p)]; !there {
			t.Errorf("no host_listen_collector_duration_seconds of %s", p)
		}
		if diff := cmp.Diff(whole, listenerSamples(t, page, p)); diff != "" {
			t.Errorf("series of %s differ (-want +got):\n%s", p, diff)
		}
	}

	lines := e.ErrorLines()
	if len(lines) != 1 {
		t.Fatalf("%d error lines, want 1: %q", len(lines), lines)
	}
	fields := program.CheckLines(t, "logfmt", lines[0]+"\n")[0]
	if got, want := fields.Get("msg"), "cannot read listening "+proto+" sockets"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	if got := fields.Get("err"); !regexp.MustCompile(regexp.QuoteMeta(file) + ": .*" + want).MatchString(got) {
		t.Errorf("the error %q does not say %s: …%s", got, file, want)
	}
	if len(lines[0]) > 2000 {
		t.Errorf("the line has %d bytes", len(lines[0]))
	}
	if log := e.Stderr.String(); strings.Contains(log, "goroutine ") {
		t.Errorf("a stack in the log:\n%s", log)
	}
}

// listenerSamples returns the samples about listeners of one protocol.
func listenerSamples(t *testing.T, page, proto string) map[string]string {
	t.Helper()
	found := program.Samples(t, page)
	for series := range found {
		if !strings.Contains(series, fmt.Sprintf("proto=%q", proto)) {
			delete(found, series)
		}
	}
	return found
}

// healthySamples are the series of program.NewProcfs by protocol.
var healthySamples = map[string]map[string]string{
	"tcp": {
		`host_listen_port{address="0.0.0.0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"}`:                        "1",
		`host_listen_port{address="127.0.0.1",family="ipv4",port="8080",proto="tcp",range="user",scope="loopback"}`:                     "1",
		`host_listen_port{address="::",family="ipv6",port="443",proto="tcp",range="privileged",scope="any"}`:                            "1",
		`host_listen_port_sockets{address="0.0.0.0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"}`:                "1",
		`host_listen_port_sockets{address="127.0.0.1",family="ipv4",port="8080",proto="tcp",range="user",scope="loopback"}`:             "1",
		`host_listen_port_sockets{address="::",family="ipv6",port="443",proto="tcp",range="privileged",scope="any"}`:                    "1",
		`host_listen_port_accept_queue_length{address="0.0.0.0",family="ipv4",port="22",proto="tcp",range="privileged",scope="any"}`:    "3",
		`host_listen_port_accept_queue_length{address="127.0.0.1",family="ipv4",port="8080",proto="tcp",range="user",scope="loopback"}`: "0",
		`host_listen_port_accept_queue_length{address="::",family="ipv6",port="443",proto="tcp",range="privileged",scope="any"}`:        "0",
	},
	"udp": {
		`host_listen_port{address="0.0.0.0",family="ipv4",port="53",proto="udp",range="privileged",scope="any"}`:                             "1",
		`host_listen_port{address="fe80::1",family="ipv6",port="546",proto="udp",range="privileged",scope="link-local"}`:                     "1",
		`host_listen_port_sockets{address="0.0.0.0",family="ipv4",port="53",proto="udp",range="privileged",scope="any"}`:                     "1",
		`host_listen_port_sockets{address="fe80::1",family="ipv6",port="546",proto="udp",range="privileged",scope="link-local"}`:             "1",
		`host_listen_port_receive_queue_bytes{address="0.0.0.0",family="ipv4",port="53",proto="udp",range="privileged",scope="any"}`:         "512",
		`host_listen_port_receive_queue_bytes{address="fe80::1",family="ipv6",port="546",proto="udp",range="privileged",scope="link-local"}`: "0",
		`host_listen_port_drops_total{address="0.0.0.0",family="ipv4",port="53",proto="udp",range="privileged",scope="any"}`:                 "0",
		`host_listen_port_drops_total{address="fe80::1",family="ipv6",port="546",proto="udp",range="privileged",scope="link-local"}`:         "0",
	},
}

func TestAFileThatMayNotBeReadFailsItsProtocolAlone(t *testing.T) {
	for _, test := range []struct{ proto, file string }{{"tcp", "tcp"}, {"tcp", "tcp6"}, {"udp", "udp"}} {
		t.Run(test.file, func(t *testing.T) {
			var wrapper []string
			if os.Geteuid() == 0 {
				setpriv, err := exec.LookPath("setpriv")
				if err != nil {
					t.Skip("setpriv is not on the PATH: root may read everything")
				}
				const readAll = "-dac_override,-dac_read_search"
				wrapper = []string{setpriv, "--bounding-set=" + readAll, "--inh-caps=" + readAll}
			}
			procfs := program.NewProcfs(t)
			if err := os.Chmod(program.TablePath(procfs, test.file), 0); err != nil {
				t.Fatal(err)
			}
			args := append(slices.Clone(wrapper), program.Path(t), "--path.procfs="+procfs, "--web.listen-address=127.0.0.1:0")
			cmd := exec.Command(args[0], args[1:]...)
			checkFailure(t, program.Launch(t, cmd).Listen(), test.proto, program.TablePath(procfs, test.file), "permission denied")
		})
	}
}

// What looks odd and is not wrong.
func TestInputThatIsNotBadIsRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, procfs string)
		dir    string // of the procfs, below a temporary directory
		want   []string
	}{
		{
			"IPv6 switched off in the kernel", func(t *testing.T, procfs string) {
				for _, name := range []string{"tcp6", "udp6"} {
					if err := os.Remove(program.TablePath(procfs, name)); err != nil {
						t.Fatal(err)
					}
				}
			}, "proc", []string{"tcp 22", "tcp 8080", "udp 53"},
		},
		{"path that contains udp", func(*testing.T, string) {}, "udp/proc-udp6", []string{"tcp 22", "tcp 443", "tcp 8080", "udp 53", "udp 546"}},
		{"path with spaces and letters of other scripts", func(*testing.T, string) {}, "mein Rechner/прoc", []string{"tcp 22", "tcp 443", "tcp 8080", "udp 53", "udp 546"}},
		{"nothing listens", func(t *testing.T, procfs string) {
			program.WriteTable(t, procfs, "tcp", program.TCPHeader)
			program.WriteTable(t, procfs, "tcp6", program.TCP6Header)
			program.WriteTable(t, procfs, "udp", program.UDPHeader)
			program.WriteTable(t, procfs, "udp6", program.UDP6Header)
		}, "proc", nil},
		{"sockets that share a port", func(t *testing.T, procfs string) {
			program.WriteTable(t, procfs, "tcp", program.TCPTable+strings.Replace(program.TCP22, "1016", "2016", 1)+strings.Replace(program.TCP22, "1016", "3016", 1))
		}, "proc", []string{"tcp 22", "tcp 443", "tcp 8080", "udp 53", "udp 546"}},
		{"last row without a newline", func(t *testing.T, procfs string) {
			program.WriteTable(t, procfs, "udp", strings.TrimSuffix(program.UDPHeader+program.UDP53, "\n"))
		}, "proc", []string{"tcp 22", "tcp 443", "tcp 8080", "udp 53", "udp 546"}},
		{"more columns than today's kernel has", func(t *testing.T, procfs string) {
			program.WriteTable(t, procfs, "udp", program.UDPHeader+strings.TrimSuffix(program.UDP53, "\n")+" 1 2 3\n")
		}, "proc", []string{"tcp 22", "tcp 443", "tcp 8080", "udp 53", "udp 546"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			procfs := program.NewProcfsAt(t, filepath.Join(t.TempDir(), test.dir))
			test.change(t, procfs)
			e := program.Start(t, "--path.procfs="+procfs)
			page := e.Scrape()
			if diff := cmp.Diff(test.want, program.Ports(t, page)); diff != "" {
				t.Errorf("ports differ (-want +got):\n%s", diff)
			}
			found := program.Samples(t, page)
			for _, proto := range []string{"tcp", "udp"} {
				if got := found[fmt.Sprintf("host_listen_collector_success{collector=%q}", proto)]; got != "1" {
					t.Errorf("host_listen_collector_success of %s is %q, want 1", proto, got)
				}
			}
			if lines := e.ErrorLines(); len(lines) > 0 {
				t.Errorf("errors in the log: %q", lines)
			}
		})
	}
}
