package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
)

const livePorts = "services:\n  - {name: ssh, port: 22}\n  - {name: web, port: 443, bind: loopback}\n"

func TestARegistryThatNobodyMayReadStaysInForce(t *testing.T) {
	binary := liveBinary(t)
	netnstest.RunAsHost(t, func(t *testing.T) {
		liveListen(t, "tcp", "0.0.0.0:22")
		liveListen(t, "tcp", "0.0.0.0:443")
		dir := netnstest.OpenDir(t)
		file := filepath.Join(dir, "ports.yml")
		put(t, file, livePorts)
		e := liveStartAsNobody(t, binary, "--registry.file="+file)
		want := func(when, reloaded string, services ...string) {
			t.Helper()
			// The exporter's own port comes and goes with the test; it is never a violation.
			found := samples(t, e.scrape())
			got := slices.DeleteFunc(said(found), func(line string) bool { return line == "tcp "+portOf(e.address)+" 1" })
			if diff := cmp.Diff(services, got); diff != "" || found[reloadedGauge] != reloaded {
				t.Errorf("%s: reloaded %s, want %s; (-want +got):\n%s", when, found[reloadedGauge], reloaded, diff)
			}
		}
		first := []string{"ssh 1", "tcp 22 1", "tcp 443 0", "web 0"}
		want("at the start", "1", first...)

		must(t, os.Chmod(file, 0))
		want("closed", "0", first...)
		want("still closed", "0", first...)
		if lines := e.errorLines(); len(lines) != 1 {
			t.Errorf("logged %q, want one line", lines)
		}
		must(t, os.Chmod(file, 0o644))
		want("open again", "1", first...)

		must(t, os.Chmod(dir, 0o700))
		want("in a closed directory", "0", first...)
		must(t, os.Chmod(dir, 0o755))
		renameOver(t, file, "services:\n  - {name: web, port: [22, 443]}\n")
		want("in an open one, and another", "1", "tcp 22 1", "tcp 443 1", "web 1", "web 1")
		if lines := e.errorLines(); len(lines) != 2 {
			t.Errorf("logged %q, want two lines", lines)
		}

		must(t, os.Chmod(file, 0))
		closed := launch(t, netnstest.Nobody(t, binary, "--web.listen-address=127.0.0.1:0", "--registry.file="+file))
		if code := closed.wait(); code != exitFailure || len(closed.errorLines()) != 1 {
			t.Errorf("closed at the start: exit code %d, want %d; logged %q", code, exitFailure, closed.errorLines())
		}
	})
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
