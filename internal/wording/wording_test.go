package wording

import (
	"slices"
	"strings"
	"testing"
)

func TestNothingThatIsShownIsHidden(t *testing.T) {
	for text, want := range map[string]string{
		"sshd":                  "sshd",
		"größer 端口":             "größer 端口",
		`dev-disk\x2dby.mount`:  `dev-disk\x2dby.mount`,
		"\x1b[31mred":           `\x1b[31mred`,
		"a\nb\tc\x00":           `a\nb\tc\x00`,
		"txt.\u202eexe":         `txt.\u202eexe`,
		"ss\u200dhd":            `ss\u200dhd`,
		"not utf-8: \xff\xfe":   `not utf-8: \xff\xfe`,
		"a replacement: \ufffd": "a replacement: \ufffd",
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestNoFileNameIsACommandOfTheRunnerThatPrintsIt(t *testing.T) {
	for name, want := range map[string]string{
		"ports.yml":          "ports.yml",
		"::error::x.yml":     "./::error::x.yml",
		"\x20::error::x.yml": "./ ::error::x.yml",
		"a::b\nx.yml":        `a::b\nx.yml`,
	} {
		if got := Path(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestNumbersHaveTheirNouns(t *testing.T) {
	got := []string{Count(0, "listener"), Count(1, "listener"), Count(2, "listener")}
	if want := []string{"0 listeners", "1 listener", "2 listeners"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLongForeignTextIsCut(t *testing.T) {
	if got, want := Quoted(strings.Repeat("ü", 61)), `"`+strings.Repeat("ü", 60)+`…"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOnlyANameThatCouldBeMistakenIsQuoted(t *testing.T) {
	for name, want := range map[string]string{
		"web-1.example:80":      "web-1.example:80",
		"":                      `""`,
		"two words":             `"two words"`,
		"größe":                 `"größe"`,
		"\x1b[1m":               `"\x1b[1m"`,
		strings.Repeat("a", 61): `"` + strings.Repeat("a", 60) + `…"`,
	} {
		if got := Name(name); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}

func TestAViolationSaysWhyAndWhatIsDeclared(t *testing.T) {
	for _, test := range []struct{ reason, declared, want string }{
		{"unregistered", "", "no service declares the port"},
		{"reserved", "", `the port is reserved for a\x1b`},
		{"bind", "", "listens on a wider or another address than declared"},
		{"process", "process b\x1b", `is held by another process or unit than declared (process b\x1b)`},
		{"new", "", "new"},
	} {
		if got := Violation(test.reason, "a\x1b", test.declared); got != test.want {
			t.Errorf("%s: got %q, want %q", test.reason, got, test.want)
		}
	}
}
