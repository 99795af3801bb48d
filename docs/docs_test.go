//go:build linux

// Package docs has the documents beyond README.md. Its tests hold every document to the program.
package docs

import (
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/collector"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/docflags"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

func TestMain(m *testing.M) { program.Main(m) }

// documents are held to the program by the tests of this package.
var documents = []string{"README.md", "alerts/README.md", "CHANGELOG.md", "BENCHMARKS.md", "SECURITY.md", "CONTRIBUTING.md", "docs/cardinality.md", "docs/json.md", "docs/upgrade.md", "docs/words.md"}

// read returns the text of a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	return tools.Read(t, filepath.Join(host.Root, name))
}

// hiddenFlags are real, but kingpin leaves them out of --help.
var hiddenFlags = []string{"--help-long", "--help-man", "--completion-bash", "--completion-script-bash", "--completion-script-zsh"}

func TestEveryFlagThatADocumentNamesIsReal(t *testing.T) {
	flags := docflags.Real(t)
	for _, flag := range hiddenFlags {
		flags[flag] = true
	}
	for _, document := range documents {
		for _, flag := range docflags.Unknown(read(t, document), flags) {
			t.Errorf("%s names %s, which is no flag of the program", document, flag)
		}
	}
}

func TestTheReadmeNamesEveryFlag(t *testing.T) {
	readme := read(t, "README.md")
	for flag := range docflags.Real(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(flag, "--"), "no-")
		if !strings.Contains(readme, "--"+name) && !strings.Contains(readme, "--[no-]"+name) && !slices.Contains(hiddenFlags, flag) {
			t.Errorf("README.md does not name %s", flag)
		}
	}
}

// Flags that are on or off have no default in --help.
func TestTheReadmeHasTheDefaultOfEachFlag(t *testing.T) {
	_, help, _ := program.Run(t, "serve", "--help")
	want := make(map[string]string)
	for _, flag := range regexp.MustCompile(`(?m)^ +(--[a-z.-]+)=(\S+)`).FindAllStringSubmatch(help, -1) {
		// A flag without a default has nothing there, or a name in capitals.
		if value := strings.Trim(flag[2], `"`); !regexp.MustCompile(`^[A-Z]*$`).MatchString(value) {
			want[flag[1]] = value
		}
	}
	got := make(map[string]string)
	for _, row := range regexp.MustCompile(`(?m)^\| (\x60--[^|]*) \| ([^|]*) \|`).FindAllStringSubmatch(read(t, "README.md"), -1) {
		flags := codeSpan.FindAllStringSubmatch(row[1], -1)
		for n, value := range codeSpan.FindAllStringSubmatch(row[2], -1) {
			got[flags[n][1]] = value[1]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-program +README.md):\n%s", diff)
	}
}

// exportedMetrics returns the names of the metrics that the collector exports of a host that has one of everything.
func exportedMetrics() []string {
	listener := func(proto string) inventory.Listener {
		return inventory.Listener{
			Key:       inventory.Key{Proto: proto, Addr: netip.MustParseAddrPort("[::]:53")},
			Detailed:  true,
			Holders:   []inventory.Holder{{Process: "x"}},
			FirstSeen: time.Now(),
			Starts:    &inventory.Starts{Violation: time.Now(), Full: time.Now(), Dropping: time.Now()},
			Judged:    true,
			Verdict:   inventory.Verdict{Reason: inventory.ReasonUnregistered},
		}
	}
	var names []string
	for _, family := range collector.NewText(func() uint64 { return 0 }).Families(&inventory.Snapshot{
		Reads:     []inventory.Read{{Collector: inventory.TCP}, {Collector: inventory.CollectorHolder}, {Collector: inventory.CollectorNetns}},
		Listeners: []inventory.Listener{listener(inventory.TCP), listener(inventory.UDP)},
		Compliance: &inventory.Compliance{
			Declared: make([]inventory.ServiceInfo, 1),
			Services: []inventory.ServiceState{{Service: new(inventory.Service)}},
			Reserved: make([]inventory.TeamUse, 1),
		},
		Memory: &inventory.Memory{
			Changes:  make([]inventory.Changes, 1),
			Services: []inventory.ServiceMemory{{DownSince: time.Now(), LastChange: time.Now(), Changes: 1}},
			Gone:     make([]inventory.GonePort, 1),
			Flapping: make([]inventory.FlappingPort, 1),
		},
		WatchInterval: time.Second,
		Saves:         true,
	}) {
		names = append(names, family.Name)
	}
	return names
}

var metricForm = regexp.MustCompile(`host_listen_[a-z0-9_]*\*?`)

func TestEveryMetricThatADocumentNamesIsExported(t *testing.T) {
	exported := exportedMetrics()
	for _, document := range documents {
		t.Run(document, func(t *testing.T) {
			for _, metric := range metricForm.FindAllString(read(t, document), -1) {
				// A name may stand for all with that prefix: host_listen_*, or grep host_listen_.
				start := strings.TrimSuffix(metric, "*")
				isPattern := strings.HasSuffix(start, "_") || start != metric
				if !slices.ContainsFunc(exported, func(e string) bool { return e == metric || isPattern && strings.HasPrefix(e, start) }) {
					t.Errorf("%s is not exported", metric)
				}
			}
		})
	}
}

func TestTheReadmesTableHasEveryExportedMetric(t *testing.T) {
	readme := read(t, "README.md")
	for _, metric := range append(exportedMetrics(), "listen_exporter_build_info") {
		if !strings.Contains(readme, "\n| `"+metric+"` | ") {
			t.Errorf("README.md has no row of a table that begins with `%s`", metric)
		}
	}
}

var (
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	linkForm = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// A code span with a path of the repository: folders, and a file name with an extension or a slash at the end.
	pathForm = regexp.MustCompile(`^(?:\./)?([\w.-]+/)+([\w.-]+\.[a-z]+)?$`)
	// Files at the top level that a document can mean: others, such as ports.yml, are the user's own.
	topForm = regexp.MustCompile(`^(?:[A-Z]+\.md|Makefile|Dockerfile|LICENSE|go\.mod|go\.sum|\.promu\.yml|\.golangci\.yml)$`)
)

// madeByMake are folders that a fresh clone does not have.
var madeByMake = []string{".build", ".tools"}

func TestEveryPathThatADocumentNamesExists(t *testing.T) {
	for _, document := range documents {
		t.Run(document, func(t *testing.T) {
			text := read(t, document)
			for _, link := range linkForm.FindAllStringSubmatch(text, -1) {
				target, err := url.Parse(link[1])
				if err != nil {
					t.Errorf("the link %s: %v", link[1], err)
					continue
				}
				if target.Scheme != "" {
					continue
				}
				file := document
				if target.Path != "" {
					file = path.Join(path.Dir(document), target.Path)
				}
				if _, err := os.Stat(filepath.Join(host.Root, file)); err != nil {
					t.Errorf("the link %s: %v", link[1], err)
					continue
				}
				if target.Fragment != "" && !slices.Contains(anchors(read(t, file)), target.Fragment) {
					t.Errorf("the link %s: %s has no such heading", link[1], file)
				}
			}
			for _, span := range codeSpan.FindAllStringSubmatch(text, -1) {
				first, _, _ := strings.Cut(strings.TrimPrefix(span[1], "./"), "/")
				if !pathForm.MatchString(span[1]) && !topForm.MatchString(span[1]) || slices.Contains(madeByMake, first) {
					continue
				}
				if _, err := os.Stat(filepath.Join(host.Root, span[1])); err != nil {
					t.Errorf("the path %s: %v", span[1], err)
				}
			}
		})
	}
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors returns the names by which the headings of a document can be linked to.
func anchors(document string) []string {
	var found []string
	for line := range strings.Lines(document) {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
			heading = notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			found = append(found, strings.ReplaceAll(heading, " ", "-"))
		}
	}
	return found
}
