//go:build linux

package alerts

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/tools"
)

var (
	// clause begins a line of an expression that can be left out, with the deeper lines that follow it.
	clause = regexp.MustCompile(`^ +(and|or|unless|<=|>=|<|>) `)
	// matcher is one of a selector.
	matcher = regexp.MustCompile(`\b(netns|scope|reason|service_name|required|collector|cause|port)(=|!=|=~|!~)"[^"]*",?`)
	begin   = regexp.MustCompile(`(?m)^ +- (?:alert|record): (\S+)\n`)
	wait    = regexp.MustCompile(`(?m)^ +for: .*\n`)
	comment = regexp.MustCompile(`(?m)^ +#.*\n`)
)

// mutants returns the rules once for each clause, matcher and wait that they can lack, by what is missing.
func mutants(rules string) map[string]string {
	all := make(map[string]string)
	rules = comment.ReplaceAllString(rules, "")
	starts := append(begin.FindAllStringSubmatchIndex(rules, -1), []int{len(rules)})
	for n, at := range starts[:len(starts)-1] {
		name, rule := rules[at[2]:at[3]], rules[at[0]:starts[n+1][0]]
		expression, rest, _ := strings.Cut(rule, "        labels:\n")
		without := func(what, left string) {
			if rest != "" {
				left += "        labels:\n"
			}
			all[name+" without "+what] = rules[:at[0]] + left + rest + rules[starts[n+1][0]:]
		}
		for _, found := range matcher.FindAllString(expression, -1) {
			without(found, strings.ReplaceAll(strings.ReplaceAll(expression, found, ""), ",}", "}"))
		}
		for _, found := range wait.FindAllString(expression, -1) {
			without(strings.TrimSpace(found), strings.Replace(expression, found, "", 1))
		}
		lines := strings.SplitAfter(expression, "\n")
		for first, line := range lines {
			if !clause.MatchString(line) {
				continue
			}
			// A clause goes as far as the lines after it are deeper, or close what it opens.
			last := first + 1
			open := strings.Count(line, "(") - strings.Count(line, ")")
			for last < len(lines) && (open > 0 || depth(lines[last]) > depth(line)) {
				open += strings.Count(lines[last], "(") - strings.Count(lines[last], ")")
				last++
			}
			if open == 0 {
				without(strings.TrimSpace(line), strings.Join(lines[:first], "")+strings.Join(lines[last:], ""))
			}
		}
	}
	return all
}

// depth is how far a line is indented.
func depth(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// equivalent clauses show in no film: they save time only.
var equivalent = []string{"listen_exporter:troubled:read without and on (job, instance) last_over_time({__name__=~"}

func TestEachClauseOfARuleIsNeeded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes; test-all tries some clauses, and make test-rules MUTANTS=all each")
	}
	tools.Look(t, "promtool")
	only := cmp.Or(os.Getenv("LISTEN_EXPORTER_MUTANTS"), "ListenerDropping")
	for what, text := range mutants(tools.Read(t, mainRules)) {
		if only != "all" && !strings.HasPrefix(what, only) {
			continue
		}
		t.Run(what, func(t *testing.T) {
			if slices.ContainsFunc(equivalent, func(clause string) bool { return strings.HasPrefix(what, clause) }) {
				return
			}
			file := filepath.Join(t.TempDir(), mainRules)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			// Faults that show only in long films, or where scrapes fail, are rarer.
			short := slices.DeleteFunc(slices.Clone(films), func(f film) bool { return f.length > 60 })
			if engines[0].play(t, file, short, siblings[:1]) != nil ||
				engines[0].play(t, file, films, []sibling{siblings[0], siblings[2], siblings[3]}) != nil {
				return
			}
			t.Error("no film shows it")
		})
	}
}
