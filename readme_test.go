package main

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
)

// documents are held to the program by the tests of this file.
var documents = []string{"README.md", "alerts/README.md", "CHANGELOG.md", "BENCHMARKS.md", "SECURITY.md", "CONTRIBUTING.md", "docs/cardinality.md", "docs/upgrade.md"}

// readDocument returns a document's text.
func readDocument(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// piece is a stretch of a document: prose without its code, a code span, or a line of a code block.
type piece struct {
	text string
	code bool
}

var (
	codeSpan     = regexp.MustCompile("`([^`]+)`")
	continuation = regexp.MustCompile(`\\\n\s*`)
)

// pieces takes a Markdown document apart.
func pieces(document string) []piece {
	var found []piece
	inBlock := false
	for line := range strings.Lines(continuation.ReplaceAllString(document, " ")) {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			inBlock = !inBlock
		case inBlock:
			found = append(found, piece{line, true})
		default:
			for _, span := range codeSpan.FindAllStringSubmatch(line, -1) {
				found = append(found, piece{span[1], true})
			}
			found = append(found, piece{codeSpan.ReplaceAllString(line, " "), false})
		}
	}
	return found
}

var (
	flagForm    = regexp.MustCompile(`(?:^|[\s"'(\[|,])--((?:\[no-\])?[a-z][a-z0-9.-]*\*?)`)
	commandForm = regexp.MustCompile(`^[a-z][a-z0-9_./-]*$`)
	programForm = regexp.MustCompile(`(^|/)` + program + `(:[\w.-]+)?$`)
)

// namedFlags returns the flags of this program that a piece of a document names. A flag in a command is this program's only
// if it follows the program's name; a command of systemd takes that for the name of a unit.
func namedFlags(p piece) []string {
	var flags []string
	command, ours := "", true
	for word := range strings.FieldsSeq(strings.ReplaceAll(p.text, "go run .", program)) {
		isProgram := programForm.MatchString(word) && !strings.HasSuffix(command, "ctl")
		switch {
		case !p.code:
		case slices.Contains([]string{"$", "#", "|", "||", "&&", ";", "sudo"}, word):
			command, ours = "", true
		case isProgram:
			command, ours = program, true
		case command == "" && commandForm.MatchString(word):
			command, ours = word, false
		}
		if !ours {
			continue
		}
		for _, match := range flagForm.FindAllStringSubmatch(word, -1) {
			flags = append(flags, strings.TrimRight(match[1], ".-"))
		}
	}
	return flags
}

func TestNamedFlagsTellsThisProgramsFlagsFromThoseOfOthers(t *testing.T) {
	for _, test := range []struct {
		piece piece
		want  []string
	}{
		{piece{"Set --log.level, or (--log.format).", false}, []string{"log.level", "log.format"}},
		{piece{"--[no-]collector.tcp", true}, []string{"[no-]collector.tcp"}},
		{piece{"--web.*", true}, []string{"web.*"}},
		{piece{"./listen_exporter --path.procfs=/host/proc --log.level debug", true}, []string{"path.procfs", "log.level"}},
		{piece{"go run . --version", true}, []string{"version"}},
		{piece{"sudo ip netns exec blue listen_exporter --collector.netns=self", true}, []string{"collector.netns"}},
		{piece{"podman run --net=host registry.example/listen_exporter:v1 --web.max-requests=1", true}, []string{"web.max-requests"}},
		{piece{"promtool check metrics --extended", true}, nil},
		{piece{"$ journalctl -u listen_exporter --since=today", true}, nil},
		{piece{"listen_exporter --help | grep --color web", true}, []string{"help"}},
		{piece{`args: ["--collector.netns=host", "--log.format=json"]`, true}, []string{"collector.netns", "log.format"}},
		{piece{"- --collector.max-ports=5", true}, []string{"collector.max-ports"}},
		{piece{"a---b -- c", false}, nil},
	} {
		if diff := cmp.Diff(test.want, namedFlags(test.piece)); diff != "" {
			t.Errorf("%q: flags differ (-want +got):\n%s", test.piece.text, diff)
		}
	}
}

// hiddenFlags are real, and left out of --help by the flag library.
var hiddenFlags = []string{"help-long", "help-man", "completion-bash", "completion-script-bash", "completion-script-zsh"}

func TestEveryFlagThatADocumentNamesIsReal(t *testing.T) {
	realFlags := slices.Concat(helpFlags(t, "--help"), allCommandFlags(), hiddenFlags)
	for _, document := range documents {
		t.Run(document, func(t *testing.T) {
			for _, p := range pieces(readDocument(t, document)) {
				for _, flag := range namedFlags(p) {
					name := strings.TrimPrefix(strings.TrimPrefix(flag, "[no-]"), "no-")
					start, isPattern := strings.CutSuffix(name, "*")
					if !slices.ContainsFunc(realFlags, func(r string) bool { return r == name || isPattern && strings.HasPrefix(r, start) }) {
						t.Errorf("--%s is no flag of the program: %q", flag, strings.TrimSpace(p.text))
					}
				}
			}
		})
	}
}

func TestTheReadmeNamesEveryFlag(t *testing.T) {
	named := make(map[string]bool)
	for _, p := range pieces(readDocument(t, "README.md")) {
		for _, flag := range namedFlags(p) {
			named[strings.TrimPrefix(flag, "[no-]")] = true
		}
	}
	for _, flag := range append(helpFlags(t, "--help"), allCommandFlags()...) {
		if !named[flag] {
			t.Errorf("README.md does not name --%s", flag)
		}
	}
}

// exportedMetrics returns the names of the metrics that the collector exports of a host that has one of everything.
func exportedMetrics(t *testing.T) []string {
	t.Helper()
	listener := func(proto string) inventory.Listener {
		return inventory.Listener{
			Key:       inventory.Key{Proto: proto, Addr: netip.MustParseAddrPort("[::]:53")},
			Detailed:  true,
			Holders:   []inventory.Holder{{Process: "x"}},
			FirstSeen: time.Now(),
			Judged:    true,
			Verdict:   inventory.Verdict{Reason: inventory.ReasonUnregistered},
		}
	}
	families, done, err := collector.New(func() *inventory.Snapshot {
		return &inventory.Snapshot{
			Reads:     []inventory.Read{{Collector: inventory.TCP}, {Collector: inventory.CollectorHolder}, {Collector: inventory.CollectorNetns}},
			Listeners: []inventory.Listener{listener(inventory.TCP), listener(inventory.UDP)},
			Compliance: &inventory.Compliance{
				Services: []inventory.ServiceState{{Service: new(inventory.Service)}},
				Reserved: make([]inventory.TeamUse, 1),
			},
		}
	}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var names []string
	for _, family := range families {
		names = append(names, family.GetName())
	}
	return names
}

var metricForm = regexp.MustCompile(`host_listen_[a-z0-9_]*\*?`)

func TestEveryMetricThatADocumentNamesIsExported(t *testing.T) {
	exported := exportedMetrics(t)
	for _, document := range documents {
		t.Run(document, func(t *testing.T) {
			for _, metric := range metricForm.FindAllString(readDocument(t, document), -1) {
				// A name may stand for all that begin so: host_listen_*, or grep host_listen_.
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
	readme := readDocument(t, "README.md")
	for _, metric := range append(exportedMetrics(t), "listen_exporter_build_info") {
		if !strings.Contains(readme, "\n| `"+metric+"` | ") {
			t.Errorf("README.md has no row of a table that begins with `%s`", metric)
		}
	}
}

var (
	linkForm = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// A code span that looks like a path of the repository: folders, and a file name with an extension or a slash at the end.
	pathForm = regexp.MustCompile(`^(?:\./)?([\w.-]+/)+([\w.-]+\.[a-z]+)?$`)
	// Files at the top level that a document can mean: others, such as ports.yml, are the user's own.
	topForm = regexp.MustCompile(`^(?:[A-Z]+\.md|Makefile|Dockerfile|LICENSE|go\.mod|go\.sum|\.promu\.yml|\.golangci\.yml)$`)
)

// madeByMake are folders that a fresh clone does not have.
var madeByMake = []string{".build", ".tools"}

func TestEveryPathThatADocumentNamesExists(t *testing.T) {
	for _, document := range documents {
		t.Run(document, func(t *testing.T) {
			text := readDocument(t, document)
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
				if _, err := os.Stat(filepath.FromSlash(file)); err != nil {
					t.Errorf("the link %s: %v", link[1], err)
					continue
				}
				if target.Fragment != "" && !slices.Contains(anchors(readDocument(t, file)), target.Fragment) {
					t.Errorf("the link %s: %s has no such heading", link[1], file)
				}
			}
			for _, p := range pieces(text) {
				if !p.code || !pathForm.MatchString(p.text) && !topForm.MatchString(p.text) {
					continue
				}
				first, _, _ := strings.Cut(strings.TrimPrefix(p.text, "./"), "/")
				if slices.Contains(madeByMake, first) {
					continue
				}
				if _, err := os.Stat(filepath.FromSlash(p.text)); err != nil {
					t.Errorf("the path %s: %v", p.text, err)
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
