//go:build linux

package tools

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The lines of a document around what is generated.
const (
	generatedBegin = "<!-- generated: `make generate` writes this -->\n\n"
	generatedEnd   = "\n<!-- end of what is generated -->\n"
)

// Generated compares the generated part of a document with what it must be. With update, it writes that part first.
func Generated(t testing.TB, file, want string, update bool) {
	t.Helper()
	text := Read(t, file)
	before, rest, begins := strings.Cut(text, generatedBegin)
	got, after, ends := strings.Cut(rest, generatedEnd)
	if !begins || !ends {
		t.Fatalf("%s has no generated part: want the lines\n%s%s", file, generatedBegin, generatedEnd)
	}
	if update {
		text = before + generatedBegin + want + generatedEnd + after
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is older than the program: run `make generate` (-program +document):\n%s", file, diff)
	}
}

// Cell returns a text for a cell of a Markdown table, whose characters mean themselves.
func Cell(text string) string {
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "<", `\<`, "\n", " ").Replace(text)
}
