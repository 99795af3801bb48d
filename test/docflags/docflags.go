//go:build linux

// Package docflags finds the flags of listen_exporter that a text names, for tests that hold documents and examples to the
// program's real flags.
package docflags

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// foreignPrograms have flags of their own. True are those that may run listen_exporter: flags after its name are ours again.
var foreignPrograms = map[string]bool{
	"alertmanager": false, "amtool": false, "apt-get": false, "buildah": true, "conntrack": false, "curl": false, "docker": true,
	"etcdctl": false, "git": false, "gofumpt": false, "golangci-lint": false, "grep": false, "helm": false, "htpasswd": false, "install": false,
	"ip": true, "iptables": false, "jq": false, "journalctl": false, "kubectl": true, "lsof": false, "make": false, "nft": false,
	"nsenter": true, "openssl": false, "podman": true, "prometheus": false, "promtool": false, "promu": false, "ps": false,
	"runc": true, "setpriv": true, "ss": false, "systemctl": false, "systemd-analyze": false, "systemd-run": true, "tar": false,
	"unshare": true, "useradd": false,
}

var flagToken = regexp.MustCompile("^[`\"'(\\[]*--(\\[no-\\])?([a-z][a-z0-9.-]*\\*?)")

// Named returns the flags in a text, such as "--log.level", in their order: in a command of listen_exporter or a list of its
// arguments all of them, in prose those with a dot in their name, as nearly all of ours have and hardly any other. "--web.*"
// stands for all flags with that prefix.
func Named(text string) []string {
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
			name := filepath.Base(strings.Trim(word, "`\"'(),.:;$"))
			name, _, _ = strings.Cut(name, ":") // an image's tag
			found := flagToken.FindStringSubmatch(word)
			switch runs, isForeign := foreignPrograms[name]; {
			case isForeign && runs:
				state = runner
			case isForeign:
				state = foreign
			case name == "listen_exporter" && state != foreign:
				state = ours
			case found != nil && first && !strings.HasPrefix(word, "`"):
				state = ours // an item of a list of arguments
			}
			first = first && strings.Trim(word, "-#|") == ""
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

// Real returns the flags in the program's --help and in that of its commands, with both forms of a flag that can be negated.
func Real(t testing.TB) map[string]bool {
	t.Helper()
	_, text, _ := program.Run(t, "--help")
	_, commands, _ := strings.Cut(text, "\nCommands:\n")
	for _, found := range regexp.MustCompile(`(?m)^ {2}([a-z]+)\b`).FindAllStringSubmatch(commands, -1) {
		_, help, _ := program.Run(t, found[1], "--help")
		text += help
	}
	flags := make(map[string]bool)
	for _, found := range regexp.MustCompile(`(?m)^\s+(?:-\w, )?--(\[no-\])?([a-z][a-z0-9.-]*[a-z0-9])`).FindAllStringSubmatch(text, -1) {
		flags["--"+found[2]] = true
		if found[1] != "" {
			flags["--no-"+found[2]] = true
		}
	}
	return flags
}

// Unknown returns the flags that a text names and that are not among the real ones.
func Unknown(text string, flags map[string]bool) []string {
	var unknown []string
	for _, flag := range Named(text) {
		prefix, isPattern := strings.CutSuffix(flag, "*")
		known := flags[flag]
		for real := range flags {
			known = known || isPattern && strings.HasPrefix(real, prefix)
		}
		if !known {
			unknown = append(unknown, flag)
		}
	}
	return unknown
}
