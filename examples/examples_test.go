//go:build linux

// Package examples contains the shipped examples. Its tests run every one of them with the real program and the real tools.
package examples

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/docflags"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestEveryFlagThatIsNamedExists(t *testing.T) {
	flags := docflags.Real(t)
	for file, text := range examples(t) {
		for _, flag := range docflags.Unknown(text, flags) {
			t.Errorf("%s names %s, which is not a flag of listen_exporter", file, flag)
		}
	}
}

func TestEveryMetricThatIsNamedIsExported(t *testing.T) {
	names := make(map[string]bool)
	for _, s := range everySeries(t) {
		names[s.name] = true
	}
	// Some are there only while something is wrong. docs/metrics.md is generated from the collector.
	for _, row := range regexp.MustCompile("(?m)^\\| `(host_listen_[a-z_]+)").FindAllStringSubmatch(tools.Read(t, "../docs/metrics.md"), -1) {
		names[row[1]] = true
	}
	for file, text := range examples(t) {
		for _, name := range regexp.MustCompile(`\b(?:host_listen|promhttp)_[a-z0-9_]*|\blisten_exporter_build_info\b`).FindAllString(text, -1) {
			if !names[name] && !strings.HasSuffix(name, "_") { // the prefix of several
				t.Errorf("%s names the metric %s, which the exporter does not export", file, name)
			}
		}
	}
}

// examples returns the text of all examples by path.
func examples(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && !strings.HasSuffix(path, "_test.go") {
			texts[path] = tools.Read(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// series is one line of /metrics.
type series struct {
	name, labels, value string // labels without the braces
}

// everySeries returns the metrics of a running exporter that has seen TCP and UDP listeners appear. A registry does not declare
// them, so that no metric is missing.
func everySeries(t *testing.T) []series {
	t.Helper()
	failover := filepath.Join(t.TempDir(), "failover.yml") // only hosts with a name of their own have one in the example
	write(t, failover, "services: [{name: failover, port: 1, required: one-host}]\n")
	e := program.Start(t, "--collector.netns=all", "--collector.udp.ephemeral-min-age=1ms", "--registry.file="+exampleRegistry, "--registry.file="+failover)
	e.Scrape() // listeners from here on are seen to appear

	ipv6, tcp := listen(t, "tcp6", "[::1]:0"), listen(t, "tcp4", "127.0.0.1:0")
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	firstSeen := func(proto string, address net.Addr) string {
		_, port, _ := strings.Cut(address.String(), ":")
		return `host_listen_port_first_seen_timestamp_seconds{address="127.0.0.1",family="ipv4",port="` + port + `",proto="` + proto + `"`
	}
	page := ""
	e.Await("the first_seen of a TCP and of a UDP listener, and a holder", func() bool {
		page = e.Scrape()
		return strings.Contains(page, "\nhost_listen_port_holder_info{") && strings.Contains(page, firstSeen("tcp", tcp.Addr())) && strings.Contains(page, firstSeen("udp", udp.LocalAddr()))
	})
	runtime.KeepAlive(ipv6)
	var all []series
	for sample, value := range program.Samples(t, page) {
		name, labels, _ := strings.Cut(sample, "{")
		all = append(all, series{name, strings.TrimSuffix(labels, "}"), value})
	}
	return all
}

// listen opens a listener until the end of the test.
func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// write creates a file and the directories that lead to it.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

var (
	commentedKey  = regexp.MustCompile(`^( *)# ((?:- )?[a-z_]+:(?: .*)?)$`)
	commentedMore = regexp.MustCompile(`^( *)# ( +\S.*)$`)
)

// uncomment turns each comment that is a YAML key, with the deeper lines below it, into YAML.
func uncomment(text string) string {
	var lines []string
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if found := commentedKey.FindStringSubmatch(line); found != nil {
			inside = true
			line = found[1] + found[2]
		} else if found := commentedMore.FindStringSubmatch(line); found != nil && inside {
			line = found[1] + found[2]
		} else {
			inside = false
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n") + "\n"
}
