//go:build linux

package completion_test

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// shells say how each shell completes lines, by a script that prints each line after "== ", and then a candidate a line. SCRIPT is the
// file with the completion, and LINES the quoted lines.
var shells = map[string]string{
	"bash": `
source SCRIPT
compopt() { :; } # only works while bash completes
for COMP_LINE in LINES; do
  COMP_POINT=${#COMP_LINE}
  _listen_exporter
  printf '%s\n' "== $COMP_LINE" "${COMPREPLY[@]}"
done`,
	"fish": `
source SCRIPT
for line in LINES
  echo "== $line"
  complete -C $line | string replace -r '\t.*' ''
end`,
	// zsh only completes for somebody who types.
	"zsh": `
zmodload zsh/zpty
zpty typist zsh -f -i
run() { zpty -w typist "$1"; }
run 'PS1= PROMPT2= ; autoload -Uz compinit; compinit -D -u; source SCRIPT'
run 'compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a words; builtin compadd -A words "$@"
  local word; for word in $words; do print -r -- "@$word@"; done
}'
run 'ended() { print -r -- "EN""DED"; comppostfuncs=(ended) }; comppostfuncs=(ended); bindkey "^I" complete-word; print REA""DY'
zpty -r -m typist seen '*READY*'
for line in LINES; do
  print -r -- "== $line"
  zpty -w -n typist $'\x15'"$line"$'\t'
  zpty -r -m typist seen '*ENDED*'
  print -r -- "$seen" | grep -o '@[^@]*@' | tr -d '@'
done
zpty -d typist`,
}

func TestEveryShellCompletesValuesAndOnlyTheFlagsOfACommand(t *testing.T) {
	for shell, driver := range shells {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not on the PATH", shell)
			}
			code, script, stderr := program.Run(t, "--completion-script-"+shell)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			want := map[string]string{
				"":                              "audit check help lease list serve",
				"l":                             "lease list",
				"list --format=":                "json prometheus registry table",
				"list --format=t":               "table",
				"list 22 --wa":                  "--watch",
				"list --format ":                "json prometheus registry table",
				"audit --format=":               "json sarif text",
				"--log.level=":                  "debug error info warn",
				"--log.level=debug list --form": "--format",
				"--log.level debug aud":         "audit",
				"list --state=mi":               "missing",
				"list --state=ok,u":             "unregistered",
				"list --collector.scope-exclude=loopback,p": "private public",
				"audit --co":                 "--collector.holder --collector.max-ports --collector.netns --collector.source",
				"lease --f":                  "--format",
				"lease --proto=":             "tcp udp",
				"lease --web.":               "",
				"lease --team=ci -- basenam": "basename",
				"check --l":                  "--log.format --log.level",
				"check --web.":               "",
				"list --web.":                "",
				"--web.p":                    "--web.page",
				"serve --web.t":              "--web.telemetry-path",
				"list --completion":          "",
				"help au":                    "audit",
				"list --path.sysfs=/de":      "dev",
			}
			got := complete(t, path, driver, program.WriteFile(t, "completion", script), slices.Sorted(maps.Keys(want)))
			for line, words := range want {
				if diff := cmp.Diff(words, withoutNo(strings.Join(got[line], " "))); diff != "" {
					t.Errorf("%q (-want +got):\n%s", line, diff)
				}
			}
		})
	}
}

// withoutNo leaves out the --no- forms, which not every shell offers before one types them.
func withoutNo(words string) string {
	return strings.TrimSpace(regexp.MustCompile(`--no-\S+ ?`).ReplaceAllString(words, ""))
}

// complete returns the sorted candidates for lines: of a value only the last word of its list, however much of the line a shell repeats.
func complete(t *testing.T, path, driver, script string, lines []string) map[string][]string {
	t.Helper()
	const name = "listen_exporter "
	var words []string
	for _, line := range lines {
		words = append(words, "'"+name+line+"'")
	}
	driver = strings.NewReplacer("SCRIPT", script, "LINES", strings.Join(words, " ")).Replace(driver)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, program.WriteFile(t, "driver", driver))
	cmd.Env = append(cmd.Environ(), "HOME="+t.TempDir(), "TERM=dumb")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	all := make(map[string][]string)
	for _, answer := range strings.Split(string(output), "== "+name)[1:] {
		line, rest, _ := strings.Cut(answer, "\n")
		isValue := regexp.MustCompile(`=\S*$`).MatchString(line)
		for word := range strings.FieldsSeq(rest) {
			if isValue {
				word = strings.Trim(word[strings.LastIndexAny(word, "=,")+1:], "/")
			}
			all[line] = append(all[line], strings.TrimSuffix(word, "="))
		}
		slices.Sort(all[line])
		all[line] = slices.Compact(all[line])
	}
	return all
}

func TestTheScriptsNameWhatMadeThem(t *testing.T) {
	for shell := range shells {
		_, script, _ := program.Run(t, "--completion-script-"+shell)
		if want := fmt.Sprintf("Generated by listen_exporter --completion-script-%s.\n", shell); !strings.Contains(script, want) {
			t.Errorf("%s: no %q", shell, want)
		}
	}
}
