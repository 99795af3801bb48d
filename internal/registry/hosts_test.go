package registry

import (
	"path"
	"strings"
	"testing"
)

func TestGlobsMeetWhereANameMatchesBoth(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"web", "web", true},
		{"web", "WEB", true},
		{"web", "web-1", false},
		{"web-*", "web-1", true},
		{"web-*", "web-", true},
		{"web-*", "web", false},
		{"web-*", "db-*", false},
		{"web-*", "*-db", true},
		{"*-web", "*-db", false},
		{"*", "*", true},
		{"**", "?", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "a*c*b", false},
		{"a*b*c", "*x*", true},
		{"?", "??", false},
		{"?b", "a?", true},
		{"web-[12]", "web-[23]", true},
		{"web-[12]", "web-[34]", false},
		{"web-[1-5]", "web-[3-9]", true},
		{"web-[^1-5]", "web-[1-5]", false},
		{"web-[^1-5]", "web-[5-6]", true},
		{"web-[^1]", "web-[^2]", true},
		{"web-[^1]", "web-?", true},
		{`web-\*`, "web-?", true},
		{`web-\*`, "web-a", false},
		{`[\]]`, "]", true},
		{`[a\-c]`, "b", false},
		{"[B]", "b", true},
		{"é*", "?a", true},
		{"[/]", "[/]", false},
		{"[.-0]", "[/]", false},
		{"[.-0]", ".", true},
		{"[.-0]", "[^.-/]", true},
		{"[z-a]", "?", false},
		{"[^z-a]", "?", true},
		{"[a-fc-z]", "[^a-z]", false},
		{"[^􏿿]", "[􏿿]", false},
		{"[^b-da-c]", "[a-d]", false},
		{"a*", "?", true},
		{"?*?*?*x", "y*y*y", false},
		{"?*?*?*x", "y*y*y*", true},
	} {
		a, b := newGlob(test.a), newGlob(test.b)
		if got, back := a.meets(&b), b.meets(&a); got != test.want || back != test.want {
			t.Errorf("%s meets %s: got %t, and %t the other way round", test.a, test.b, got, back)
		}
	}
}

func FuzzGlobsThatShareANameMeet(f *testing.F) {
	for _, seed := range [][3]string{{"web-*", "*-1", "web-1"}, {"[a-c]?", "b[^d]", "be"}, {`\*`, "*", "*"}, {"[]a]", "]", "]"}, {"[^a-]", "[--0]", "-"}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, a, b, host string) {
		host = strings.ToLower(host)
		if checkGlob(a) != "" || checkGlob(b) != "" {
			return
		}
		one, other := newGlob(a), newGlob(b)
		for _, g := range []*glob{&one, &other} {
			if want, _ := path.Match(g.pattern, host); g.matches(host) != want {
				t.Errorf("%q matches %q: want %t", g.pattern, host, want)
			}
		}
		// Invalid bytes are one character to path.Match, and no host name.
		if strings.ToValidUTF8(a+b+host, "") != a+b+host || strings.Contains(host, "/") {
			return
		}
		if one.matches(host) && other.matches(host) && !one.meets(&other) {
			t.Errorf("%q and %q have %q in common", a, b, host)
		}
	})
}
