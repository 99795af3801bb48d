//go:build linux

package program

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

// Listen opens a listening socket, which the end of the test closes unless the caller does.
func Listen(t testing.TB, proto, address string, options ...netnstest.Option) (closeNow func()) {
	t.Helper()
	fd, err := netnstest.Listen(proto, address, options...)
	if err != nil {
		t.Fatal(err)
	}
	open := true
	closeNow = func() {
		if open {
			open = false
			_ = unix.Close(fd)
		}
	}
	t.Cleanup(closeNow)
	return closeNow
}

// StartLive starts the program as make builds it, as the user of the test.
func StartLive(t testing.TB, args ...string) *Exporter {
	t.Helper()
	return Launch(t, exec.Command(Path(t), append(args, "--web.listen-address=127.0.0.1:0")...)).Listen()
}

// StartNobody starts the program as make builds it, without any privilege.
func StartNobody(t testing.TB, args ...string) *Exporter {
	t.Helper()
	return Launch(t, netnstest.Nobody(t, Path(t), append(args, "--web.listen-address=127.0.0.1:0")...)).Listen()
}

// WantListeners checks the listeners on a page, such as "tcp ipv4 127.0.0.1:22 loopback privileged". The exporter's own one is
// called own.
func (e *Exporter) WantListeners(page string, want ...string) {
	e.t.Helper()
	found := []string{}
	for series := range Samples(e.t, page) {
		if !strings.HasPrefix(series, "host_listen_port{") {
			continue
		}
		address := net.JoinHostPort(Label(series, "address"), Label(series, "port"))
		if address == e.Address {
			found = append(found, "own")
			continue
		}
		found = append(found, strings.Join([]string{
			Label(series, "proto"), Label(series, "family"), address, Label(series, "scope"), Label(series, "range"),
		}, " "))
	}
	slices.Sort(found)
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), found); diff != "" {
		e.t.Errorf("listeners (-want +reported):\n%s", diff)
	}
}

// WantSuccess checks the success gauges of a page.
func (e *Exporter) WantSuccess(page, tcp, udp string) {
	e.t.Helper()
	found := Samples(e.t, page)
	for proto, want := range map[string]string{"tcp": tcp, "udp": udp} {
		if got := found[`host_listen_collector_success{collector="`+proto+`"}`]; got != want {
			e.t.Errorf("host_listen_collector_success of %s is %q, want %s", proto, got, want)
		}
	}
}
