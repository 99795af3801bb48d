//go:build linux

package prometheus

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

const nodeExporterAddress = "127.0.0.1:9100"

// onlyScraped are the families that no single read can know: counters, and what needs a memory.
var onlyScraped = regexp.MustCompile(`_total$|_start_timestamp_seconds$|_first_seen_timestamp_seconds$|_last_change_timestamp_seconds$|_state_loaded$|_watch_interval_seconds$`)

// varying is a value that differs between two reads.
var varying = regexp.MustCompile(`^(host_listen_time_seconds|host_listen_collector_duration_seconds\{.*\}|host_listen_registry_last_reload_success_timestamp_seconds) .*`)

func TestNodeExporterServesWhatListWritesAsAScrapeWould(t *testing.T) {
	path := host.Program(t, "test-prometheus")
	node := tools.Look(t, "node_exporter")
	netnstest.Run(t, func(t *testing.T) { testTextfile(t, path, node) })
}

func testTextfile(t *testing.T, path, node string) {
	openListeners(t, 7009)
	dir := host.OpenDir(t)
	file, registry := filepath.Join(dir, "listen.prom"), filepath.Join(dir, "ports.yml")
	if err := os.WriteFile(registry, []byte("services: [{name: web, port: 7001}, {name: gone, port: 7100}, {name: db, port: 7002, bind: loopback}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Another user than the one who writes the file.
	nodeExporter := program.Launch(t, netnstest.Nobody(t, node, "--collector.disable-defaults", "--collector.textfile",
		"--collector.textfile.directory="+dir, "--web.listen-address="+nodeExporterAddress, "--log.level=warn"))
	var served string
	serve := func() (err error) {
		served, err = host.Get("http://" + nodeExporterAddress + "/metrics")
		return err
	}
	if err := host.Await(patience, serve); err != nil { // its own listener is in the file too
		t.Fatal(err)
	}
	flags := []string{"--collector.netns=self", "--registry.file=" + registry, "--web.listen-address=127.0.0.1:10190"}
	exporter := program.Launch(t, exec.Command(path, flags...)).Listen()
	exporter.AwaitReady()
	list := exec.Command("sh", append([]string{"-c", `umask 077 && exec "$@"`, "sh", path, "list", "--format=prometheus", "--output=" + file}, flags...)...)
	if output, err := list.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if err := serve(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nnode_textfile_scrape_error 0\n", "\nnode_textfile_mtime_seconds{file=\"" + file + "\"} "} {
		if !strings.Contains(served, want) {
			t.Errorf("node_exporter does not serve %q", want)
		}
	}
	if diff := gocmp.Diff(ours(exporter.Scrape()), ours(served)); diff != "" {
		t.Errorf("node_exporter serves something else than a scrape gets (-scrape +node_exporter):\n%s\n%s", diff, &nodeExporter.Stderr)
	}
}

// emptyLabel is a label that is not there, as Prometheus sees it. node_exporter gives every series of a family the same labels.
var emptyLabel = regexp.MustCompile(`,[a-z_]+=""`)

// ours returns the sorted lines of a page that are about listeners, but for the families of onlyScraped and the values of varying.
func ours(page string) (lines []string) {
	name := regexp.MustCompile(`^(?:# (?:HELP|TYPE) )?((?:host_listen|listen_exporter)_[a-z0-9_]+)`)
	for line := range strings.Lines(page) {
		if found := name.FindStringSubmatch(line); found != nil && !onlyScraped.MatchString(found[1]) {
			lines = append(lines, emptyLabel.ReplaceAllString(varying.ReplaceAllString(line, "$1"), ""))
		}
	}
	slices.Sort(lines)
	return lines
}
