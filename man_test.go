//go:build linux

package main

import (
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/docflags"
)

func TestTheManPageHasEverySectionAndEveryFlag(t *testing.T) {
	page := runForText(t, "--help-man")
	var sections []string
	for _, section := range regexp.MustCompile(`(?m)^\.SH (.*)$`).FindAllStringSubmatch(page, -1) {
		sections = append(sections, section[1])
	}
	want := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "FLAGS OF SERVE", "EXAMPLES", "EXIT STATUS", "SIGNALS", "ENVIRONMENT", "FILES", "SEE ALSO"}
	if diff := gocmp.Diff(want, sections); diff != "" {
		t.Errorf("sections (-want +got):\n%s", diff)
	}
	plain := strings.ReplaceAll(page, `\-`, "-")
	for flag := range docflags.Real(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(flag, "--"), "no-")
		if !strings.Contains(plain, "--"+name) && !strings.Contains(plain, "--[no-]"+name) {
			t.Errorf("the man page does not name %s", flag)
		}
	}
	if title, _, _ := strings.Cut(page, "\n"); !strings.HasPrefix(title, ".TH LISTEN_EXPORTER 1 ") {
		t.Errorf("the page begins with %q", title)
	}
}

func TestTheManPageIsTypesetWithoutWarnings(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not on the PATH")
	}
	cmd := exec.Command(groff, "-man", "-ww", "-Tutf8")
	cmd.Stdin = strings.NewReader(runForText(t, "--help-man"))
	var warnings strings.Builder
	cmd.Stderr = &warnings
	if err := cmd.Run(); err != nil || warnings.Len() > 0 {
		t.Errorf("%v:\n%s", err, &warnings)
	}
}

// What people copy from --help and the man page works.
func TestEveryExampleOfACommandIsRight(t *testing.T) {
	for _, command := range []string{serveCommand, listCommand, auditCommand, checkCommand, leaseCommand} {
		if len(examples(command)) == 0 {
			t.Errorf("%s has no example", command)
		}
		for _, e := range examples(command) {
			line, _, _ := strings.Cut(e.Line, " >")
			args := strings.Fields(strings.ReplaceAll(line, `"`, ""))[1:]
			if c, done, err := parse(args, io.Discard); err != nil || done || c.command != command {
				t.Errorf("%s: done %t, error %v", e.Line, done, err)
			}
		}
	}
}

func TestACommandOffersOnlyTheFlagsThatItTakes(t *testing.T) {
	var all []*kingpin.FlagModel
	for _, name := range []string{"help", "web.page", "state.file", "registry.file", "collector.tcp", "lease.enable", "lease.listen-address", "log.level"} {
		all = append(all, &kingpin.FlagModel{Name: name})
	}
	for command, want := range map[string]string{
		serveCommand: "help web.page state.file registry.file collector.tcp lease.enable lease.listen-address log.level",
		listCommand:  "help state.file registry.file collector.tcp lease.listen-address log.level",
		auditCommand: "help registry.file lease.listen-address log.level",
		checkCommand: "help registry.file log.level",
		leaseCommand: "help lease.listen-address log.level",
		helpCommand:  "help",
	} {
		var names []string
		for _, flag := range sharedFlags(command, all) {
			names = append(names, flag.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s takes %s, want %s", command, got, want)
		}
	}
}
