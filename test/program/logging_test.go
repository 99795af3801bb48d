//go:build linux

package program_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestEveryPartOfTheRunningProgramLogsInTheSameFormat(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			procfs := program.NewProcfs(t)
			program.WriteTable(t, procfs, "udp", "")
			identity := newIdentity(t)
			e := program.Start(t, "--path.procfs="+procfs, "--no-collector.holder", "--log.format="+format, "--web.config.file="+identity.config)
			useTLS(e, identity)

			// The program's own error, which is logged once however often it is scraped.
			for range 3 {
				e.Scrape()
			}
			// net/http's error.
			conn, err := net.Dial("tcp", e.Address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "this is no TLS handshake\n"); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			e.Await("a line about the handshake", func() bool { return strings.Contains(e.Stderr.String(), "TLS handshake error") })
			// The toolkit's error: it reads its file at each request.
			if err := os.WriteFile(identity.config, []byte("{"), 0o644); err != nil {
				t.Fatal(err)
			}
			if resp := e.Get("/metrics"); resp.Status != http.StatusInternalServerError {
				t.Errorf("status %d with a broken web config, want 500", resp.Status)
			}
			e.Signal(os.Interrupt)
			if code := e.Wait(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}

			var got []string
			for _, line := range program.CheckLines(t, format, e.Stderr.String()) {
				message := line.Get("msg")
				if strings.HasPrefix(message, "http: TLS handshake error from 127.0.0.1:") {
					message = "http: TLS handshake error"
				}
				got = append(got, fmt.Sprintf("%s %q", line.Get("level"), message))
			}
			want := []string{
				`info "starting listen_exporter"`,
				`warn "the observed network namespace is not the exporter's own: it is read through procfs, and port ranges are the kernel's defaults, whatever its sysctls say"`,
				`info "observing a network namespace"`,
				`info "Listening on"`,
				`info "TLS is enabled."`,
				`error "cannot read listening udp sockets"`,
				`error "http: TLS handshake error"`,
				`error "Unable to parse configuration"`,
				`info "shutting down: finishing the scrapes in progress"`,
			}
			// The first snapshot and the server start at the same time.
			if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
				t.Errorf("lines differ (-want +got):\n%s", diff)
			}
			if e.Stdout.String() != "" {
				t.Errorf("on stdout: %s", e.Stdout.String())
			}
		})
	}
}

func TestTheLogTakesNoHarmFromHostileInput(t *testing.T) {
	dir := program.NewProcfsAt(t, filepath.Join(t.TempDir(), "a \"quoted\"\nlevel=error ts=now\tcaller=x"))
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			program.WriteTable(t, dir, "udp", program.UDPHeader+"\x00\xff\x1b[31m level=error\r caller=y\n")
			e := program.Start(t, "--path.procfs="+dir, "--log.format="+format)
			e.Scrape()
			e.Signal(os.Interrupt)
			e.Wait()
			program.CheckLines(t, format, e.Stderr.String())
		})
	}
}
