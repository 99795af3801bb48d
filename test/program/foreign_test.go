//go:build linux

package program_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// What a table or a registry holds is for those who may read it, and for the log. An answer to the network has place and kind.
func TestNoAnswerShowsWhatAFileHolds(t *testing.T) {
	const secret = "hunter2"
	for _, table := range []struct{ name, text string }{
		{"tcp", program.TCPTable + "   4: " + secret + ":0050 00000000:0000 0A 0000\n"},
		{"tcp", program.TCPTable + strings.Replace(program.TCP22, "00000000:0016", secret, 1)},
		{"tcp6", secret + "\n"},
		{"udp", program.UDPTable + strings.Replace(program.UDP53, "00000200", secret, 1)},
		{"udp6", program.UDP6Table + secret + " " + secret + "\n"},
	} {
		procfs := program.NewProcfs(t)
		program.WriteTable(t, procfs, table.name, table.text)
		file := program.WriteFile(t, "ports.yml", registryA)
		e := program.Start(t, "--web.enable-lifecycle", "--path.procfs="+procfs, "--registry.file="+file)
		put(t, file, "services:\n  - {name: a, "+secret+": 1, port: "+secret+", bind: "+secret+", unit: '"+secret+" x', process: ["+secret+"/]}\n")
		reload, err := e.Request(http.MethodPost, "/-/reload")
		must(t, err)
		if want := file + ":2:"; reload.Status != http.StatusInternalServerError || !strings.Contains(reload.Body, want) {
			t.Errorf("%s: status %d, want 500; %q, want places such as %s", table.name, reload.Status, reload.Body, want)
		}
		answers := map[string]program.Response{"POST /-/reload": reload}
		for _, path := range []string{"/", "/?sort=port", "/api/v1/listeners", "/metrics", "/-/healthy", "/-/ready", "/nothing"} {
			answers["GET "+path] = e.Get(path)
		}
		for request, answer := range answers {
			if strings.Contains(answer.Body, secret) {
				t.Errorf("%s: %s shows what a file holds: %s", table.name, request, answer.Body)
			}
			if answer.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: a browser may take the answer for anything: %v", request, answer.Header)
			}
		}
		if page, path := answers["GET /"].Body, program.TablePath(procfs, table.name); !strings.Contains(page, path) {
			t.Errorf("the page does not name %s: %s", path, page)
		}
		if lines := e.Logged(secret); len(lines) < 2 {
			t.Errorf("%s: the log does not show what is wrong: %s", table.name, e.Stderr.String())
		}
	}
}
