//go:build linux

package registry

import (
	"regexp"
	"strings"
	"testing"
)

// words returns all texts of at most n of the letters.
func words(letters []string, n int) []string {
	all := []string{""}
	for from := 0; n > 0; n-- {
		end := len(all)
		for _, word := range all[from:end] {
			for _, letter := range letters {
				all = append(all, word+letter)
			}
		}
		from = end
	}
	return all
}

func TestGlobsMatchAsTheirRegularExpressions(t *testing.T) {
	names := words([]string{"a", "é", "/", "*", "?"}, 4)
	for _, text := range words([]string{"a", "é", "/", "*", "?"}, 4) {
		for each, p := range map[string]pattern{".": {text: text}, "[^/]": unitPattern(text)} {
			want := regexp.MustCompile(`(?s)\A` + strings.NewReplacer(`\*`, each+"*", `\?`, each).Replace(regexp.QuoteMeta(text)) + `\z`)
			for _, name := range names {
				if got := p.matches(name); got != want.MatchString(name) {
					t.Fatalf("%q matches %q: %t, where ? is %s", text, name, got, each)
				}
			}
		}
	}
}
