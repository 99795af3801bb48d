//go:build linux

package program_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

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

// aboutNamespaces returns the samples of a page that only --collector.netns=all has, without those whose values are chance.
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

// What is read in each namespace, by each source, is in the tests of internal/inventory.
func TestAllNetworkNamespacesOfAHost(t *testing.T) {
	program.Path(t) // before the test enters its namespaces
	netnstest.RunAsHost(t, func(t *testing.T) {
		pid := netnstest.Hold(t, 0, func() {
			if _, err := netnstest.Listen("tcp", "0.0.0.0:22"); err != nil {
				t.Fatal(err)
			}
		})
		program.Listen(t, "tcp", "0.0.0.0:22")
		var stat unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/net/tcp", pid), &stat); err != nil {
			t.Fatal(err)
		}
		other := fmt.Sprintf("unknown-%d", stat.Ino)
		for _, test := range []struct {
			name    string
			start   func(testing.TB, ...string) *program.Exporter
			netns   string
			limits  int      // how many backlog limits there are in the other namespace, which only netlink has
			warning []string // parts of the only one; nil for none
		}{
			{"as_root", program.StartLive, "all", 1, nil},
			{"as_nobody", program.StartNobody, "all", 0, []string{"procfs", "open /proc/1/ns/net", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "other network namespaces"}},
			{"of_one_namespace", program.StartLive, "host", 0, nil},
		} {
			t.Run(test.name, func(t *testing.T) {
				e := test.start(t, "--collector.netns="+test.netns, "--no-collector.holder")
				want := []string{"22"}
				if test.netns == "all" {
					want = append(want, other+" 22")
				}
				var page string
				e.Await(strings.Join(want, ", "), func() bool {
					page = e.Scrape()
					e.WantSuccess(page, "1", "1")
					return slices.Equal(want, namespaced(t, e, page))
				})
				about, limits := aboutNamespaces(t, page), 0
				for series := range about {
					if strings.HasPrefix(series, "host_listen_port_accept_queue_limit{") {
						limits++
					}
					if test.netns == "all" && strings.HasPrefix(series, "host_listen_port") {
						delete(about, series)
					}
				}
				if limits != test.limits {
					t.Errorf("%d backlog limits in the other namespace, want %d", limits, test.limits)
				}
				wantAbout := map[string]string{}
				if test.netns == "all" {
					wantAbout = map[string]string{
						"host_listen_namespaces": "2", "host_listen_namespaces_omitted": "0", "host_listen_namespaces_never_read": "0",
						`host_listen_collector_success{collector="netns"}`: "1",
					}
				}
				if diff := cmp.Diff(wantAbout, about); diff != "" {
					t.Errorf("about namespaces (-want +got):\n%s", diff)
				}
				// One warning may be about the test's own PID namespace.
				warnings := slices.DeleteFunc(e.Warnings(), func(line string) bool { return strings.Contains(line, "not the machine's first") })
				if lacks := func(part string) bool { return !strings.Contains(warnings[0], part) }; len(warnings) != min(len(test.warning), 1) ||
					slices.ContainsFunc(test.warning, lacks) {
					t.Errorf("warnings %q, want one that has each of %q", warnings, test.warning)
				}
				if lines := e.ErrorLines(); len(lines) != 0 {
					t.Errorf("errors %q, want none", lines)
				}
			})
		}
	})
}
