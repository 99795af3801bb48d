// Package examples holds the shipped examples. Its tests hold every one of them to the real binary and the real tools.
package examples

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEveryFlagThatIsNamedExists reads each example and the documents, and looks up each flag in the binary's --help.
func TestEveryFlagThatIsNamedExists(t *testing.T) {
	flags := realFlags(t)
	for file, text := range documents(t) {
		for _, flag := range flagsNamed(text) {
			if prefix, found := strings.CutSuffix(flag, "*"); found {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(flags)), func(f string) bool { return strings.HasPrefix(f, prefix) }) {
					t.Errorf("%s names %s, but no flag of listen_exporter begins so", file, flag)
				}
			} else if !flags[flag] {
				t.Errorf("%s names %s, which is not a flag of listen_exporter (nor of a program in foreignPrograms)", file, flag)
			}
		}
	}
}

func TestFlagsAreFoundInProseAndCommandsButNotThoseOfOtherPrograms(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"prose", "Set `--web.listen-address`, or --log.level.", []string{"--web.listen-address", "--log.level"}},
		{"value", "- --web.listen-address=[$(NODE_IP)]:10190", []string{"--web.listen-address"}},
		{"negatable", "(`--[no-]collector.tcp`)", []string{"--collector.tcp"}},
		{"alternatives", "--collector.tcp|udp", []string{"--collector.tcp"}},
		{"wildcard", "all of --web.*", []string{"--web.*"}},
		{"command", "/usr/local/bin/listen_exporter --no-collector.udp", []string{"--no-collector.udp"}},
		{"continued command", "listen_exporter \\\n  --path.procfs=/host/proc", []string{"--path.procfs"}},
		{"other program", "systemctl enable --now listen_exporter.socket", nil},
		{"other program that runs ours", "podman run --rm listen_exporter:latest --log.format=json", []string{"--log.format"}},
		{"go run", "go run . --log.level=debug", []string{"--log.level"}},
		{"argument without a dot", "- --version", []string{"--version"}},
		{"command's flag without a dot", "`./listen_exporter --verbose`", []string{"--verbose"}},
		{"prose about another program's flag", "for UDP write `--udp`", nil},
		{"our name as an argument", "journalctl -u listen_exporter --since -1h", nil},
		{"after another command", "systemctl stop --now x; listen_exporter --help", []string{"--help"}},
		{"after another command in backticks", "`ip --json a` beside `--collector.netns`", []string{"--collector.netns"}},
		{"dashes that are no flag", "a -- b --- c x--y", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, flagsNamed(tc.text)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestEveryMetricThatIsNamedIsExported compares with what a running exporter shows, once it has seen a TCP and a UDP
// listener appear.
func TestEveryMetricThatIsNamedIsExported(t *testing.T) {
	names := make(map[string]bool)
	for _, s := range everySeries(t) {
		names[s.name] = true
	}
	for file, text := range documents(t) {
		for _, name := range regexp.MustCompile(`\bhost_listen_[a-z0-9_]*|\blisten_exporter_build_info\b`).FindAllString(text, -1) {
			if strings.HasSuffix(name, "_") {
				continue // the prefix itself
			}
			if !names[name] {
				t.Errorf("%s names the metric %s, which the exporter does not export", file, name)
			}
		}
	}
}

// documents returns the text of all examples, and of the documents that users copy commands from, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files := []string{"../README.md", "../alerts/README.md"}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, file := range files {
		texts[file] = read(t, file)
	}
	return texts
}

// foreignPrograms have flags of their own, which are not ours to check. True are those that may run ours: what comes after
// its name is then ours again.
var foreignPrograms = map[string]bool{
	"alertmanager": false, "amtool": false, "apt-get": false, "buildah": true, "conntrack": false, "curl": false, "docker": true,
	"git": false, "gofumpt": false, "golangci-lint": false, "grep": false, "helm": false, "htpasswd": false, "install": false,
	"ip": true, "iptables": false, "jq": false, "journalctl": false, "kubectl": true, "lsof": false, "make": false, "nft": false,
	"nsenter": true, "openssl": false, "podman": true, "prometheus": false, "promtool": false, "promu": false, "ps": false,
	"runc": true, "setpriv": true, "ss": false, "systemctl": false, "systemd-analyze": false, "systemd-run": true, "tar": false,
	"unshare": true, "useradd": false,
}

var flagToken = regexp.MustCompile("^[`\"'(\\[]*--(\\[no-\\])?([a-z][a-z0-9.-]*\\*?)")

// flagsNamed returns the flags in a text, in its order: in a command of listen_exporter or a list of its arguments all of
// them, in prose those with a dot in their name, as nearly all of ours have and hardly any other.
func flagsNamed(text string) []string {
	const (
		prose = iota
		ours
		foreign
		runner // foreign, and may run ours
	)
	var flags []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		state, first := prose, true
		for word := range strings.FieldsSeq(line) {
			if strings.HasPrefix(word, "`") {
				state = prose
			}
			program := filepath.Base(strings.Trim(word, "`\"'(),.:;$"))
			program, _, _ = strings.Cut(program, ":") // an image's tag
			found := flagToken.FindStringSubmatch(word)
			switch runs, isForeign := foreignPrograms[program]; {
			case isForeign && runs:
				state = runner
			case isForeign:
				state = foreign
			case program == "listen_exporter" && state != foreign:
				state = ours
			case found != nil && first && !strings.HasPrefix(word, "`"):
				state = ours // an item of a list of arguments
			}
			first = first && strings.Trim(word, "-#") == ""
			if found != nil && (state == ours || state == prose && strings.Contains(found[2], ".")) {
				flags = append(flags, "--"+strings.TrimRight(found[2], ".-"))
			}
			if strings.HasSuffix(strings.TrimRight(word, ".,:)"), "`") || strings.HasSuffix(word, ";") || word == "&&" || word == "|" {
				state = prose
			}
		}
	}
	return flags
}

// realFlags returns every flag that the binary's --help lists, and that of its commands, with both forms of a flag that can
// be negated.
func realFlags(t *testing.T) map[string]bool {
	t.Helper()
	help := helpOf(t)
	text := help
	if _, commands, some := strings.Cut(help, "\nCommands:\n"); some {
		for _, found := range regexp.MustCompile(`(?m)^ {2}([a-z]+)\b`).FindAllStringSubmatch(commands, -1) {
			text += helpOf(t, found[1])
		}
	}
	flags := make(map[string]bool)
	for _, found := range regexp.MustCompile(`(?m)^\s+(?:-\w, )?--(\[no-\])?([a-z][a-z0-9.-]*)`).FindAllStringSubmatch(text, -1) {
		flags["--"+found[2]] = true
		if found[1] != "" {
			flags["--no-"+found[2]] = true
		}
	}
	for _, flag := range []string{"--help", "--web.listen-address", "--collector.tcp", "--no-collector.tcp"} {
		if !flags[flag] {
			t.Fatalf("%s was not found in --help, so that nothing can be compared with it:\n%s", flag, help)
		}
	}
	return flags
}

// helpOf returns the --help of the binary, or of a command of it.
func helpOf(t *testing.T, command ...string) string {
	t.Helper()
	help, err := exec.Command(exporter(t), append(command, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s --help: %v\n%s", command, err, help)
	}
	return string(help)
}

// read returns a file's text.
func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tool returns where a program stands on the PATH, and skips the test where it does not.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not on the PATH (.ci/tools %s fetches it, if the system has none)", name, name)
	}
	return path
}

// eventually calls done until it returns true, for half a minute at most.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("%s: not within 30 seconds", what)
}
