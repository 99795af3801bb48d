//go:build linux

package docs

import (
	"regexp"
	"strings"
	"testing"
)

// Whoever decides in a minute whether to use the program reads no more.
const mostWordsOfTheReadme = 1800

func TestTheReadmeIsShort(t *testing.T) {
	if words := len(strings.Fields(read(t, "README.md"))); words > mostWordsOfTheReadme {
		t.Errorf("README.md has %d words, want at most %d: move facts into docs/", words, mostWordsOfTheReadme)
	}
}

func TestTheFiguresOfTheReadmeWereMeasured(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "README.md"), "\n## Why not")
	section, _, found := strings.Cut(section, "\n## ")
	if !found {
		t.Fatal("README.md has no section about other programs")
	}
	measured := read(t, "BENCHMARKS.md") + read(t, "docs/cardinality.md")
	figures := regexp.MustCompile(`\d[\d.]*(?: (?:ms|s|MB)\b)?`).FindAllString(section, -1)
	if len(figures) < 5 {
		t.Errorf("README.md has only the figures %q", figures)
	}
	for _, figure := range figures {
		if !strings.Contains(measured, figure) {
			t.Errorf("the figure %s of README.md is in neither BENCHMARKS.md nor docs/cardinality.md", figure)
		}
	}
}
