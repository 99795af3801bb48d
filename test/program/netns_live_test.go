package program_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// livePod starts a process in a fresh network namespace that listens on a TCP port, and returns its pid and the namespace's name.
func livePod(t *testing.T, port int) (cmd *exec.Cmd, name string) {
	t.Helper()
	if err := netnstest.Elsewhere("", func() error {
		fd, err := netnstest.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), "socket")
		defer file.Close() // the process has it
		cmd = exec.Command("sleep", "1000")
		cmd.ExtraFiles = []*os.File{file}
		return cmd.Start()
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endPod(cmd) })
	var stat unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/net/tcp", cmd.Process.Pid), &stat); err != nil {
		t.Fatal(err)
	}
	return cmd, fmt.Sprintf("unknown-%d", stat.Ino)
}

// endPod may be called again.
func endPod(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// namespaced returns the TCP ports that a page reports, as "netns port", or "port" of the main namespace. The exporter's own
// one is left out.
func namespaced(t *testing.T, e *program.Exporter, page string) []string {
	t.Helper()
	found := []string{}
	for series := range program.Samples(t, page) {
		if !strings.HasPrefix(series, "host_listen_port{") || e.Address == net.JoinHostPort(program.Label(series, "address"), program.Label(series, "port")) {
			continue
		}
		found = append(found, strings.TrimSpace(program.Label(series, "netns")+" "+program.Label(series, "port")))
	}
	slices.Sort(found)
	return found
}

// awaitNamespaced scrapes until a page reports these, and returns the page.
func awaitNamespaced(t *testing.T, e *program.Exporter, want ...string) (page string) {
	t.Helper()
	slices.Sort(want)
	e.Await(strings.Join(want, ", "), func() bool {
		page = e.Scrape()
		e.WantSuccess(page, "1", "1")
		return slices.Equal(want, namespaced(t, e, page))
	})
	return page
}

// hostWarnings returns the warnings, without the one about the test's own PID namespace.
func hostWarnings(e *program.Exporter) []string {
	return slices.DeleteFunc(e.Warnings(), func(line string) bool { return strings.Contains(line, "not the machine's first") })
}

// aboutNamespaces returns the samples of a page that only --collector.netns=all has.
func aboutNamespaces(t *testing.T, page string) map[string]string {
	t.Helper()
	found := program.Samples(t, page)
	for series := range found {
		if !strings.Contains(series, "namespaces") && !strings.Contains(series, `collector="netns"`) && !strings.Contains(series, `netns="`) ||
			strings.HasPrefix(series, "host_listen_collector_duration_seconds") {
			delete(found, series)
		}
	}
	return found
}

func TestAllNetworkNamespacesOfAHost(t *testing.T) {
	program.Path(t) // before the tests enter their namespaces
	for _, test := range []struct {
		name string
		body func(t *testing.T)
	}{
		{"each_port_has_the_name_of_its_namespace", testAllNamespaces},
		{"without_the_flag_the_page_has_one_namespace", testOneNamespace},
	} {
		t.Run(test.name, func(t *testing.T) {
			netnstest.RunAsHost(t, test.body)
		})
	}
}

func testAllNamespaces(t *testing.T) {
	program.Listen(t, "tcp", "0.0.0.0:22")
	_, first := livePod(t, 22)
	_, second := livePod(t, 80)
	for _, test := range []struct {
		name    string
		start   func(testing.TB, ...string) *program.Exporter
		args    []string
		netlink bool     // other namespaces are read through it
		warning []string // parts of the only one; nil for none
	}{
		{"as_root", program.StartLive, nil, true, nil},
		{"as_root_through_procfs", program.StartLive, []string{"--collector.source=procfs"}, false, nil},
		{
			"as_nobody", program.StartNobody, nil, false,
			[]string{"procfs", "open /proc/1/ns/net", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "other network namespaces"},
		},
		{"as_nobody_with_netlink_in_the_main_one", program.StartNobody, []string{"--collector.source=netlink"}, false, []string{"procfs", "CAP_SYS_ADMIN", "other network namespaces"}},
		{"as_nobody_through_procfs", program.StartNobody, []string{"--collector.source=procfs"}, false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := test.start(t, append(test.args, "--collector.netns=all", "--no-collector.holder")...)
			page := awaitNamespaced(t, e, "22", first+" 22", second+" 80")
			about := aboutNamespaces(t, page)
			for series, want := range map[string]string{
				"host_listen_namespaces":                           "3",
				`host_listen_collector_success{collector="netns"}`: "1",
			} {
				if about[series] != want {
					t.Errorf("%s is %q, want %s", series, about[series], want)
				}
			}
			if omitted, err := strconv.Atoi(about["host_listen_namespaces_omitted"]); err != nil || omitted > 2 {
				t.Errorf("host_listen_namespaces_omitted is %q", about["host_listen_namespaces_omitted"])
			}
			if took := program.Samples(t, page)[`host_listen_collector_duration_seconds{collector="netns"}`]; took == "" {
				t.Error("there is no duration of the collector netns")
			}
			limits := 0
			for series := range about {
				if strings.HasPrefix(series, "host_listen_port_accept_queue_limit{") {
					limits++
				}
			}
			if want := map[bool]int{true: 2}[test.netlink]; limits != want {
				t.Errorf("%d backlog limits in other namespaces, want %d", limits, want)
			}
			switch w := hostWarnings(e); {
			case len(test.warning) == 0 && len(w) > 0:
				t.Errorf("warnings %q, want none", w)
			case len(test.warning) > 0 && len(w) != 1:
				t.Errorf("warnings %q, want one", w)
			default:
				for _, part := range test.warning {
					if !strings.Contains(w[0], part) {
						t.Errorf("warning %q, want one with %q", w[0], part)
					}
				}
			}
			if lines := e.ErrorLines(); len(lines) != 0 {
				t.Errorf("errors %q, want none", lines)
			}
		})
	}
}

func testOneNamespace(t *testing.T) {
	program.Listen(t, "tcp", "0.0.0.0:22")
	livePod(t, 80)
	for _, args := range [][]string{nil, {"--collector.netns=host"}, {"--collector.netns=self"}} {
		e := program.StartLive(t, args...)
		page := awaitNamespaced(t, e, "22")
		if diff := cmp.Diff(map[string]string{}, aboutNamespaces(t, page)); diff != "" {
			t.Errorf("%q: about other namespaces (-want +got):\n%s", args, diff)
		}
		for _, none := range []string{"host_listen_namespaces", `"netns"`} {
			if strings.Contains(page, none) {
				t.Errorf("%q: the page has %s", args, none)
			}
		}
		e.Stop()
	}
}
