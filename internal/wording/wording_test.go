package wording

import (
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
	for _, test := range []struct {
		n    int
		noun string
		want string
	}{
		{0, "listener", "0 listeners"},
		{1, "listener", "1 listener"},
		{2, "registry", "2 registries"},
		{3, "day", "3 days"},
	} {
		if got := Count(test.n, test.noun); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestLongForeignTextIsCut(t *testing.T) {
	long := ""
	for range 100 {
		long += "ü"
	}
	if got := len([]rune(Quoted(long))); got != 60+1+2 {
		t.Errorf("%d characters", got)
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
	for reason, want := range map[string]string{
		"unregistered": "no service declares the port",
		"reserved":     `the port is reserved for a\x1b`,
		"process":      `is held by another process or unit than declared (process b\x1b)`,
		"new":          "new",
	} {
		declared := ""
		if reason == "process" {
			declared = "process b\x1b"
		}
		if got := Violation(reason, "a\x1b", declared); got != want {
			t.Errorf("%s: got %q, want %q", reason, got, want)
		}
	}
}
