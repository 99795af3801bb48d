//go:build linux

// Package docs has the documents beyond README.md. Its tests hold every document to the program.
package docs

import (
	"io/fs"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/collector"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/docflags"
	"github.com/listen-exporter/listen_exporter/test/host"
	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

func TestMain(m *testing.M) { program.Main(m) }

// documents returns the paths of all documents of the repository, which the tests of this package hold to the program.
func documents(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(host.Root, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && file != host.Root && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".github" {
			return fs.SkipDir
		}
		if strings.HasSuffix(file, ".md") {
			name, err := filepath.Rel(host.Root, file)
			if err != nil {
				return err
			}
			found = append(found, name)
		}
		return err
	})
	if err != nil || len(found) < 10 {
		t.Fatalf("found the documents %q: %v", found, err)
	}
	return found
}

// read returns the text of a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	return tools.Read(t, filepath.Join(host.Root, name))
}

// hiddenFlags are real, but kingpin leaves them out of --help.
var hiddenFlags = []string{"--help-long", "--help-man", "--completion-bash", "--completion-script-bash", "--completion-script-fish", "--completion-script-zsh"}

func TestEveryFlagThatADocumentNamesIsReal(t *testing.T) {
	flags := docflags.Real(t)
	for _, flag := range hiddenFlags {
		flags[flag] = true
	}
	for _, document := range documents(t) {
		for _, flag := range docflags.Unknown(read(t, document), flags) {
			t.Errorf("%s names %s, which is no flag of the program", document, flag)
		}
	}
}

// exportedMetrics returns the names of the metrics that the collector exports of a host that has one of everything.
func exportedMetrics() []string {
	listener := func(proto string) inventory.Listener {
		return inventory.Listener{
			Key:         inventory.Key{Proto: proto, Addr: netip.MustParseAddrPort("[::]:53")},
			Detailed:    true,
			Holders:     []inventory.Holder{{Process: "x"}},
			FirstSeen:   time.Now(),
			Connections: inventory.Connections{Counts: true, Last: time.Now()},
			Starts:      &inventory.Starts{Violation: time.Now(), Full: time.Now(), Dropping: time.Now()},
			Judged:      true,
			Verdict:     inventory.Verdict{Reason: inventory.ReasonUnregistered},
		}
	}
	leases := new(inventory.LeaseView)
	leases.Teams = make([]inventory.LeaseTeam, 1)
	leases.Leases = []inventory.Lease{{Ports: []uint16{1}, Deadline: 1, Overstayed: 1}}
	var names []string
	for _, family := range collector.NewText(func() uint64 { return 0 }).Families(&inventory.Snapshot{
		Reads:     []inventory.Read{{Collector: inventory.TCP}, {Collector: inventory.CollectorHolder}, {Collector: inventory.CollectorNetns}, {Collector: inventory.CollectorEvent}},
		Listeners: []inventory.Listener{listener(inventory.TCP), listener(inventory.UDP)},
		Compliance: &inventory.Compliance{
			Declared: make([]inventory.ServiceInfo, 1),
			Services: []inventory.ServiceState{{Service: new(inventory.Service)}},
			Reserved: make([]inventory.TeamUse, 1),
		},
		Memory: &inventory.Memory{
			Changes:    make([]inventory.Changes, 1),
			Services:   []inventory.ServiceMemory{{DownSince: time.Now(), LastChange: time.Now(), Changes: 1}},
			Gone:       make([]inventory.GonePort, 1),
			Flapping:   make([]inventory.FlappingPort, 1),
			Violations: make([]inventory.ViolationCount, 1),
		},
		Leases:        leases,
		Traffic:       make([]inventory.PortTraffic, 1),
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
	for _, document := range documents(t) {
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

var (
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	linkForm = regexp.MustCompile(`(?:\]\(|\b(?:src|srcset|href)=")([^)\s"]+)`)
	// A code span with a path of the repository: folders, and a file name with an extension or a slash at the end.
	pathForm = regexp.MustCompile(`^(?:\./)?([\w.-]+/)+([\w.-]+\.[a-z]+)?$`)
	// Files at the top level that a document can mean: others, such as ports.yml, are the user's own.
	topForm = regexp.MustCompile(`^(?:[A-Z]+\.md|Makefile|Dockerfile|LICENSE|go\.mod|go\.sum|\.promu\.yml|\.golangci\.yml)$`)
)

// madeByMake are folders that a fresh clone does not have.
var madeByMake = []string{".build", ".tools"}
