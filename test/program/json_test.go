//go:build linux

package program_test

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// Who reads the JSON of the exporter and that of list needs one parser.
func TestTheJSONOfThePageIsThatOfList(t *testing.T) {
	t.Parallel()
	procfs := program.NewProcfs(t)
	if err := os.Remove(program.TablePath(procfs, "udp6")); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--path.procfs=" + procfs, "--registry.file=" + program.WriteFile(t, "ports.yml", registryA), "--registry.host=web-1",
		"--collector.udp.ephemeral-min-age=0s",
	}
	e := program.Start(t, args...)
	answer := e.Get("/api/v1/listeners")
	if got := answer.Header.Get("Content-Type"); answer.Status != http.StatusOK || got != "application/json" {
		t.Errorf("status %d, Content-Type %q", answer.Status, got)
	}
	_, printed, _ := program.Run(t, append([]string{"list", "--format=json"}, args...)...)
	var lists [2]map[string]any
	for n, text := range []string{printed, answer.Body} {
		if err := json.Unmarshal([]byte(text), &lists[n]); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		delete(lists[n], "time")
		for _, l := range lists[n]["listeners"].([]any) {
			delete(l.(map[string]any), "violation_start") // a single read does not know it
		}
	}
	if diff := cmp.Diff(lists[0], lists[1]); diff != "" || len(lists[0]["listeners"].([]any)) == 0 {
		t.Errorf("the JSON (-list +page):\n%s\n%s", diff, printed)
	}
}
